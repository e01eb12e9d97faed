"""One driver at a time, and only where a manifest is safe."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import anyio
import pytest

from packtrain._errors import ManifestError
from packtrain._io.lock import file_system, hold, holder
from packtrain._manifest.sqlite import open_sqlite

RECORDER = Path(__file__).with_name("recorder.py")
MOUNT = "36 25 {major}:{minor} / /mnt rw,relatime shared:1 - {kind} host:/export rw\n"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "a" / "state"


def mounted(tmp_path: Path, kind: str) -> Path:
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    other = MOUNT.format(major=0, minor=9999, kind="nfs4")
    mounts.write_text(other + MOUNT.format(major=os.major(device), minor=os.minor(device), kind=kind))
    return mounts


async def test_second_process_gets_the_name_of_the_holder(state: Path) -> None:
    """The second start ends at once and names process, host, time and command; kill -9 frees the directory."""
    path = state / "manifest.db"
    command = [sys.executable, str(RECORDER), str(path)]
    async with await anyio.open_process(command, stderr=None) as process:
        assert process.stdout is not None
        await process.stdout.receive()
        with pytest.raises(ManifestError, match=rf"in use by process {process.pid} on .* since 2.*Z .*recorder\.py"):
            with anyio.fail_after(100):
                async with open_sqlite(path):
                    pass
        process.kill()
    async with open_sqlite(path) as manifest:
        assert len(await manifest.runs()) == 1


async def test_second_handle_is_refused(state: Path) -> None:
    """The same process does not get in twice either; the first handle does not notice."""
    async with open_sqlite(state / "manifest.db") as manifest:
        with pytest.raises(ManifestError, match=f"in use by process {os.getpid()} "):
            async with open_sqlite(state / "manifest.db"):
                pass
        assert await manifest.runs() == []


async def test_two_hundred_starts_during_a_run(state: Path) -> None:
    """Each of them is refused by name, and the driver goes on."""
    path = state / "manifest.db"
    refused = 0

    async def start() -> None:
        nonlocal refused
        with pytest.raises(ManifestError, match=f"in use by process {os.getpid()} "):
            async with open_sqlite(path):
                pass
        refused += 1

    async with open_sqlite(path) as manifest:
        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(start)
        assert refused == 200
        assert await manifest.runs() == []


async def test_of_many_starts_at_once_one_drives(state: Path) -> None:
    """Also at the first start, which makes the manifest."""
    path, starts = state / "manifest.db", 20
    over, ended = anyio.Event(), []

    async def start() -> None:
        try:
            async with open_sqlite(path) as manifest:
                ended.append(manifest.instance)
                if len(ended) < starts:
                    await over.wait()
        except ManifestError:
            ended.append("refused")
        if len(ended) == starts:
            over.set()

    async with anyio.create_task_group() as tasks:
        for _ in range(starts):
            tasks.start_soon(start)
    assert ended.count("refused") == starts - 1


def test_holder_without_a_name(state: Path) -> None:
    """A lock file that says nothing yet does not hide that the directory is held."""
    with hold(state):
        (state / "lock").write_bytes(b"")
        with pytest.raises(ManifestError, match="in use by another process"), hold(state):
            pass


def test_holder_is_known_to_everybody(state: Path) -> None:
    """Anybody may ask who drives; asking neither takes the directory nor makes anything."""
    assert holder(state) is None
    assert not state.exists()
    with hold(state):
        assert str(holder(state)).startswith(f"process {os.getpid()} on ")
        with pytest.raises(ManifestError, match="in use by process"), hold(state):
            pass
    assert holder(state) is None


def test_asking_does_not_turn_a_driver_away(state: Path) -> None:
    """A driver that starts while others ask for the holder gets in."""
    with hold(state):
        pass
    asking = threading.Event()
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            holder(state)
            asking.set()

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        asking.wait()
        for _ in range(100):
            with hold(state):
                pass
    finally:
        done.set()
        asker.join()


def test_directory_is_made_private(state: Path) -> None:
    """A missing directory is made with mode 0700, and stays after the block."""
    with hold(state):
        assert state.stat().st_mode & 0o777 == 0o700
    with hold(state):
        pass


def test_symlink_is_refused(state: Path, tmp_path: Path) -> None:
    """A link could be led elsewhere between two starts."""
    state.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(state)
    with pytest.raises(ManifestError, match="is a link"), hold(link):
        pass


def test_lock_that_is_a_symlink_is_refused(state: Path, tmp_path: Path) -> None:
    """The lock is a file of ours, not one that somebody pointed it at."""
    state.mkdir(parents=True, mode=0o700)
    (state / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ManifestError, match="cannot be the state directory"), hold(state):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_file_in_its_place_is_refused(tmp_path: Path) -> None:
    """A file is no directory."""
    (tmp_path / "file").touch()
    with pytest.raises(ManifestError, match="no directory"), hold(tmp_path / "file"):
        pass
    with pytest.raises(ManifestError, match="cannot be the state directory"), hold(tmp_path / "file" / "state"):
        pass


def test_directory_open_to_others_is_refused(state: Path) -> None:
    """Where others may write, they may exchange the manifest."""
    state.mkdir(parents=True)
    state.chmod(0o770)
    with pytest.raises(ManifestError, match="others may write there"), hold(state):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_directory_of_somebody_else_is_refused(state: Path) -> None:
    """The state directory belongs to who drives."""
    state.mkdir(parents=True, mode=0o700)
    os.chown(state, 12345, -1)
    with pytest.raises(ManifestError, match="another user"), hold(state):
        pass


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "lustre", "9p", "fuse", "fuse.sshfs", "fuse.s3fs"])
def test_network_file_system_is_refused(state: Path, tmp_path: Path, kind: str) -> None:
    """Locks and syncs of network file systems do not promise enough; the message says what to do."""
    with (
        pytest.raises(ManifestError, match="on a network file system"),
        hold(state, mounts=mounted(tmp_path, kind)),
    ):
        pass
    assert not (state / "lock").exists()


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "overlay", "tmpfs", "fuseblk"])
def test_local_file_system_is_taken(state: Path, tmp_path: Path, kind: str) -> None:
    """Local ones do, and so does a system without a list of mounts."""
    with hold(state, mounts=mounted(tmp_path, kind)):
        pass
    with hold(state, mounts=tmp_path / "missing"):
        pass


def test_file_system_of_this_machine() -> None:
    """The real list of mounts is understood."""
    mountinfo = Path("/proc/self/mountinfo")
    assert file_system(Path("/proc").stat().st_dev, mountinfo.read_text()) == "proc"
    assert file_system(os.makedev(4095, 4095), mountinfo.read_text()) is None
