"""The examples for other languages and tools, against a server of this process."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fuserank.engine.engine import load
from fuserank.errors import BundleError

ROOT = Path(__file__).parents[2]
NODE = ROOT / "examples/node"

# What npm says where no registry can be reached.
NO_REGISTRY = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENOTCACHED", "ECONNRESET")


def run(command, *, cwd=ROOT, timeout_s=60.0, **environment):
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.fixture(scope="module")
def node_example(tmp_path_factory):
    """The example with its packages, apart from the checkout."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("npm and node are not in PATH")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "recommend.js"):
        shutil.copy(NODE / name, folder)
    install = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = run(install, cwd=folder, timeout_s=300.0)
    if done.returncode != 0 and any(code in done.stderr for code in NO_REGISTRY):
        pytest.skip("no npm registry can be reached")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def ask_from_node(node_example, serve):
    address = serve()

    def ask(*users):
        command = ["node", "recommend.js", address, *users]
        return run(command, cwd=node_example, PROTO=str(ROOT / "proto"))

    return ask


@pytest.mark.e2e
def test_node_asks_by_calls_and_over_a_stream(ask_from_node):
    done = ask_from_node("42", "7")
    assert done.returncode == 0, done.stderr
    best = "0 10.000, 1 9.500, 2 9.000, 3 8.500, 4 8.000"
    asked = [f"42 (SERVED_AS_KNOWN): {best}", f"7 (SERVED_AS_COLD): {best}"]
    assert done.stdout.splitlines() == asked * 2  # once by calls, once over a stream


@pytest.mark.e2e
def test_node_sees_the_status_of_an_error(ask_from_node, engine):
    def refuse():
        raise BundleError("no such thing")

    engine.before = refuse
    done = ask_from_node("42")
    assert done.returncode == 1
    assert done.stderr.strip() == "9 FAILED_PRECONDITION: no such thing"


def messages(text):
    """Read JSON documents that follow each other."""
    decoder, found = json.JSONDecoder(), []
    while text := text.lstrip():
        message, end = decoder.raw_decode(text)
        found.append(message)
        text = text[end:]
    return found


@pytest.fixture
def buf():
    """The PATH that has buf, which the environment's own scripts are part of."""
    scripts = Path(sys.executable).parent
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    if shutil.which("buf", path=path) is None:
        pytest.skip("buf is not in PATH: pip install buf-bin")
    return path


def test_buf_curl_asks_by_reflection(buf, serve, tmp_path):
    script = ROOT / "examples/buf_curl.sh"
    done = run([script, serve()], PATH=buf, XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    health, info, recommended, *streamed = messages(done.stdout)
    assert health == {"status": "SERVING"}
    assert info["bundleInfo"]["name"] == "films"
    found = recommended["recommendation"]
    assert found["itemIds"] == ["0", "1", "2", "3", "4"]
    assert found["scores"] == [10, 9.5, 9, 8.5, 8]
    assert found["servedAs"] == "SERVED_AS_KNOWN"
    assert found["attributes"][0]["title"] == "Film 0 é"
    of = {reply["id"]: reply["response"]["recommendation"]["itemIds"] for reply in streamed}
    assert of == {"1": ["0", "1"], "2": ["0", "1"]}


@pytest.mark.e2e
def test_what_the_readme_says_of_any_client_works(
    buf, node_example, start_server, on_loop, tiny_bundle
):
    server, address = start_server()
    on_loop(server.load(lambda: load(tiny_bundle.path, device="cpu", threads=1)))
    readme = (ROOT / "README.md").read_text()
    block = readme.split("the Open Inference Protocol beside its own.", 1)[1].split("```")[1]
    install, *commands = block.strip().splitlines()
    assert install.startswith("pip install ")
    assert len(commands) == 4
    printed = []
    for line in commands:
        # The packages of the example are installed beside a copy of it.
        command = line.replace("npm --prefix examples/node ci && ", "")
        command = command.replace("examples/node", str(node_example))
        command = command.replace("localhost:8001", address)
        done = run(["bash", "-c", command], PATH=buf, PROTO=str(ROOT / "proto"))
        assert done.returncode == 0, (line, done.stderr)
        printed.append(done.stdout)
    health, methods, triton, node = printed
    assert json.loads(health) == {"status": "SERVING"}
    assert "fuserank.v1.RecommenderService/Recommend" in methods.split()
    assert "user_id: BYTES" in triton
    assert "42 (SERVED_AS_" in node


def test_the_api_has_no_lint_and_breaks_nobody(buf, tmp_path):
    for command in (["lint"], ["breaking", "--against", "proto/released.binpb"]):
        done = run(["buf", *command], PATH=buf, XDG_CACHE_HOME=str(tmp_path))
        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_a_field_that_changes_its_number_is_a_break(buf, tmp_path):
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    changed = tmp_path / "proto/fuserank/v1/recommender.proto"
    before = "repeated string item_ids = 1;"
    assert before in changed.read_text()
    changed.write_text(changed.read_text().replace(before, "repeated string item_ids = 100;"))
    command = ["buf", "breaking", "--against", "proto/released.binpb"]
    done = run(command, cwd=tmp_path, PATH=buf, XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode != 0
    assert "item_ids" in done.stdout
