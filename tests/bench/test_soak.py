import asyncio
import dataclasses

import numpy as np
import pytest

import fuserank
from fuserank.bench.soak import MemorySample, SoakConfig, SoakReport, _is_flat, soak
from fuserank.bench.soak_calls import mixed_calls
from fuserank.bench.synthetic import SyntheticItems, synthetic_bundle
from fuserank.errors import ConfigError, DataError, FuserankError

# Allowed growth is left wide: seconds say whether it works, not whether memory is flat.
SHORT = {"seconds": 3.0, "warm_s": 0.5, "sample_s": 0.1, "callers": 2, "items": 500}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    items = SyntheticItems(n_items=500, width=64)
    return synthetic_bundle(tmp_path_factory.mktemp("soak") / "bundle", items)


def test_every_kind_is_called_and_none_fails(bundle, tmp_path):
    report = soak(bundle, SoakConfig(**SHORT, max_growth_mib=1e6, processes=1), command="it")
    assert report.failures == {}
    assert len(report.calls) == 10
    assert min(report.calls.values()) > 0
    assert [s.second for s in report.samples] == sorted(s.second for s in report.samples)
    assert report.samples[-1].calls <= sum(report.calls.values())
    report.save(tmp_path / "soak.json")
    assert SoakReport.load(tmp_path / "soak.json") == report


def test_growth_beyond_what_is_allowed_is_not_flat(bundle, monkeypatch):
    held = iter(range(1_000_000))
    monkeypatch.setattr("fuserank.bench.soak._growth", lambda *_: next(held) + 20.0)
    assert not soak(bundle, SoakConfig(**SHORT, processes=1), command="it").flat


@pytest.mark.parametrize(("files", "flat"), [(98, True), (99, False)])
def test_the_first_fold_may_keep_its_files_open(files, flat):
    first = MemorySample(
        second=0.0, private_mib=100.0, resident_mib=200.0, files=90, threads=9, calls=0
    )
    samples = [first, first, dataclasses.replace(first, files=files)]
    assert _is_flat(samples, SoakConfig(callers=4, processes=1)) is flat


def test_calls_are_bounded(bundle):
    with pytest.raises(DataError, match="after the warm-up"):
        soak(bundle, SoakConfig(**SHORT | {"max_calls": 20}, processes=1), command="it")


@pytest.mark.parametrize(
    ("name", "value"), [("callers", 0), ("warm_s", 2000.0), ("sample_s", 0.0), ("max_calls", 0)]
)
def test_options_are_checked(name, value):
    with pytest.raises(ConfigError, match=name):
        SoakConfig(**{name: value})


class Direct:
    """An `AsyncClient` over an engine of this process, of which a test spoils one method."""

    bundle_info = None

    def __init__(self, engine):
        for name in ("upsert", "delete", "item", "recommend"):
            setattr(self, name, self._later(getattr(engine, name)))

    @staticmethod
    def _later(method):
        async def call(*args, **keywords):
            return method(*args, **keywords)

        return call


@pytest.fixture
def direct(bundle, tmp_path):
    with fuserank.load(bundle, "cpu", live=tmp_path / "live") as engine:
        yield Direct(engine)


def call(client, kind, times=1):
    async def run():
        kinds = mixed_calls(client, np.random.default_rng(0), items=500, caller=0)
        for _ in range(times):
            await kinds[kind]()

    asyncio.run(run())


async def nothing(*_args, **_keywords):
    """Acknowledge, and do nothing."""


def test_live_items_are_as_they_were_acknowledged(direct):
    for _ in range(3):
        call(direct, "upsert", 20)
        call(direct, "delete", 20)


def test_an_upsert_that_is_lost_is_a_failed_call(direct):
    direct.upsert = nothing
    with pytest.raises(FuserankError, match="does not hold"):
        call(direct, "upsert")


def test_an_item_with_what_it_had_before_is_a_failed_call(direct):
    call(direct, "upsert")
    item = direct.item

    async def stale(item_id):
        return dataclasses.replace(await item(item_id), attributes={"stamp": 2.0})

    direct.item = stale
    with pytest.raises(FuserankError, match="another one"):
        call(direct, "upsert")


def test_an_item_that_is_there_and_not_recommended_is_a_failed_call(direct):
    recommend = direct.recommend

    async def forgetful(user, k, *, allow):
        return await recommend(user, k, allow=[])

    direct.recommend = forgetful
    with pytest.raises(FuserankError, match="are recommended"):
        call(direct, "upsert")


def test_a_delete_that_is_lost_is_a_failed_call(direct):
    call(direct, "upsert")  # of the item that is deleted next
    direct.delete = nothing
    with pytest.raises(FuserankError, match="whose end was acknowledged is found"):
        call(direct, "delete")
