"""The commands, as a person would type them, on the real bundle."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fuserank.server.client.client import Client
from fuserank.server.process import serve_in_background

pytestmark = pytest.mark.e2e


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fuserank", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_recommend_prints_json_and_nothing_else(bundle):
    done = run("recommend", bundle, "user_id=42", "--k", 5, "--json")
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["item_ids"]) == 5


def test_inspect_and_verify(bundle):
    found = json.loads(run("inspect", bundle, "--json").stdout)
    assert found["manifest"]["scorer"]["kind"] == "additive"
    assert json.loads(run("verify", bundle, "--json").stdout)["n_items"] == 1682


def test_score_and_encode(bundle):
    scored = json.loads(
        run("score", bundle, "user_id=42", "--items", "50", "--items", "172", "--json").stdout
    )
    assert scored["item_ids"] == ["50", "172"]
    encoded = json.loads(run("encode", bundle, "a heist that goes wrong", "--json").stdout)
    assert len(encoded["vectors"][0]) == 384


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["user_id=42", "--k", "0"], "k: found 0"),
        (["age=old"], "age"),
        (["agee=3"], "did you mean 'age'"),
        (["profile="], "empty"),
        (["history=50,nope"], "nope"),
        (["age=nan"], "nan"),
        (["user_id=42", "--device", "cuda"], "cuda"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(bundle, arguments, message):
    done = run("recommend", bundle, *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_usage_errors_exit_with_2(bundle):
    assert run("recommend", bundle, "--no-such-option").returncode == 2


def test_damaged_bundles_are_refused_by_file(bundle, tmp_path):
    copy = tmp_path / "copy.bundle"
    shutil.copytree(bundle, copy)
    state = copy / "catalogue" / "states" / "item_state.npy"
    content = state.read_bytes()
    state.write_bytes(content[:-4])
    done = run("verify", copy)
    assert done.returncode == 1
    assert "truncated" in done.stderr
    state.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "altered" in (done := run("verify", copy)).stderr
    assert "item_state.npy" in done.stderr
    state.write_bytes(content)
    manifest = copy / "manifest.json"
    newer = json.loads(manifest.read_text()) | {"format_version": 99}
    manifest.write_text(json.dumps(newer))
    assert "upgrade fuserank" in run("verify", copy).stderr


def test_server_answers_as_the_engine_and_stops_cleanly(bundle):
    here = json.loads(run("recommend", bundle, "user_id=42", "--json").stdout)
    with serve_in_background(bundle) as address, Client(address) as client:
        there = client.recommend({"user_id": "42"}, k=10)
        assert list(there.item_ids) == here["item_ids"]
        assert client.bundle_info().n_items == 1682
        assert client.encode(["words"]).vectors.shape == (1, 384)
        many = client.recommend_many([{"user_id": "1"}, {"profile": "westerns"}], k=3)
        assert [found.served_as for found in many] == ["known", "cold"]


def test_busy_port_is_named(bundle):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("serve", bundle, "--port", port)
    assert done.returncode == 1
    assert str(port) in done.stderr


def test_missing_files_are_named(tmp_path: Path):
    assert "no such bundle" in run("verify", tmp_path / "none").stderr
    done = run("train", tmp_path / "none.toml", tmp_path, tmp_path / "out")
    assert done.returncode == 1
    assert "none.toml" in done.stderr
    assert not (tmp_path / "out").exists()


def test_example_runs(bundle):
    example = Path(__file__).parents[2] / "examples" / "recommend.py"
    command = [sys.executable, str(example), str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["known", "cold"]
