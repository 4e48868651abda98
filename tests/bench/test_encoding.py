import numpy as np
import pytest

from fuserank.bench import encoding
from fuserank.bench.encoding import CATALOGUE, ONE, EncodingReport
from fuserank.bench.encoding_systems import REFERENCE, System
from fuserank.bench.report import this_machine
from fuserank.errors import DataError

VECTORS = np.eye(2, dtype=np.float32)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(encoding, "_ROUNDS", dict.fromkeys(encoding.WORKS, 3))
    monkeypatch.setattr(encoding, "_CALLS", 2)


def system(name, vectors=VECTORS, calls=None):
    def encode(kind):
        def run(texts):
            if calls is not None:
                calls.append((name, kind))
            return vectors[: len(texts)]

        return run

    return System(name, encode("many"), encode("one"))


def test_systems_take_turns(tmp_path):
    calls = []
    systems = [system("ours", calls=calls), system(REFERENCE, 2 * VECTORS, calls)]
    rows = encoding.time_systems(CATALOGUE, ["a", "b"], systems, 6)
    assert calls == [("ours", "many"), (REFERENCE, "many")] * 4
    assert [row.system for row in rows] == ["ours", REFERENCE]
    assert rows[0].times_ours == 1
    assert rows[0].mean_cosine == pytest.approx(1)
    assert rows[0].tokens_per_s == pytest.approx(3 * rows[0].texts_per_s)
    assert rows[0].best_ms <= rows[0].median_ms
    report = EncodingReport(
        model="tiny",
        precision="fp32",
        threads=1,
        n_texts=2,
        padding_waste={CATALOGUE: 0.01},
        machine=this_machine(),
        versions={},
        command="test",
        not_installed=("another",),
        rows=tuple(rows),
    )
    report.save(tmp_path / "report.json")
    assert EncodingReport.load(tmp_path / "report.json") == report


def test_one_text_is_asked_for_as_soon_as_can_be():
    calls = []
    rows = encoding.time_systems(ONE, ["a"], [system("ours", calls=calls)], 3)
    assert calls == [("ours", "one")] * (1 + 3 * 2)
    assert rows[0].mean_cosine is None, "no reference ran"


def test_another_model_is_no_peer():
    systems = [system("other", VECTORS[::-1]), system(REFERENCE)]
    with pytest.raises(DataError, match=r"other: found a mean cosine of 0\.000"):
        encoding.time_systems(CATALOGUE, ["a", "b"], systems, 6)
