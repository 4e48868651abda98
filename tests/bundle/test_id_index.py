"""Rows are found by id, exactly, whatever the hashes do."""

from unittest import mock
from zlib import crc32

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.bundle.test_bundle import manifest

from fuserank.bundle import Bundle, IdIndex, Strings, id_index, layout, write_bundle
from fuserank.errors import BundleIntegrityError, DataError

IDS = st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True, max_size=60)
ANYTHING = st.one_of(st.text(), st.text(st.characters(categories=["Cs"])), st.none(), st.integers())
HASHES = {
    "crc32": crc32,
    "always the same": lambda _: 0,
    "always the last slot": lambda _: 2**32 - 1,
    "by length": len,
    "by the first byte": lambda key: key[0] if key else 0,
}


def hashed_by(name):
    return mock.patch.object(id_index, "crc32", HASHES[name])


@given(ids=IDS, others=st.lists(ANYTHING), hashed=st.sampled_from(sorted(HASHES)))
@example(ids=[], others=[""], hashed="crc32")
@example(ids=["", "\0", "é", "e\u0301"], others=["\ud800", "e"], hashed="always the last slot")
def test_every_id_is_found_at_its_row_and_nothing_else_is(ids, others, hashed):
    with hashed_by(hashed):
        index = IdIndex.build(ids, "ids")
        assert [index[each] for each in ids] == list(range(len(ids)))
        assert list(index) == list(index.ids) == ids
        assert len(index) == len(ids)
        for other in others:
            row = ids.index(other) if other in ids else None
            assert index.find(other) == index.get(other) == row
            assert (other in index) == (row is not None)


def test_ids_of_one_hash_are_told_apart():
    assert crc32(b"plumless") == crc32(b"buckeroo")
    index = IdIndex.build(["plumless", "a", "buckeroo"], "ids")
    assert (index["plumless"], index["buckeroo"]) == (0, 2)
    assert "plumless" not in IdIndex.build(["buckeroo"], "ids")


def test_an_id_that_is_not_there_is_a_missing_key():
    with pytest.raises(KeyError, match="nobody"):
        IdIndex.build(["a"], "ids")["nobody"]


@pytest.mark.parametrize("hashed", HASHES)
def test_an_id_that_stands_there_twice_is_refused(hashed):
    ids = [*"abcdefgh", "Léon", *"ijkl", "Léon"]
    with (
        hashed_by(hashed),
        pytest.raises(DataError, match=r"^films: found id 'Léon' in rows 8 and 13, expected .*;"),
    ):
        IdIndex.build(ids, "films")


@given(IDS)
def test_the_slots_are_those_that_taking_the_next_free_one_in_turn_gives(ids):
    """What is computed for all at once is linear probing; the order within one hash is by row."""
    index = IdIndex.build(ids, "ids")
    n_slots = 1 << (2 * len(ids)).bit_length()
    expected = np.full(len(index.slots), -1)
    hashes = [crc32(each.encode()) for each in ids]
    for row in sorted(range(len(ids)), key=lambda row: (hashes[row] % n_slots, hashes[row])):
        at = hashes[row] % n_slots
        while expected[at] >= 0:
            at += 1
        expected[at] = row
    assert index.slots.tolist() == expected.tolist()
    assert index.slots[-1] == -1
    assert len(index.slots) > n_slots


def write(path, ids):
    with write_bundle(path) as writer:
        writer.add_ids(layout.ITEM_IDS, ids)
        writer.finish(manifest())
    return path


def test_an_index_is_mapped_as_it_was_written(tmp_path):
    ids = [f"film-{row}" for row in range(5000)]
    index = Bundle.open(write(tmp_path / "b", ids)).ids(layout.ITEM_IDS)
    assert isinstance(index.slots.base, np.memmap)
    assert list(index.items()) == list(zip(ids, range(5000), strict=True))
    assert Bundle.open(tmp_path / "b").has(layout.ITEM_IDS)


def test_the_same_ids_are_written_as_the_same_bytes(tmp_path):
    files = [
        (write(tmp_path / name, ["b", "a"]) / "catalogue/ids.slots.npy").read_bytes()
        for name in "xy"
    ]
    assert files[0] == files[1]


def test_a_damaged_index_is_named_when_the_bundle_is_opened(tmp_path):
    file = write(tmp_path / "b", ["a", "b"]) / "catalogue/ids.slots.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleIntegrityError, match=r"catalogue/ids.slots.npy: altered"):
        Bundle.open(tmp_path / "b")


def test_ids_without_an_index_are_refused(tmp_path):
    with write_bundle(tmp_path / "b") as writer:
        writer.add_strings(layout.ITEM_IDS, Strings.build(["a"]))
        writer.finish(manifest())
    with pytest.raises(BundleIntegrityError, match=r"ids.slots.npy: missing .*; export it again"):
        Bundle.open(tmp_path / "b").ids(layout.ITEM_IDS)


@pytest.mark.parametrize(
    "slots",
    [
        pytest.param(np.full(9, -1, np.int64), id="another dtype"),
        pytest.param(np.full((9, 1), -1, np.int32), id="another shape"),
        pytest.param(np.full(8, -1, np.int32), id="too few"),
        pytest.param(np.array([-1] * 8 + [0], np.int32), id="no empty slot at the end"),
        pytest.param(np.array([3] + [-1] * 8, np.int32), id="a row behind the last"),
        pytest.param(np.array([-2] + [-1] * 8, np.int32), id="a row before the first"),
    ],
)
def test_what_is_no_index_of_these_ids_is_refused(tmp_path, slots):
    with write_bundle(tmp_path / "b") as writer:
        writer.add_strings(layout.ITEM_IDS, Strings.build(["a", "b", "c"]))
        writer.add_array("catalogue/ids.slots.npy", slots)
        writer.finish(manifest())
    with pytest.raises(BundleIntegrityError, match=r"slots.npy: not the index of .*; export the"):
        Bundle.open(tmp_path / "b").ids(layout.ITEM_IDS)
