import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fuserank.engine.engine import TextStats
from fuserank.engine.results import Timings
from fuserank.engine.text_graph import TokenCounts
from fuserank.engine.vector_cache import CacheInfo
from fuserank.server.monitoring.metrics import OTHER, REJECTIONS, STAGES, Metrics


def samples(metrics):
    """Return every sample, by name and by the values of its labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def stage(metrics, name, suffix="count"):
    return samples(metrics)[f"fuserank_stage_seconds_{suffix}", ("stage", name)]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_has_a_histogram_in_seconds(name):
    metrics = Metrics()
    metrics.observe_stage(name, 0.002)
    metrics.observe_stage(name, 0.004)
    assert stage(metrics, name) == 2
    assert stage(metrics, name, "sum") == pytest.approx(0.006)
    below = "fuserank_stage_seconds_bucket", ("le", "0.0025"), ("stage", name)
    assert samples(metrics)[below] == 1


def test_stages_that_did_not_run_are_not_observed():
    metrics = Metrics()
    metrics.observe_timings(Timings(scan_ms=2.0, total_ms=3.0), queue_seconds=0.5)
    counts = {name: stage(metrics, name) for name in STAGES}
    assert counts == dict.fromkeys(STAGES, 0) | {"scan": 1, "total": 1, "queue": 1}
    assert stage(metrics, "scan", "sum") == pytest.approx(0.002)
    assert stage(metrics, "queue", "sum") == pytest.approx(0.5)


def test_no_name_from_outside_makes_a_series():
    metrics = Metrics()
    before = samples(metrics).keys()
    for index in range(50):
        metrics.observe_stage(f"stage-{index}", 0.1)
        metrics.count_rejection(f"reason-{index}")
    after = samples(metrics)
    assert after.keys() == before
    assert stage(metrics, OTHER) == 50
    assert after["fuserank_rejections_total", ("reason", OTHER)] == 50


def test_every_reason_is_counted_apart():
    metrics = Metrics()
    for times, reason in enumerate(REJECTIONS, start=1):
        for _ in range(times):
            metrics.count_rejection(reason)
    found = samples(metrics)
    for times, reason in enumerate(REJECTIONS, start=1):
        assert found["fuserank_rejections_total", ("reason", reason)] == times


def test_batches_and_the_queue():
    metrics = Metrics()
    for size in (1, 7, 8):
        metrics.observe_batch(size)
    metrics.set_queue_depth(9)
    metrics.set_queue_depth(4)
    found = samples(metrics)
    assert found["fuserank_batch_size_count",] == 3
    assert found["fuserank_batch_size_sum",] == 16
    assert found["fuserank_batch_size_bucket", ("le", "8.0")] == 3
    assert found["fuserank_batch_size_bucket", ("le", "4.0")] == 1
    assert found["fuserank_queue_depth",] == 4


def test_two_servers_of_one_process_do_not_mix():
    one, other = Metrics(), Metrics()
    one.observe_batch(5)
    assert samples(other)["fuserank_batch_size_count",] == 0


def test_an_engine_is_read_when_somebody_asks(engine):
    metrics = Metrics()
    metrics.read_engine(lambda: None)
    assert not any(name.startswith("fuserank_bundle") for name, *_ in samples(metrics))
    stats = TextStats(
        cache=CacheInfo(hits=3, misses=2, max_size=9, size=1), tokens=TokenCounts(30, 40)
    )
    engine.text_stats = lambda: stats
    metrics.read_engine(lambda: engine)
    found = samples(metrics)
    [(_, *labels)] = [key for key in found if key[0] == "fuserank_bundle_info"]
    assert dict(labels) == {
        "name": "films",
        "version": "3",
        "model": "neumf",
        "scorer": "dot",
        "precision": "fp32",
        "device": "cpu",
    }
    assert found["fuserank_items",] == 20
    assert found["fuserank_text_cache_hits_total",] == 3
    assert found["fuserank_text_cache_misses_total",] == 2
    assert found["fuserank_text_cache_entries",] == 1
    assert found["fuserank_text_tokens_total",] == 40
    assert found["fuserank_text_padding_tokens_total",] == 10
    assert found["fuserank_text_padding_ratio",] == 0.25
    engine.text_stats = lambda: None  # a bundle without text
    assert not any(name.startswith("fuserank_text") for name, *_ in samples(metrics))


def test_the_names_are_those_of_what_is_rendered(engine):
    metrics = Metrics()
    engine.text_stats = lambda: TextStats(CacheInfo(0, 0, 0, 0), TokenCounts(0, 0))
    metrics.read_engine(lambda: engine)
    metrics.started.labels("s", "m").inc()
    metrics.handled.labels("s", "m", "OK").inc()
    metrics.handling_seconds.labels("s", "m").observe(1)
    rendered = {name for name, *_ in samples(metrics) if not name.endswith("_created")}
    assert rendered <= metrics.names()
    assert {name for name in metrics.names() if name.startswith("fuserank")} <= rendered
    assert "fuserank_nonsense" not in metrics.names()


def test_threads_lose_no_count():
    metrics = Metrics()

    def report():
        for _ in range(500):
            metrics.observe_batch(1)
            metrics.count_rejection("queue")

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = samples(metrics)
    assert found["fuserank_batch_size_count",] == 2000
    assert found["fuserank_rejections_total", ("reason", "queue")] == 2000
