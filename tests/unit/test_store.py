"""The store: where it is, its PIDs and ids, and who is alive."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest

from unspool.errors import InvalidID, StoreError
from unspool.store import (
    Store,
    boot_id,
    check_id,
    find_store,
    new_hex_id,
    new_record_id,
    os_process_start,
    time_of_record_id,
    writer_is_alive,
)


@pytest.fixture(autouse=True)
def no_store_in_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("UNSPOOL_STORE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


# --- finding ---------------------------------------------------------------------------------------------------------


def test_the_store_is_the_nearest_one_upward(tmp_path):
    deep = tmp_path / "repo" / "a" / "b"
    deep.mkdir(parents=True)
    assert find_store(cwd=deep).path == deep / ".unspool", "made in the working directory if there is none"
    (tmp_path / "repo" / ".unspool").mkdir()
    assert find_store(cwd=deep).path == tmp_path / "repo" / ".unspool"
    (deep / ".unspool").mkdir()
    assert find_store(cwd=deep).path == deep / ".unspool"


def test_the_search_ends_at_the_repository_root(tmp_path):
    deep = tmp_path / "outer" / "repo" / "a"
    deep.mkdir(parents=True)
    (tmp_path / "outer" / ".unspool").mkdir()
    (tmp_path / "outer" / "repo" / ".git").mkdir()
    assert find_store(cwd=deep).path == deep / ".unspool"


def test_the_search_ends_below_the_home_folder(tmp_path):
    (tmp_path / ".unspool").mkdir()
    work = tmp_path / "work"
    work.mkdir()
    assert find_store(cwd=work).path == work / ".unspool"
    assert find_store(cwd=tmp_path).path == tmp_path / ".unspool", "unless one works right there"


def test_a_name_given_wins_then_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSPOOL_STORE", str(tmp_path / "env"))
    assert find_store(tmp_path / "given").path == tmp_path / "given"
    assert find_store().path == tmp_path / "env"
    assert find_store("~/x").path == tmp_path / "x"
    monkeypatch.chdir(tmp_path)
    assert find_store("relative").path == tmp_path / "relative"


def test_finding_makes_nothing_and_ensure_makes_a_private_folder_git_does_not_see(tmp_path):
    store = find_store(tmp_path / "new" / ".unspool")
    assert not store.path.exists()
    assert store.ensure() is store
    store.ensure()
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(store.records.stat().st_mode) == 0o700
    assert (store.path / ".gitignore").read_text() == "*\n"


def test_a_store_that_cannot_be_made_is_store_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="--store"):
        Store(tmp_path / "file").ensure()
    with pytest.raises(StoreError):
        Store(tmp_path / "nowhere").next_pid()


# --- PIDs ------------------------------------------------------------------------------------------------------------


def test_pids_count_from_one_and_are_never_given_twice(tmp_path):
    store = Store(tmp_path).ensure()
    assert [store.next_pid() for _ in range(3)] == [1, 2, 3]
    given = []
    threads = [
        threading.Thread(target=lambda: given.extend(Store(tmp_path).next_pid() for _ in range(50))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == list(range(4, 404))
    assert stat.S_IMODE((tmp_path / "pid").stat().st_mode) == 0o600


@pytest.mark.parametrize("counter", [None, b"", b"junk", b"\x00" * 20, b"9" * 32])
def test_a_lost_counter_starts_above_every_recording(tmp_path, counter):
    store = Store(tmp_path).ensure()
    for name in ("7-20260101T000000-aaaa", "12-1772358300", "x", ".new-99-x", "99999999999999999999999-x"):
        (store.records / name).mkdir()
    if counter is not None:
        (tmp_path / "pid").write_bytes(counter)
    assert store.next_pid() == 13
    assert store.next_pid() == 14


def test_processes_count_together(tmp_path):
    Store(tmp_path).ensure()
    code = "import sys; from unspool.store import Store; print(*[Store(sys.argv[1]).next_pid() for _ in range(50)])"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    given = [int(word) for process in processes for word in process.communicate()[0].split()]
    assert sorted(given) == list(range(1, 151))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12 and later, about our own threads
def test_a_fork_during_the_count_does_not_keep_the_counter_locked(tmp_path, monkeypatch):
    store = Store(tmp_path).ensure()
    real = os.pwrite
    children = []

    def fork_meanwhile(*args):
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            os.close(write)
            os.read(read, 1)  # holds the descriptor until the parent is done
            os._exit(0)
        os.close(read)
        children.append((child, write))
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fork_meanwhile)
        store.next_pid()
    fd = os.open(tmp_path / "pid", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
    for child, write in children:
        os.close(write)
        os.waitpid(child, 0)


# --- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("good", ["a", "1", "12-20260101T000000-ab3x", "A.b_c-d", "x" * 128])
def test_ids_that_stay_in_their_folder(good):
    assert check_id("recording", good) == good


@pytest.mark.parametrize("bad", ["", ".", "..", "a..b", "/a", "a/b", "-a", "_a", "a b", "a\n", "é", "x" * 129, "a\x00"])
def test_ids_that_could_leave_it(bad):
    with pytest.raises(InvalidID):
        check_id("recording", bad)


def test_new_ids_look_as_documented():
    assert check_id("trace", new_hex_id())
    assert len(new_hex_id()) == 32
    pid, stamp, rest = new_record_id(7).split("-")
    assert (pid, len(stamp), len(rest)) == ("7", 15, 4)
    assert len({new_record_id(7) for _ in range(100)}) > 95


def test_the_time_of_an_id():
    now = datetime.now(UTC).replace(microsecond=0)
    assert abs((time_of_record_id(new_record_id(3)) - now).total_seconds()) <= 1
    assert time_of_record_id("3-1772358300") == datetime(2026, 3, 1, 9, 45, tzinfo=UTC)
    for other in ("", "x", "3", "x-1772358300", "3-99999999999999999999", "3-20261301T000000-aaaa", "3-٣"):
        assert time_of_record_id(other) is None or other == "3-٣"


# --- who is alive ----------------------------------------------------------------------------------------------------


def test_only_a_held_lock_is_a_living_writer(tmp_path):
    assert not writer_is_alive(tmp_path)
    fd = os.open(tmp_path / "writer.lock", os.O_RDWR | os.O_CREAT)
    assert not writer_is_alive(tmp_path)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert writer_is_alive(tmp_path)
    os.close(fd)
    assert not writer_is_alive(tmp_path)


def test_readers_that_ask_do_not_take_each_other_for_the_writer(tmp_path):
    fd = os.open(tmp_path / "writer.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_SH)
    assert not writer_is_alive(tmp_path)
    os.close(fd)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_process_is_known_by_its_start():
    assert os_process_start(os.getpid()) == os_process_start(os.getpid())
    assert isinstance(os_process_start(os.getpid()), int)
    assert os_process_start(2**22 + 1) is None
    assert boot_id() == boot_id()
