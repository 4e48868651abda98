"""The journal: what it acknowledged it has, or says that it has not."""

import sqlite3
import threading

import pytest

from fuserank.engine.live.change import Change
from fuserank.engine.live.journal import Journal
from fuserank.errors import JournalError, JournalWriteError


def upserted(item_id, text="{}", states=b"s"):
    return Change(item_id=item_id, attributes=text, fingerprint="f", states=states)


def deleted(item_id):
    return Change(item_id=item_id, attributes=None)


@pytest.fixture
def open_journal(tmp_path):
    opened = []

    def start(directory=tmp_path / "live"):
        opened.append(Journal(directory))
        return opened[-1]

    yield start
    for journal in opened:
        journal.close()


def write(journal, *changes):
    return journal.write(lambda: changes)


def read(journal, after=0):
    return [change for part in journal.changes(after) for change in part]


def ids(journal, after=0):
    return [change.item_id for change in read(journal, after)]


def test_changes_come_back_in_order_as_they_were(open_journal):
    journal = open_journal()
    assert write(journal, upserted("a", '{"title": "Été"}'), upserted("b")) == [1, 2]
    assert write(journal, deleted("a"), upserted("c", states=b"\0" * 9)) == [3, 4]
    assert [(c.sequence, c.item_id, c.attributes) for c in read(journal)] == [
        (2, "b", "{}"),
        (3, "a", None),
        (4, "c", "{}"),
    ]
    assert read(journal, 3)[0].states == b"\0" * 9
    assert journal.deleted(2) == []
    assert journal.deleted(4) == ["a"]
    assert journal.last() == 4
    assert journal.change("a").attributes is None
    assert journal.change("z") is None


def test_many_changes_are_read_in_parts(open_journal):
    journal = open_journal()
    write(journal, *(upserted(f"{i}") for i in range(3000)))
    assert [len(part) for part in journal.changes(0)] == [1024, 1024, 952]
    assert ids(journal, 2998) == ["2998", "2999"]


def test_a_second_journal_of_the_directory_sees_the_same(open_journal):
    first, second = open_journal(), open_journal()
    version = second.version()
    assert second.version() == version
    write(first, upserted("a"))
    assert second.version() != version
    assert ids(second) == ["a"]
    assert first.identity == second.identity


def test_a_change_that_raises_leaves_nothing(open_journal):
    journal = open_journal()
    with pytest.raises(ZeroDivisionError):
        journal.write(lambda: [upserted("a"), 1 / 0])
    assert journal.last() == 0
    assert write(journal, upserted("b")) == [1]


def test_threads_write_one_after_the_other(open_journal):
    journals = [open_journal() for _ in range(3)]
    numbers = []

    def work(journal, name):
        for i in range(20):
            numbers.extend(write(journal, upserted(f"{name}{i}")))

    threads = [
        threading.Thread(target=work, args=(j, f"{at}:{n}:"))
        for at, j in enumerate(journals)
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 121))
    assert len(ids(journals[0])) == 120


def test_full_disk_takes_nothing_and_reads_go_on(open_journal):
    journal = open_journal()
    write(journal, upserted("a"))
    pages = journal._writer.execute("PRAGMA page_count").fetchone()[0]
    journal._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalWriteError, match=r"journal.sqlite3: database or disk is full"):
        write(journal, upserted("small"), upserted("large", states=b"x" * 100_000))
    assert ids(journal) == ["a"]
    journal._writer.execute("PRAGMA max_page_count = 1000000")
    assert write(journal, upserted("b")) == [2]


def test_a_journal_that_is_locked_elsewhere_says_so(open_journal, monkeypatch):
    monkeypatch.setattr("fuserank.engine.live.journal._BUSY_S", 0.05)
    journal = open_journal()
    other = sqlite3.connect(journal._path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalWriteError, match="locked"):
        write(journal, upserted("a"))
    other.execute("ROLLBACK")
    other.close()
    assert write(journal, upserted("a")) == [1]


def test_a_closed_journal_takes_nothing(open_journal):
    journal = open_journal()
    journal.close()
    with pytest.raises(JournalWriteError, match="closed"):
        write(journal, upserted("a"))


def test_another_database_is_left_alone(open_journal, tmp_path):
    (tmp_path / "live").mkdir()
    foreign = sqlite3.connect(tmp_path / "live" / "journal.sqlite3")
    foreign.execute("CREATE TABLE mine (x)")
    foreign.commit()
    foreign.close()
    with pytest.raises(JournalError, match="found another SQLite database"):
        open_journal()


def test_a_file_that_is_no_database_is_refused(open_journal, tmp_path):
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "journal.sqlite3").write_bytes(b"not a database" * 1000)
    with pytest.raises(JournalError, match=r"journal.sqlite3: damaged: file is not a database"):
        open_journal()


def test_a_journal_of_another_format_is_refused(open_journal):
    journal = open_journal()
    journal._writer.execute("PRAGMA user_version = 9")
    with pytest.raises(JournalError, match="found journal format 9, expected 1"):
        open_journal()


def test_a_directory_that_cannot_be_made_is_named(open_journal, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(JournalError, match="file/live: expected a directory"):
        open_journal(tmp_path / "file" / "live")


def test_attributes_that_were_altered_are_an_error(open_journal):
    journal = open_journal()
    write(journal, upserted("a", '{"x": 1}'), upserted("b"))
    journal._writer.execute("UPDATE items SET attributes = '{\"x\": 2}' WHERE item_id = 'a'")
    with pytest.raises(JournalError, match="change 1 is not what was written"):
        read(journal)
    with pytest.raises(JournalError, match="change 1"):
        journal.change("a")
    assert ids(journal, 1) == ["b"]


def test_states_that_were_altered_are_left_out(open_journal):
    journal = open_journal()
    write(journal, upserted("a", states=b"good"))
    journal._writer.execute("UPDATE items SET states = ?", (b"evil",))
    (change,) = read(journal)
    assert (change.attributes, change.states, change.fingerprint) == ("{}", None, None)


def test_a_mark_that_is_no_number_is_refused(open_journal, tmp_path):
    write(open_journal(), upserted("a"))
    (tmp_path / "live" / "acknowledged").write_text("many")
    with pytest.raises(JournalError, match="acknowledged: damaged"):
        open_journal()


def copy_of(journal, target):
    """Copy the files of an open journal, as a crash would leave them."""
    target.mkdir()
    for file in journal.directory.iterdir():
        if file.is_file() and not file.name.endswith("-shm"):
            (target / file.name).write_bytes(file.read_bytes())
    return target


def wal_of(directory):
    return directory / "journal.sqlite3-wal"


@pytest.fixture
def crashed(open_journal, tmp_path):
    """Return a function that copies a journal of ten acknowledged changes as a crash left it."""
    journal = open_journal()
    for i in range(10):
        write(journal, upserted(f"{i}", states=bytes([i]) * 5000))
    number = iter(range(1000))
    return lambda: copy_of(journal, tmp_path / f"crash{next(number)}")


def test_what_was_acknowledged_is_there_after_a_crash(open_journal, crashed):
    assert ids(open_journal(crashed())) == [f"{i}" for i in range(10)]


def test_a_torn_tail_that_was_never_acknowledged_is_dropped(open_journal, crashed):
    directory = crashed()
    with wal_of(directory).open("ab") as file:
        file.write(b"\x37" * 3000)
    assert ids(open_journal(directory)) == [f"{i}" for i in range(10)]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_a_log_that_lost_its_end_is_an_error_and_no_older_catalogue(open_journal, crashed, share):
    directory = crashed()
    content = wal_of(directory).read_bytes()
    wal_of(directory).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(JournalError, match=r"found changes up to \d, expected 10|damaged"):
        open_journal(directory)


def test_a_log_that_is_gone_is_an_error(open_journal, crashed):
    directory = crashed()
    wal_of(directory).unlink()
    with pytest.raises(JournalError, match="damaged"):
        open_journal(directory)


def test_the_remedy_of_the_error_works(open_journal, crashed):
    directory = crashed()
    content = wal_of(directory).read_bytes()
    wal_of(directory).write_bytes(content[: len(content) * 2 // 3])
    (directory / "acknowledged").unlink()
    found = ids(open_journal(directory))
    assert 0 < len(found) < 10
    assert found == [f"{i}" for i in range(len(found))]


def test_garbled_bytes_are_an_error_or_change_nothing(open_journal, crashed):
    """Wherever bytes of the log or the file are overwritten, no wrong item comes back."""
    expected = {f"{i}": bytes([i]) * 5000 for i in range(10)}
    journal = open_journal(crashed())
    journal._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = journal.directory
    n_errors = n_read = 0
    for number in range(40):
        directory = crashed() if number % 2 else copy_of(journal, whole.parent / f"file{number}")
        name = "journal.sqlite3-wal" if number % 2 else "journal.sqlite3"
        content = bytearray((directory / name).read_bytes())
        at = 32 + (number * 7919) % (len(content) - 64)
        content[at : at + 24] = b"\xa5" * 24
        (directory / name).write_bytes(content)
        try:
            found = read(open_journal(directory))
        except JournalError:
            n_errors += 1
            continue
        n_read += 1
        assert {change.item_id for change in found} == set(expected)
        for change in found:
            assert change.attributes == "{}"
            assert change.states in (None, expected[change.item_id])
    assert n_errors
    assert n_read
