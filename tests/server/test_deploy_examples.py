"""The examples of how to run a server say what is true of it."""

import configparser
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from fuserank.cli import main
from fuserank.server.config import ServerConfig
from fuserank.server.monitoring.metrics import Metrics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
NAMES = Metrics().names()
LABELS = {
    *("grpc_service", "grpc_method", "grpc_code", "stage", "reason", "le", "instance", "job"),
    *("name", "version", "model", "scorer", "precision", "device"),
}


def unit():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string((DEPLOY / "fuserank.service").read_text())
    return parser


def instructions():
    """Return the instructions of the container file, in order, each with its arguments."""
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [line.split(maxsplit=1) for line in lines if not line.startswith("#")]


def queries():
    board = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    alerts = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
    return [
        *(target["expr"] for panel in board["panels"] for target in panel.get("targets", ())),
        *(rule["expr"] for group in alerts["groups"] for rule in group["rules"]),
    ]


@pytest.fixture
def dry_run(tiny_bundle, tmp_path, monkeypatch, capsys):
    """Run a command line of an example with its file, on free ports, and return the options."""
    options = (DEPLOY / "server.toml").read_text()
    options = re.sub(r"^bundle = .*$", f'bundle = "{tiny_bundle.path}"', options, flags=re.M)
    file = tmp_path / "server.toml"
    file.write_text(re.sub(r"^port = .*$", "port = 0", options, flags=re.M))

    def run(arguments, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        given = [str(file) if a.endswith("server.toml") else a for a in arguments]
        assert main([*given, "--dry-run"]) == 0
        return tomllib.loads(capsys.readouterr().out)

    return run


def test_the_unit_starts_a_server_that_its_options_allow(dry_run):
    program, *arguments = shlex.split(unit()["Service"]["ExecStart"])
    assert program.endswith("/fuserank")
    options = dry_run(arguments)
    assert options["log-format"] == "json"
    assert options["host"] == options["http"]["host"] == "127.0.0.1"


def test_the_unit_waits_longer_than_a_server_drains():
    service = unit()["Service"]
    assert service["KillSignal"] == "SIGTERM"
    assert service["KillMode"] == "mixed"  # workers are told by their supervisor
    grace_s = tomllib.loads((DEPLOY / "server.toml").read_text())["grace-s"]
    assert float(service["TimeoutStopSec"]) > max(grace_s, ServerConfig().grace_s)


@pytest.mark.parametrize(
    ("directive", "value"),
    [
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("CapabilityBoundingSet", ""),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("SystemCallFilter", "@system-service"),
    ],
)
def test_the_unit_gives_no_more_rights_than_are_needed(directive, value):
    assert unit()["Service"][directive] == value


def test_the_unit_lets_kernels_be_compiled():
    assert "MemoryDenyWriteExecute" not in unit()["Service"]


def test_the_container_file_builds_in_one_stage_and_runs_in_another_as_nobody():
    found = instructions()
    assert [name for name, _ in found].count("FROM") == 2
    last = found[max(i for i, (name, _) in enumerate(found) if name == "FROM") :]
    users = [arguments for name, arguments in last if name == "USER"]
    assert users
    assert users[-1] not in ("root", "0")
    assert dict(last)["ENTRYPOINT"] == '["fuserank", "serve"]'


def test_the_container_file_copies_what_is_there():
    for name, arguments in instructions():
        if name == "COPY" and not arguments.startswith("--from"):
            *sources, _ = arguments.split()
            for source in sources:
                assert (ROOT / source).exists(), source


def test_the_environment_of_the_container_holds_options_of_the_server(dry_run, tiny_bundle):
    environment = dict(
        pair.split("=", 1)
        for name, arguments in instructions()
        if name == "ENV"
        for pair in shlex.split(arguments)
    )
    given = {name: value for name, value in environment.items() if name.startswith("FUSERANK_")}
    assert given.pop("FUSERANK_SERVE_BUNDLE") == "/bundle"
    options = dry_run(["serve", str(tiny_bundle.path), "--port", "0", "--http.port", "0"], **given)
    for name, value in given.items():
        path = name.removeprefix("FUSERANK_SERVE_").lower()
        found = (
            options["http"][path[5:]]
            if path.startswith("http_")
            else options[path.replace("_", "-")]
        )
        assert found == value


def test_the_container_is_watched_on_the_ports_it_has():
    found = dict(instructions())
    config = ServerConfig()
    assert found["EXPOSE"] == f"{config.port} {config.http.port}"
    assert f"http://127.0.0.1:{config.http.port}/healthz" in found["HEALTHCHECK"]


@pytest.mark.parametrize("query", queries())
def test_queries_name_what_is_measured(query):
    names = re.findall(r"\b((?:grpc_server|fuserank|process)_\w+)\b", query)
    assert names or query.startswith("up{")
    assert set(names) <= NAMES
    used = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", query)
    used += [
        label
        for group in re.findall(r"\bby \(([^)]*)\)", query)
        for label in group.replace(" ", "").split(",")
    ]
    assert set(used) <= LABELS
    assert query.count("(") == query.count(")")


def test_most_of_what_is_measured_is_on_the_dashboard():
    shown = {name for query in queries() for name in re.findall(r"\w+", query)}
    left_out = {name for name in NAMES if name.startswith(("fuserank_", "grpc_server_"))} - shown
    assert left_out <= {
        "grpc_server_handling_seconds_sum",
        "grpc_server_handling_seconds_count",
        "fuserank_stage_seconds_count",
    }


def test_the_panels_of_the_dashboard_do_not_overlap():
    board = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_scrape_reads_the_port_that_the_server_has():
    scrape = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    [job] = scrape["scrape_configs"]
    assert job["job_name"] == "fuserank"
    assert job.get("metrics_path", "/metrics") == "/metrics"
    config = ServerConfig().http
    assert job["static_configs"] == [{"targets": [f"{config.host}:{config.port}"]}]
    assert all((DEPLOY / name).is_file() for name in scrape["rule_files"])
