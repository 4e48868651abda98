from pathlib import Path

from fuserank.bench.readme import measured, replaced, scanned


def test_readme_shows_the_committed_results():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert "naive tiled" in readme
    assert "FAISS" in readme
    fresh = replaced(replaced(readme, "bench", measured()), "scan", scanned())
    assert fresh == readme, "run `python -m fuserank.bench.readme`"


def test_only_the_block_between_the_markers_changes():
    before = "a\n<!-- bench -->\nold\n<!-- /bench -->\nb\n"
    assert replaced(before, "bench", "new\n") == "a\n<!-- bench -->\nnew\n<!-- /bench -->\nb\n"
