import asyncio
import stat
import tempfile

import pytest

from fuserank.errors import BundleStateError, ConfigError
from fuserank.server.bundles.lineup import Lineup
from fuserank.server.workers import runtime_folder as module
from fuserank.server.workers.runtime_folder import Entry, RuntimeFolder, runtime_folder

ONE, OTHER = (
    Lineup(
        active=Entry(version=version, path=f"/bundles/{version}"),
        previous=Entry(version="0", path="/bundles/0"),
        candidates=(Entry(version="7", path='/bundles/"ü"'),),
    )
    for version in ("1", "2")
)


@pytest.fixture
def path():
    with runtime_folder() as made:
        yield made


def test_it_is_for_this_user_alone_and_goes_at_the_end():
    with runtime_folder() as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        RuntimeFolder(path).write(ONE)
    assert not path.exists()


def test_a_path_that_no_socket_can_have_is_refused(tmp_path, monkeypatch):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(ConfigError, match="TMPDIR: found"), runtime_folder():
        pass
    assert list(deep.iterdir()) == []


def test_no_folder_for_temporary_files_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="TMPDIR: no folder"), runtime_folder():
        pass


def test_what_was_written_is_read_and_the_first_to_begin_wins(path):
    folder = RuntimeFolder(path)
    assert folder.lineup() is None
    assert folder.begin(ONE) == ONE
    assert RuntimeFolder(path).begin(OTHER) == ONE
    folder.write(OTHER)
    assert RuntimeFolder(path).lineup() == OTHER
    assert [file.name for file in path.iterdir()] == ["lineup.json"]


def test_one_changes_at_a_time_and_gives_up_after_a_while(path, monkeypatch):
    async def run():
        one, other = RuntimeFolder(path), RuntimeFolder(path)
        entered = asyncio.Event()

        async def enter():
            async with other.changing():
                entered.set()

        async with one.changing():
            waiting = asyncio.create_task(enter())
            with monkeypatch.context() as patched:
                patched.setattr(module, "_CHANGES_S", 0.05)
                with pytest.raises(BundleStateError, match="another change is under way"):
                    async with RuntimeFolder(path).changing():
                        pass
            assert not entered.is_set()
        await asyncio.wait_for(waiting, 20)

    asyncio.run(run())


def test_a_second_load_is_refused_at_once(path):
    with (
        RuntimeFolder(path).loading(),
        pytest.raises(BundleStateError, match="another bundle is being loaded"),
        RuntimeFolder(path).loading(),
    ):
        pass
    with RuntimeFolder(path).loading():
        pass
