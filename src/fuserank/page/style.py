"""How a report looks."""

__all__ = ["STYLE"]

STYLE = """
:root {
  --page: #fcfcfa; --ink: #1d2126; --quiet: #5d656e; --rule: #dcdfe2; --track: #eceeef;
  --c0: #2563a8; --c1: #bd4d26; --c2: #1f7a5c; --c3: #8450a8; --c4: #8f6400; --c5: #52606d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15181b; --ink: #e6e8ea; --quiet: #a0a8b0; --rule: #333a40; --track: #262c31;
    --c0: #7fb0ea; --c1: #f0936f; --c2: #6cc7a1; --c3: #c49ae6; --c4: #e0b45a; --c5: #aab4be;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 3rem 1.5rem 5rem; }
h1 { margin: 0; font-size: 1.75rem; line-height: 1.25; font-weight: 650; overflow-wrap: anywhere; }
header p { margin: .5rem 0 0; color: var(--quiet); max-width: 44rem; overflow-wrap: anywhere; }
h2 { margin: 3rem 0 .75rem; font-size: 1.125rem; font-weight: 650; }
.parts { display: grid; gap: 2rem 3rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); }
.wide { overflow-x: auto; min-width: 0; }
.parts > .wide { grid-column: 1 / -1; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  font-size: .9375rem; }
caption { text-align: left; color: var(--quiet); font-size: .875rem; padding-bottom: .5rem; }
th, td { padding: .4rem 1.1rem .4rem 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--rule); font-weight: 400; }
th:last-child, td:last-child { padding-right: 0; }
th:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere;
  position: sticky; left: 0; background: var(--page); }
.parts > .wide th:first-child { min-width: 9rem; }
thead th { color: var(--quiet); font-size: .875rem; vertical-align: bottom; }
tbody th[scope=rowgroup] { padding-top: 1.1rem; font-weight: 600; }
tbody th, td { vertical-align: baseline; }
td .quiet { display: block; color: var(--quiet); font-size: .8125rem; line-height: 1.3; }
figure { margin: 0; min-width: 0; max-width: 30rem; }
figcaption { font-weight: 600; font-size: .9375rem; }
figure ul { list-style: none; margin: .35rem 0 .75rem; padding: 0; display: flex; flex-wrap: wrap;
  gap: .15rem 1.1rem; font-size: .875rem; color: var(--quiet); overflow-wrap: anywhere; }
figure li svg { width: 28px; height: 8px; margin-right: .4rem; vertical-align: middle; }
.plot { display: block; width: 100%; height: auto; }
.plot text { fill: var(--quiet); font-size: 11px; font-variant-numeric: tabular-nums; }
.plot .label { fill: var(--ink); font-size: 12px; }
.grid { stroke: var(--rule); fill: none; }
.diagonal { stroke: var(--quiet); stroke-dasharray: 1 4; stroke-linecap: round; fill: none; }
.line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linecap: round;
  stroke-linejoin: round; }
.dot { fill: var(--c); stroke: var(--page); stroke-width: 1; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); }
.c3 { --c: var(--c3); } .c4 { --c: var(--c4); } .c5 { --c: var(--c5); }
.d1 { stroke-dasharray: 7 4; } .d2 { stroke-dasharray: 1 4; } .d3 { stroke-dasharray: 8 4 1 4; }
.bar { display: block; width: 100%; min-width: 8rem; height: .75rem; }
td:has(> .bar) { width: 60%; }
.track { fill: var(--track); } .fill { fill: var(--c0); }
details { margin-top: .75rem; font-size: .875rem; }
summary { color: var(--quiet); cursor: pointer; }
details table { font-size: .8125rem; }
:focus-visible { outline: 2px solid var(--c0); outline-offset: 2px; }
"""
