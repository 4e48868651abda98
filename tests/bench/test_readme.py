from pathlib import Path

from fuserank.bench.readme import measured, replaced


def test_readme_shows_the_committed_results():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert "naive tiled" in readme
    assert replaced(readme, measured()) == readme, "run `python -m fuserank.bench.readme`"


def test_only_the_block_between_the_markers_changes():
    before = "a\n<!-- bench -->\nold\n<!-- /bench -->\nb\n"
    assert replaced(before, "new\n") == "a\n<!-- bench -->\nnew\n<!-- /bench -->\nb\n"
