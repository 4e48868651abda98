"""A bundle is written whole, and every damage to it is named."""

import io
import json
from hashlib import sha256

import numpy as np
import pytest

from fuserank.bundle import Bundle, Manifest, Ragged, ScorerInfo, Strings, layout, write_bundle
from fuserank.errors import BundleFormatError, BundleIntegrityError
from fuserank.schema import Field, FittedField, Kind, Schema, Side

SCHEMA = Schema((FittedField(field=Field(name="v", side=Side.ITEM, kind=Kind.VECTOR), dim=2),))
VECTORS = np.arange(6, dtype=np.float32).reshape(3, 2)


def manifest(version=""):
    return Manifest(
        name="films",
        version=version,
        space="sha256:0",
        model="dot",
        n_items=3,
        n_users=0,
        title=None,
        threshold=0.5,
        scorer=ScorerInfo(kind="dot", full_multiply_adds=2, joint_multiply_adds=2),
        encoder=None,
        graphs={},
        producer={},
    )


def write(target, *, schema=None, version="", extra=b"x", quality=None):
    with write_bundle(target) as writer:
        writer.add_bytes(layout.SCHEMA, (schema or SCHEMA.to_json()).encode())
        writer.add_strings(layout.ITEM_IDS, Strings.build(["a", "", "日本"]))
        writer.add_ragged(layout.SEEN, Ragged.build([np.empty(0)], np.int32))
        writer.add_array(layout.item_vectors("v"), VECTORS[:, ::-1])
        mapped = writer.map_array(layout.item_state("s"), VECTORS.shape, "float32")
        mapped[:] = VECTORS
        writer.add_array(layout.item_state("none"), np.empty((0, 4), dtype=np.float32))
        writer.add_bytes("extra.npy", extra)
        if quality is not None:
            writer.add_bytes(layout.QUALITY, quality)
        writer.finish(manifest(version))
    return target


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "bundle")


def edit_manifest(path, change):
    data = json.loads((path / layout.MANIFEST).read_bytes())
    change(data)
    (path / layout.MANIFEST).write_text(json.dumps(data))


def test_what_was_written_is_read(path):
    bundle = Bundle.open(path)
    assert bundle.schema == SCHEMA
    assert list(bundle.strings(layout.ITEM_IDS)) == ["a", "", "日本"]
    assert len(bundle.ragged(layout.SEEN)) == 1
    assert bundle.ragged(layout.SEEN)[0].tolist() == []
    np.testing.assert_array_equal(bundle.array(layout.item_vectors("v")), VECTORS[:, ::-1])
    np.testing.assert_array_equal(bundle.array(layout.item_state("s")), VECTORS)
    assert bundle.array(layout.item_state("none")).shape == (0, 4)
    assert bundle.has(layout.ITEM_IDS)
    assert bundle.has("extra.npy")
    assert not bundle.has(layout.USER_IDS)


def test_a_bundle_may_be_silent_on_its_quality(path, tmp_path):
    assert Bundle.open(path).quality == {}
    told = write(tmp_path / "told", quality=b'{"gate": {"summary": "within"}}')
    assert Bundle.open(told).quality == {"gate": {"summary": "within"}}
    odd = write(tmp_path / "odd", quality=b"[1]")
    with pytest.raises(BundleFormatError, match=r"quality\.json: expected a JSON object, found"):
        _ = Bundle.open(odd).quality


def test_arrays_are_mapped_and_cannot_be_written_to(path):
    array = Bundle.open(path).array(layout.item_state("s"))
    assert isinstance(array.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_every_byte_is_checked_once_and_reported(path):
    seen = []
    bundle = Bundle.open(path, on_progress=seen.append)
    assert sum(seen) == sum(info.size_bytes for info in bundle.manifest.files.values())


def test_the_version_is_the_digest_of_the_content_unless_given(tmp_path):
    versions = [
        Bundle.open(write(tmp_path / name, extra=extra, version=version)).manifest.version
        for name, extra, version in (("a", b"x", ""), ("b", b"x", ""), ("c", b"y", ""))
    ]
    assert versions[0] == versions[1] != versions[2]
    assert Bundle.open(write(tmp_path / "d", version="7")).manifest.version == "7"


def test_copied_files_are_part_of_the_bundle_and_those_beside_them_are_not(tmp_path):
    for name in ("file", "other"):
        (tmp_path / name).write_text("x")
    with write_bundle(tmp_path / "bundle") as writer:
        writer.add_files(layout.ENCODER, [tmp_path / "file"])
        writer.finish(manifest())
    bundle = Bundle.open(tmp_path / "bundle")
    assert list(bundle.manifest.files) == ["encoder/file"]
    assert (bundle.file(layout.ENCODER) / "file").read_text() == "x"


def test_a_truncated_file_is_named(path):
    file = path / layout.item_state("s")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(
        BundleIntegrityError, match=r"states/s.npy: found 151 bytes, expected 152; .*truncated"
    ):
        Bundle.open(path)


def test_an_altered_byte_is_named(path):
    file = path / layout.item_state("s")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleIntegrityError, match=r"states/s.npy: altered; found sha256 .*export"):
        Bundle.open(path)


def test_a_missing_file_is_named(path):
    (path / layout.SCHEMA).unlink()
    with pytest.raises(BundleIntegrityError, match=r"schema.json: missing; export the bundle"):
        Bundle.open(path)


def test_a_file_that_the_bundle_never_had_is_named(path):
    with pytest.raises(BundleIntegrityError, match=r"joint.onnx: missing from the bundle"):
        Bundle.open(path).file(layout.GRAPHS["joint"])


def test_a_missing_directory_and_one_without_manifest_are_no_bundles(tmp_path):
    with pytest.raises(BundleFormatError, match="nothing: no such bundle; expected a directory"):
        Bundle.open(tmp_path / "nothing")
    with pytest.raises(BundleFormatError, match=r"a directory without manifest.json"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("name", ["../outside", "absolute", "link"])
def test_a_manifest_cannot_name_files_outside(path, name):
    outside = path.parent / "outside"
    outside.write_bytes(b"secret")
    (path / "link").symlink_to(outside)
    entry = {"size_bytes": 6, "sha256": sha256(b"secret").hexdigest()}
    named = str(outside) if name == "absolute" else name
    edit_manifest(path, lambda data: data["files"].update({named: entry}))
    with pytest.raises(BundleIntegrityError, match="outside the bundle"):
        Bundle.open(path)


def test_a_schema_of_another_format_is_refused(tmp_path):
    path = write(tmp_path / "bundle", schema='{"format": 9, "fields": []}')
    with pytest.raises(BundleFormatError, match=r"schema.json: schema: found format 9, expected 1"):
        Bundle.open(path).schema  # noqa: B018


def npy(array, *, cut=0):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()[: -cut or None]


def npz():
    buffer = io.BytesIO()
    np.savez(buffer, a=VECTORS)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(npy(np.array([{"run": "code"}], dtype=object)), id="objects"),
        pytest.param(npy(VECTORS, cut=4), id="truncated before it was signed"),
        pytest.param(b"garbage", id="garbage"),
        pytest.param(b"", id="empty"),
        pytest.param(npz(), id="an archive"),
    ],
)
def test_what_is_no_plain_array_is_refused(tmp_path, content):
    bundle = Bundle.open(write(tmp_path / "bundle", extra=content))
    with pytest.raises(
        BundleIntegrityError, match=r"extra.npy: expected a NumPy array file, found"
    ):
        bundle.array("extra.npy")


def test_an_object_array_cannot_be_added(tmp_path):
    with (
        pytest.raises(ValueError, match="Object arrays cannot be saved"),
        write_bundle(tmp_path / "bundle") as writer,
    ):
        writer.add_array("a.npy", np.array([None]))
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_is_not_finished_leaves_nothing(tmp_path):
    with (
        pytest.raises(AssertionError, match="finish"),
        write_bundle(tmp_path / "bundle") as writer,
    ):
        writer.add_bytes(layout.SCHEMA, b"{}")
    assert list(tmp_path.iterdir()) == []


def interrupt(path, *, finished):
    with write_bundle(path) as writer:
        writer.add_bytes(layout.SCHEMA, b"{}")
        if finished:
            writer.finish(manifest())
        raise KeyboardInterrupt


@pytest.mark.parametrize("finished", [False, True])
def test_an_interrupted_export_leaves_the_older_bundle(path, finished):
    before = Bundle.open(path).manifest
    with pytest.raises(KeyboardInterrupt):
        interrupt(path, finished=finished)
    assert Bundle.open(path).manifest == before
    assert [entry.name for entry in path.parent.iterdir()] == ["bundle"]


def test_an_open_bundle_survives_its_replacement(path):
    bundle = Bundle.open(path)
    array = bundle.array(layout.item_state("s"))
    write(path, extra=b"new")
    np.testing.assert_array_equal(array, VECTORS)
