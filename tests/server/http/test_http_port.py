import asyncio
import json
import socket
import threading

import aiohttp
import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fuserank.errors import ConfigError, ServerError
from fuserank.server.http.config import HttpConfig
from fuserank.server.http.http_port import HttpPort
from fuserank.server.http.sources import HttpSources
from fuserank.server.monitoring.metrics import Metrics


@pytest.fixture
def page(open_port):
    return open_port()


FORTY_TWO = {"user": {"fields": {"user_id": {"stringValue": "42"}}}, "k": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": ""}, "http.host: found ''"),
        ({"host": "::1 "}, "http.host: found '::1 '"),
        ({"port": -2}, "http.port: found -2, expected 0 to 65535"),
        ({"port": 65_536}, "http.port: found 65536"),
    ],
)
def test_what_is_out_of_range_is_named(options, message):
    with pytest.raises(ConfigError, match=message):
        HttpConfig(**options)


def test_a_port_of_minus_one_opens_none(on_loop):
    async def start():
        return await HttpPort(HttpConfig(port=-1), None).start()

    assert on_loop(start()) is None


def test_a_busy_port_is_an_error_that_names_the_option(page, open_port):
    port = int(page.url.rsplit(":", 1)[1])
    with pytest.raises(ServerError, match=rf"127.0.0.1:{port}.*--http.port"):
        open_port(config=HttpConfig(port=port))


def test_a_stopped_port_refuses_connections(on_loop, open_port):
    async def start_and_stop():
        port = HttpPort(
            HttpConfig(port=0),
            HttpSources(metrics=Metrics(), recommender=None, ready=lambda: True),
        )
        address = await port.start()
        await port.stop()
        return address

    number = int(on_loop(start_and_stop()).rsplit(":", 1)[1])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", number), timeout=5)


def test_probes_tell_a_server_that_lives_from_one_that_serves(open_port):
    serving, loading = open_port(), open_port(loaded=False)
    assert [serving.get(path)[0] for path in ("/livez", "/healthz")] == [200, 200]
    assert [loading.get(path)[0] for path in ("/livez", "/healthz")] == [200, 503]
    status, _, body = loading.recommend(FORTY_TWO)
    assert (status, json.loads(body)["code"]) == (503, "UNAVAILABLE")
    assert loading.get("/api/info")[0] == 503


def test_metrics_are_in_the_text_format(page):
    status, headers, body = page.get("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE fuserank_stage_seconds histogram" in body


def test_what_belongs_to_the_loop_is_read_on_it(open_port, on_loop):
    async def thread():
        return threading.get_ident()

    class Where(Collector):
        def collect(self):
            yield GaugeMetricFamily("where", "A thread.", value=threading.get_ident())

    metrics = Metrics()
    metrics.add(Where())
    body = open_port(metrics=metrics).get("/metrics")[2]
    [found] = [line for line in body.splitlines() if line.startswith("where ")]
    assert float(found.split()[1]) == float(on_loop(thread()))
    assert "fuserank_queue_depth 0.0" in body.splitlines()


def test_info_describes_the_bundle_and_names_users(page):
    found = json.loads(page.get("/api/info")[2])
    assert found["bundleInfo"]["name"] == "films"
    assert [field["kind"] for field in found["bundleInfo"]["userFields"]] == ["id", "number"]
    assert found["users"] == [str(i) for i in range(7)]


def test_items_come_ranked_with_titles_probabilities_and_timings(page):
    status, headers, body = page.recommend(FORTY_TWO | {"includeAttributes": True})
    found = json.loads(body)["recommendation"]
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert found["itemIds"] == ["0", "1", "2"]
    assert found["scores"] == [10.0, 9.5, 9.0]
    assert found["probabilities"] == pytest.approx([0.99995, 0.99993, 0.99988], abs=1e-5)
    assert [item["title"] for item in found["attributes"]] == [f"Film {i} é" for i in range(3)]
    assert found["servedAs"] == "SERVED_AS_KNOWN"
    assert found["timings"]["scanMs"] == 0.5


def test_a_request_keeps_the_id_that_it_came_with(page):
    headers = page.recommend(FORTY_TWO, headers={"X-Request-ID": "r-1"})[1]
    assert headers["X-Request-ID"] == "r-1"
    others = [page.recommend(FORTY_TWO)[1]["X-Request-ID"] for _ in range(2)]
    assert all(others)
    assert len({"r-1", *others}) == 3


def test_requests_pass_the_checks_of_the_grpc_service(page):
    excluding = {"eligibility": {"exclude": ["0", "2"]}, "k": 2}
    assert json.loads(page.recommend(excluding)[2])["recommendation"]["itemIds"] == ["1", "3"]
    status, _, body = page.recommend({"k": 0})
    assert (status, json.loads(body)["message"]) == (400, "k: found 0, expected 1 to 200")
    status, _, body = page.recommend({"user": {"fields": {"flavour": {"stringValue": "x"}}}})
    assert (status, json.loads(body)["code"]) == (400, "INVALID_ARGUMENT")
    assert "no field 'flavour'" in json.loads(body)["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "the body is no RecommendRequest"),
        (b'{"k": "many"}', "the body is no RecommendRequest"),
        (b'{"colour": 1}', 'no field named "colour"'),
        (b'{"user": {"fields": {"age": {"numberValue": "\xff"}}}}', "the body is no"),
        (b'{"user":' * 2000, "the body is no RecommendRequest"),
        (b'{"k": 101}', "k: expected at most 100 here"),
    ],
)
def test_what_is_no_request_is_refused(page, body, message):
    status, _, found = page.post(
        "/api/recommend", data=body, headers={"Content-Type": "application/json"}
    )
    assert status == 400
    assert message in json.loads(found)["message"]


def test_bodies_are_limited_and_must_be_json(page):
    big = {"eligibility": {"exclude": ["x" * 1000] * 300}}
    assert page.recommend(big)[0] == 413
    form = page.post("/api/recommend", data=b"{}", headers={"Content-Type": "text/plain"})
    assert form[0] == 400
    assert page.get("/api/recommend")[0] == 405
    assert page.get("/../pyproject.toml")[0] == 404


def test_a_failure_inside_tells_a_caller_nothing(page, engine, caplog):
    engine.before = lambda: {}["a secret"]
    status, _, body = page.recommend(FORTY_TWO)
    assert status == 500
    assert "secret" not in body
    assert "KeyError" in caplog.text


@pytest.mark.parametrize("path", ["/", "/api/info", "/nowhere", "/metrics"])
def test_every_answer_forbids_foreign_content(page, path):
    headers = page.get(path)[1]
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_needs_nothing_from_elsewhere(page):
    _, headers, body = page.get("/")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    names = ("playground.css", "playground.js", "fields.js", "filters.js", "view.js")
    files = [page.get(f"/{name}") for name in names]
    assert [status for status, _, _ in files] == [200] * 5
    for text in (body, *(text for _, _, text in files)):
        assert "http://" not in text
        assert "https://" not in text
        assert "eval(" not in text
        assert "innerHTML" not in text
    assert " style=" not in body
    assert "onclick" not in body


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8002", "127.0.0.1.evil.example"])
def test_a_domain_that_points_at_this_machine_reaches_no_data(page, host):
    assert page.get("/api/info", headers={"Host": host})[0] == 403
    assert page.recommend(FORTY_TWO, headers={"Host": host})[0] == 403
    assert page.get("/metrics", headers={"Host": host})[0] == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "[::1]:8002", "[::1]"])
def test_names_of_this_machine_are_let_in(page, host):
    assert page.get("/api/info", headers={"Host": host})[0] == 200


def test_with_tokens_the_playground_needs_one_and_probes_do_not(open_port):
    page = open_port(authorised=lambda header: header == "Bearer right")
    assert [page.get(path)[0] for path in ("/", "/healthz", "/livez", "/metrics")] == [200] * 4
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert page.get("/api/info", headers=headers)[0] == 401
        assert page.recommend(FORTY_TWO, headers=headers)[0] == 401
    right = {"Authorization": "Bearer right"}
    assert page.get("/api/info", headers=right)[0] == 200
    assert page.recommend(FORTY_TWO, headers=right)[0] == 200


def test_on_a_network_users_are_named_to_those_with_a_token_only(open_port):
    everywhere = HttpConfig(host="0.0.0.0", port=0)
    for authorised, users in ((None, 0), (lambda _: True, 7)):
        page = open_port(config=everywhere, authorised=authorised)
        page.url = page.url.replace("0.0.0.0", "127.0.0.1")
        assert len(json.loads(page.get("/api/info")[2])["users"]) == users


def test_what_a_browser_no_longer_waits_for_is_not_computed(page, engine, on_loop):
    began, go_on = threading.Event(), threading.Event()
    engine.before = lambda: (began.set(), go_on.wait(20))

    async def counted(line):
        async with aiohttp.ClientSession() as session, asyncio.timeout(10):
            while True:
                async with session.get(f"{page.url}/metrics") as reply:
                    if line in (await reply.text()).splitlines():
                        return
                await asyncio.sleep(0.005)

    async def ask(user):
        fields = {"user_id": {"stringValue": user}}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{page.url}/api/recommend", json={"user": {"fields": fields}}) as reply,
        ):
            return reply.status

    async def leave():
        first = asyncio.create_task(ask("first"))
        await asyncio.to_thread(began.wait, 10)
        second = asyncio.create_task(ask("second"))
        await counted("fuserank_queue_depth 1.0")
        second.cancel()
        await counted('fuserank_rejections_total{reason="cancelled"} 1.0')
        go_on.set()
        assert await first == 200

    on_loop(leave())
    assert len(engine.users) == 1
