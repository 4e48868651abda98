// How things look on the page.

const find = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en");
const STAGES = [
  ["Waiting", "queueMs", "c5"], ["Tokenize", "tokenizeMs", "c4"], ["Encode", "encodeMs", "c1"],
  ["User model", "userGraphMs", "c3"], ["Scan", "scanMs", "c0"],
];

export function el(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export function showBundle(bundle) {
  document.title = `${bundle.name} – fuserank playground`;
  find("bundle").textContent = bundle.name;
  const facts = [
    ["version", bundle.version], ["model", `${bundle.model}, ${bundle.scorer}`],
    ["items", whole.format(bundle.itemCount)], ["users", whole.format(bundle.userCount)],
    ["encoder", bundle.encoder && `${bundle.encoder.split("/").at(-1)}, ${bundle.precision}`],
    ["on", bundle.device.toUpperCase()],
  ];
  find("facts").replaceChildren(...facts.filter(([, value]) => value)
    .map(([name, value]) => el("li", {}, `${name} `, el("b", {}, value))));
}

export function showProblem(message) {
  find("problem").hidden = !message;
  find("problem").textContent = message;
  find("answer").hidden = Boolean(message);
  if (message) find("summary").textContent = "";
}

export function showChips(list, items, remove) {
  list.replaceChildren(...items.map((item) => {
    const button = el("button", { type: "button" }, "×");
    button.setAttribute("aria-label", `Remove ${item.title}`);
    button.addEventListener("click", () => remove(item));
    return el("li", {}, el("span", { title: item.title }, item.title), button);
  }));
}

export function showAnswer(reply, bundle, elapsedMs, actions) {
  const found = reply.recommendation;
  const users = { SERVED_AS_KNOWN: "a known user", SERVED_AS_UNKNOWN: "an unknown user id",
    SERVED_AS_COLD: "a new user" };
  const count = found.itemIds.length;
  const parts = [`${whole.format(count)} ${count === 1 ? "item" : "items"}`,
    `for ${users[found.servedAs] ?? "a user"}`, `${found.plan} plan`];
  if (found.degraded) parts.push(`degraded: ${found.degradedReason}`);
  find("summary").textContent = parts.join(" · ");
  showTimings(found.timings, elapsedMs);
  find("nothing").hidden = count > 0;
  find("items").hidden = count === 0;
  const focused = document.activeElement?.dataset?.action;
  find("items").tBodies[0].replaceChildren(...found.itemIds.map((id, index) => row({
    id, index, bundle, actions, score: found.scores[index],
    probability: found.probabilities[index], attributes: found.attributes[index] ?? {},
  })));
  // Who uses the keyboard stays where they were; where that is gone, at the list.
  if (focused) (document.querySelector(`[data-action="${CSS.escape(focused)}"]`) ?? find("results")).focus();
}

function showTimings(timings, elapsedMs) {
  const stages = STAGES.map(([name, key, look]) => [name, timings[key] ?? 0, look]);
  const known = stages.reduce((sum, [, ms]) => sum + ms, 0);
  const all = timings.totalMs + (timings.queueMs ?? 0);
  stages.push(["Other", Math.max(all - known, 0), "c2"]);
  find("timings").hidden = false;
  find("timings").querySelector(".bar").replaceChildren(...stages.map(([, ms, look]) => {
    const part = el("i", { className: look });
    part.style.flexGrow = 1000 * ms; // less than 1 in all would not fill the bar
    return part;
  }));
  const entry = ([name, ms, look]) => el("div", { className: look }, el("dt", {}, name),
    el("dd", {}, `${ms.toFixed(ms < 10 ? 2 : 1)} ms`));
  // All of them, those that did not run too, so that nothing moves from answer to answer.
  find("stages").replaceChildren(...stages.map(entry));
  find("totals").replaceChildren(...[["Engine", timings.totalMs, "plain"],
    ["Page", elapsedMs, "plain"]].map(entry));
}

function row({ id, index, bundle, actions, score, probability, attributes }) {
  const title = String(attributes[bundle.title] ?? id);
  const details = Object.entries(attributes).sort(([one], [other]) => (one < other ? -1 : 1))
    .filter(([name, value]) => name !== bundle.title && String(value) !== id)
    .map(([, value]) => describe(value)).filter(Boolean).slice(0, 4);
  const name = el("th", { scope: "row" }, el("b", {}, title),
    el("small", {}, [...details, `id ${id}`].join(" · ")));
  const track = el("span", { className: "track" }, el("i"));
  track.setAttribute("aria-hidden", "true");
  track.firstChild.style.width = `${100 * probability}%`;
  const like = probability >= bundle.threshold;
  const chance = el("span", { className: like ? "like" : "" }, `${(100 * probability).toFixed(1)} %`);
  if (like) chance.title = `A like, from ${(100 * bundle.threshold).toFixed(0)} %`;
  const buttons = [["Hide", `Hide ${title}`, actions.hide]];
  if (actions.like) buttons.unshift(["Add to history", `Add ${title} to the history`, actions.like]);
  return el("tr", {}, el("td", { className: "rank" }, String(index + 1)), name,
    el("td", { className: "number score" }, score.toFixed(3)),
    el("td", { className: "chance" }, el("div", {}, track, chance)),
    el("td", {}, ...buttons.map(([text, label, act]) => {
      const button = el("button", { type: "button", className: "link" }, text);
      button.setAttribute("aria-label", label);
      button.dataset.action = `${text} ${id}`;
      button.addEventListener("click", () => act({ id, title }));
      return button;
    })));
}

function describe(value) {
  const text = Array.isArray(value) ? value.join(", ") : String(value ?? "");
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}
