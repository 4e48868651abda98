import contextlib
import socket
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from fuserank.cli import main
from fuserank.engine.providers import Device
from fuserank.server.config import ServerConfig
from fuserank.server.http.config import HttpConfig
from fuserank.server.preflight import as_toml, check
from fuserank.server.security.auth import AuthConfig
from fuserank.server.security.tls import TlsConfig

FREE = ServerConfig(port=0, http=HttpConfig(port=0))


@pytest.fixture
def busy_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def dry_run(tiny_bundle, capsys, monkeypatch):
    """Run ``serve --dry-run`` and return the exit code, the options in effect and the errors."""

    def run(*arguments, bundle=tiny_bundle.path, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(f"FUSERANK_SERVE_{name}", value)
        code = main(["serve", *([] if bundle is None else [str(bundle)]), "--dry-run", *arguments])
        out, err = capsys.readouterr()
        return code, tomllib.loads(out), err

    return run


def problems(bundle, config=FREE, device=Device.CPU, processes=1):
    return list(check(bundle, config, device, processes))


def test_where_all_is_well_there_are_no_problems(tiny_bundle):
    assert problems(tiny_bundle.path) == []


def test_everything_that_is_wrong_is_told_at_once(tmp_path, busy_port):
    config = ServerConfig(port=busy_port, http=HttpConfig(port=busy_port))
    bundle, port, http_port = problems(tmp_path / "none.bundle", config)
    assert "no such bundle" in bundle
    assert port.startswith(f"port: cannot listen on 127.0.0.1:{busy_port}")
    assert http_port.startswith(f"http.port: cannot listen on 127.0.0.1:{busy_port}")


def test_two_options_cannot_have_one_port(tiny_bundle, busy_port):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    [problem] = problems(tiny_bundle.path, ServerConfig(port=port, http=HttpConfig(port=port)))
    assert problem.startswith(f"http.port: cannot listen on 127.0.0.1:{port}")


def free_ports(count):
    """Return the first of ports in a row that were free just now."""
    for first in range(20_000, 60_000, 17):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise AssertionError("no free ports")


def test_the_http_port_of_every_process_is_checked(tiny_bundle):
    first = free_ports(3)
    config = ServerConfig(port=0, http=HttpConfig(port=first))
    with socket.create_server(("127.0.0.1", first + 2)):
        assert problems(tiny_bundle.path, config, processes=2) == []
        [problem] = problems(tiny_bundle.path, config, processes=3)
    assert problem.startswith(f"http.port: cannot listen on 127.0.0.1:{first + 2}")


def test_http_ports_that_run_into_the_grpc_port_or_out_of_range_are_problems(tiny_bundle):
    first = free_ports(2)
    config = ServerConfig(port=first + 1, http=HttpConfig(port=first))
    [problem] = problems(tiny_bundle.path, config, processes=2)
    assert problem.startswith(f"http.port: cannot listen on 127.0.0.1:{first + 1}")
    config = ServerConfig(port=0, http=HttpConfig(port=65_535))
    found = problems(tiny_bundle.path, config, processes=2)
    assert [problem for problem in found if "http.port: found 65536" in problem]


def test_a_dry_run_looks_at_the_ports_of_all_processes(dry_run):
    first = free_ports(2)
    with socket.create_server(("127.0.0.1", first + 1)):
        ports = ("--port", "0", "--http.port", str(first))
        assert dry_run(*ports)[0] == 0
        code, options, err = dry_run(*ports, "--processes", "2")
    assert (code, options["processes"]) == (1, 2)
    assert f"http.port: cannot listen on 127.0.0.1:{first + 1}" in err


def test_workers_need_a_folder_for_their_sockets(tiny_bundle, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert problems(tiny_bundle.path) == []
    [problem] = problems(tiny_bundle.path, processes=2)
    assert problem.startswith("TMPDIR: ")


def test_no_port_is_held_afterwards(tiny_bundle):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for _ in range(2):
        assert problems(tiny_bundle.path, ServerConfig(port=port, http=HttpConfig(port=-1))) == []


def test_an_address_of_another_machine_is_a_problem(tiny_bundle):
    [problem] = problems(
        tiny_bundle.path, ServerConfig(host="192.0.2.1", port=0, http=HttpConfig(port=-1))
    )
    assert problem.startswith("port: cannot listen on 192.0.2.1:0")


def test_files_of_tls_and_of_tokens_are_opened(tiny_bundle, tmp_path):
    @dataclass(frozen=True, kw_only=True)
    class Secured(ServerConfig):
        tls: TlsConfig
        auth: AuthConfig

    config = Secured(
        port=0,
        http=HttpConfig(port=-1),
        tls=TlsConfig(certificate=tmp_path / "no.pem", key=tmp_path / "no.key"),
        auth=AuthConfig(token_file=tmp_path / "no.tokens"),
    )
    tls, auth = problems(tiny_bundle.path, config)
    assert "no.pem cannot be read" in tls
    assert "no.tokens cannot be read" in auth


def test_a_damaged_file_of_the_bundle_is_found(make_bundle):
    bundle = make_bundle("dot")
    victim = next((bundle.path / "catalogue").glob("*.npy"))
    victim.write_bytes(victim.read_bytes()[:-1])
    [problem] = problems(bundle.path)
    assert victim.name in problem


def test_a_dry_run_prints_what_it_would_serve_with(dry_run, tiny_bundle):
    code, options, err = dry_run("--port", "0", "--http.port", "0", "--device", "cpu")
    assert (code, err) == (0, "")
    assert options["bundle"] == str(tiny_bundle.path)
    assert options["device"] == "cpu"
    assert options["http"] == {"host": "127.0.0.1", "port": 0}
    assert options["max-k"] == ServerConfig().max_k


def test_a_dry_run_that_finds_something_fails(dry_run, tmp_path):
    code, options, err = dry_run("--port", "0", "--http.port", "-1", bundle=tmp_path / "none")
    assert code == 1
    assert options["bundle"] == str(tmp_path / "none")
    assert "no such bundle" in err


def test_a_flag_goes_before_the_environment_and_that_before_the_file(dry_run, tmp_path):
    file = tmp_path / "server.toml"
    file.write_text("max-k = 1\nmax-batch = 2\nmax_items = 3\nport = 0\n[http]\nport = 0\n")
    given = ("--config", str(file), "--max-k", "11")
    code, options, _ = dry_run(*given, MAX_K="21", MAX_BATCH="22", HTTP_HOST="localhost")
    assert code == 0
    assert [options[name] for name in ("max-k", "max-batch", "max-items")] == [11, 22, 3]
    assert options["http"] == {"host": "localhost", "port": 0}


def test_the_file_can_be_named_by_the_environment(dry_run, tmp_path):
    file = tmp_path / "server.toml"
    file.write_text("port = 0\ngrace-s = 1.5\nhttp.port = -1\n")
    code, options, _ = dry_run(CONFIG=str(file))
    assert (code, options["grace-s"]) == (0, 1.5)


def test_what_is_printed_is_a_file_that_says_the_same(dry_run, tmp_path):
    first = dry_run("--port", "0", "--http.port", "-1", "--max-k", "7", "--grace-s", "0.5")[1]
    file = tmp_path / "server.toml"
    file.write_text(as_toml(first))
    code, again, _ = dry_run("--config", str(file), bundle=None)
    assert (code, again) == (0, first)


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("max-kk = 5\n", 2, "max-kk"),
        ("[http]\nprot = 5\n", 2, "prot"),
        ('max-k = "many"\n', 2, "many"),
        ("max-k = 0\n", 1, "max_k: found 0"),
        ("max-k = \n", 2, "TOML"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path, capsys, text, code, message, tiny_bundle):
    file = tmp_path / "server.toml"
    file.write_text(text)
    assert main(["serve", str(tiny_bundle.path), "--dry-run", "--config", str(file)]) == code
    out, err = capsys.readouterr()
    assert message in out + err


def test_a_file_that_is_not_there_is_an_error(tiny_bundle, capsys):
    assert main(["serve", str(tiny_bundle.path), "--config", "nowhere.toml"]) == 1
    assert "config: found no file nowhere.toml" in capsys.readouterr().err


@pytest.mark.parametrize(
    "value",
    ["", 'a "b" \\ c', "ü\n\t\x00\x7f", Path("/a b"), True, -3, 0.25, 1e300, ("x", "y"), [1, 2]],
)
def test_values_survive_a_file(value):
    [found] = tomllib.loads(as_toml({"one": value})).values()
    assert found == (
        str(value)
        if isinstance(value, Path)
        else list(value)
        if isinstance(value, tuple)
        else value
    )
