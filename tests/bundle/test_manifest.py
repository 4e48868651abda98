"""The manifest: round trip, and what is not one."""

import json

import pytest

from fuserank.bundle import (
    FORMAT_VERSION,
    EncoderInfo,
    FileInfo,
    GraphInfo,
    Manifest,
    ScorerInfo,
    ScorerKind,
)
from fuserank.errors import BundleFormatError
from fuserank.schema import TensorSpec

GRAPH = GraphInfo(
    inputs=(TensorSpec(name="user.age", dtype="float32", shape=("batch", 2)),),
    outputs=(TensorSpec(name="user_state", dtype="float32", shape=("batch", 8)),),
)
MANIFEST = Manifest(
    name="films",
    version="1",
    space="sha256:0",
    model="neumf",
    n_items=3,
    n_users=0,
    title=None,
    threshold=0.5,
    scorer=ScorerInfo(kind=ScorerKind.DOT, full_multiply_adds=10, joint_multiply_adds=2),
    encoder=EncoderInfo(model="m", dim=4, precision="int8", space="sha256:1"),
    graphs={"user": GRAPH},
    producer={"fuserank": "0.1.0"},
    files={"schema.json": FileInfo(size_bytes=2, sha256="ab")},
)


def altered(**changes):
    return json.dumps(json.loads(MANIFEST.to_json()) | changes).encode()


def test_round_trip():
    assert Manifest.from_json(MANIFEST.to_json(), "here") == MANIFEST


def test_the_json_is_for_people_too():
    assert MANIFEST.to_json().count(b"\n") > 20


@pytest.mark.parametrize(
    ("version", "remedy"),
    [(FORMAT_VERSION + 1, "upgrade fuserank"), (FORMAT_VERSION - 1, "export the bundle again")],
)
def test_another_format_version_is_refused_with_a_remedy(version, remedy):
    message = (
        f"^a/manifest.json: found bundle format {version}, expected {FORMAT_VERSION}; {remedy}"
    )
    with pytest.raises(BundleFormatError, match=message):
        Manifest.from_json(altered(format_version=version), "a/manifest.json")


def test_a_newer_format_is_recognised_whatever_else_it_holds():
    with pytest.raises(BundleFormatError, match="upgrade fuserank"):
        Manifest.from_json(b'{"format_version": 99, "everything": "else"}', "manifest.json")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", "Input data was truncated"),
        (b"no json", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `format_version`"),
        (b'{"format_version": "1"}', "Expected `int`, got `str`"),
        (b'{"format_version": %d}' % FORMAT_VERSION, "missing required field `name`"),
        (altered(n_items="3"), r"Expected `int`, got `str` - at `\$.n_items`"),
        (altered(scorer={"kind": "magic"}), "Invalid enum value 'magic'"),
        (altered(files={"a": 3}), "Expected `object`, got `int`"),
    ],
)
def test_what_is_no_manifest_is_refused(text, found):
    with pytest.raises(
        BundleFormatError,
        match=f"^m.json: expected the manifest of a fuserank bundle, found: .*{found}",
    ):
        Manifest.from_json(text, "m.json")
