"""Real processes, real faults: what `write_event` returned for is there afterwards."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from unspool.errors import RecorderClosed, StoreError
from unspool.events import RecordEvent, RecordEventType, RecordStatus, SyscallEventData
from unspool.recording import Recorder, RecordManager, RecordReader
from unspool.store import writer_is_alive

WRITER = Path(__file__).with_name("writer.py")
event = runpy.run_path(str(WRITER))["event"]


def start(base: Path, action: str, number: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, str(WRITER), str(base), action, str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def only_recording(base: Path) -> Path:
    (metadata,) = RecordManager(base).list_records()
    return base / metadata.record_id


# --- kill -9 ---------------------------------------------------------------------------------------------------------


def kill_at_a_random_moment(base: Path, rng: random.Random, action: str) -> None:
    process = start(base, action)
    assert process.stdout is not None
    printed = [process.stdout.readline()]
    killer = threading.Timer(rng.random() ** 3 * 0.25, process.kill)
    killer.start()
    printed += process.stdout.readlines()
    killer.join()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    acknowledged = {int(line) for line in printed}
    reader = RecordReader(only_recording(base))
    assert reader.metadata.status is RecordStatus.INTERRUPTED
    events = list(reader.events())
    numbers = [one.seq_num for one in events]
    assert numbers == list(range(1, len(numbers) + 1))
    assert acknowledged <= set(numbers)
    # More than one more can only be written by other threads that were not yet heard of.
    assert len(numbers) <= max(acknowledged) + (1 if action == "write_for_ever" else 4)
    assert [item for item in reader.damage if "torn" not in item.reason] == []
    for one in events:
        if one.context is not None:
            assert one.context.partial is None
            assert len(one.context.messages) == one.timestamp // 5 % 40
        else:
            assert one.syscall.args == {"number": one.timestamp}
            assert one.syscall.result == ("long " * 2000 if one.timestamp % 7 == 0 else one.timestamp)


@pytest.mark.parametrize("run", range(10))
def test_every_acknowledged_event_survives_kill_9(tmp_path, run):
    kill_at_a_random_moment(tmp_path, random.Random(run), "write_for_ever" if run % 2 else "threads_for_ever")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_acknowledged_event_survives_kill_9_a_hundred_times(tmp_path):
    rng = random.Random()
    for run in range(100):
        base = tmp_path / str(run)
        kill_at_a_random_moment(base, rng, "write_for_ever" if run % 2 else "threads_for_ever")
        shutil.rmtree(base)


def test_os_exit_loses_nothing(tmp_path):
    process = start(tmp_path, "exit_at_once")
    out, _ = process.communicate()
    assert process.returncode == 3
    reader = RecordReader(only_recording(tmp_path), strict=True)
    assert reader.event_count == len(out.split()) == 20
    assert reader.metadata.status is RecordStatus.INTERRUPTED


def write_until_refused(recorder: Recorder, pause_s: float = 0) -> None:
    for number in range(1, 2000):
        recorder.write_event(event(7 * number))
        time.sleep(pause_s)


# --- a full disk -----------------------------------------------------------------------------------------------------


def check_full(folder: Path, written: int, lost: int) -> None:
    raw = (folder / "events.jsonl").read_bytes()
    assert raw.endswith(b"\n"), "whole lines only"
    assert all(json.loads(line) for line in raw.splitlines())
    reader = RecordReader(folder, strict=True)
    assert reader.damage == []
    assert reader.event_count == written + 1
    assert reader.metadata.lost_events == lost
    assert reader.event(written + 1).syscall.args == {"number": 10_000}
    assert reader.metadata.status is RecordStatus.COMPLETED


@pytest.mark.parametrize("limit", [5_000, 5_001, 40_000, 41_234])
def test_at_the_limit_of_a_files_size_events_are_lost_whole_and_it_goes_on(tmp_path, limit):
    process = start(tmp_path, "limited", limit)
    out, _ = process.communicate()
    written, lost = map(int, out.split())
    check_full(only_recording(tmp_path), written, lost)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 128 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("cannot mount here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill_disk(disk: Path) -> None:
    with open(disk / "ballast", "wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(b"x" * 512)


def test_on_a_full_disk_events_are_lost_whole_and_it_goes_on_when_there_is_space(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 60_000)
    recorder = Recorder(small_disk / "records", 1, "x")
    written = lost = 0
    while lost < 5:
        try:
            recorder.write_event(event(written + 1))
            written += 1
        except StoreError:
            lost += 1
    began = time.perf_counter()
    for _ in range(100):
        with pytest.raises(StoreError):
            recorder.write_event(event(1))
    assert time.perf_counter() - began < 0.5, "a full disk costs nothing between the tries"
    ballast.unlink()
    time.sleep(1.05)
    recorder.write_event(event(10_000))
    recorder.close()
    check_full(recorder.record_dir, written, lost + 100)


def test_a_recording_that_ends_on_a_full_disk_still_says_how(small_disk):
    recorder = Recorder(small_disk / "records", 1, "x")
    with pytest.raises(StoreError, match="No space left"):
        write_until_refused(recorder)
    fill_disk(small_disk)
    recorder.stop()
    metadata = RecordReader(recorder.record_dir, strict=True).metadata
    assert (metadata.status, metadata.lost_events) == (RecordStatus.STOPPED, 1)


def test_a_start_on_a_full_disk_is_store_error_and_leaves_nothing(small_disk):
    (small_disk / "records").mkdir()
    fill_disk(small_disk)
    with pytest.raises(StoreError, match="No space left"):
        Recorder(small_disk / "records", 1, "x")
    assert os.listdir(small_disk / "records") == []


# --- other disks -----------------------------------------------------------------------------------------------------


def test_a_read_only_store_refuses_recordings_and_can_be_read(small_disk):
    with Recorder(small_disk / "records", 1, "x") as recorder:
        recorder.write_event(event(1))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match="Read-only"):
        Recorder(small_disk / "records", 1, "x")
    with pytest.raises(StoreError, match="Read-only"):
        RecordManager(small_disk / "new").start_recording(1, "x")
    assert RecordReader(recorder.record_dir, strict=True).event_count == 1
    assert RecordManager(small_disk / "records").list_records()[0].status is RecordStatus.COMPLETED


def test_a_store_removed_under_a_recorder_is_noticed_and_never_made_again(tmp_path):
    store = tmp_path / "store"
    recorder = Recorder(store / "records", 1, "x")
    recorder.write_event(event(1))
    shutil.rmtree(store)
    removed = time.monotonic()
    with pytest.raises(StoreError, match="removed"):
        write_until_refused(recorder, pause_s=0.01)
    assert time.monotonic() - removed < 1.5
    with pytest.raises(StoreError):
        recorder.close()
    assert not store.exists()


# --- fork and processes ----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12 and later, about our own threads
def test_a_forked_child_has_no_recorder_and_its_parent_goes_on(tmp_path):
    manager = RecordManager(tmp_path)
    record_id = manager.start_recording(1, "x")
    recorder = manager._active[1]
    recorder.write_event(event(1))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        answers = [str(recorder.closed), str(manager.is_recording(1))]
        try:
            recorder.write_event(event(2))
        except RecorderClosed:
            answers.append("RecorderClosed")
        manager.record_event(1, event(2))
        recorder.close()
        manager.close_all()
        own = manager.start_recording(1, "child")
        manager.record_event(1, event(3))
        manager.close_all()
        os.write(write, " ".join([*answers, own]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    answers = os.read(read, 1000).decode().split()
    os.close(read)
    os.close(write)
    assert answers[:3] == ["True", "False", "RecorderClosed"]
    assert writer_is_alive(recorder.record_dir)
    manager.record_event(1, event(4))
    manager.stop_recording(1)
    reader = manager.load_record(record_id, strict=True)
    assert (reader.event_count, reader.metadata.status) == (2, RecordStatus.STOPPED)
    assert manager.load_record(answers[3], strict=True).metadata.intent == "child"


def test_a_child_that_outlives_its_parent_does_not_make_it_look_alive(tmp_path):
    process = start(tmp_path, "fork_and_wait")
    assert process.stdout is not None
    child = None
    for line in process.stdout:
        if line.startswith("child"):
            _, child, closed = line.split()
            assert closed == "True"
            break
    process.kill()
    process.wait()
    try:
        assert child is not None
        os.kill(int(child), 0)
        folder = only_recording(tmp_path)
        assert not writer_is_alive(folder)
        assert RecordReader(folder).metadata.status is RecordStatus.INTERRUPTED
    finally:
        os.kill(int(child), signal.SIGKILL)
        process.stdout.close()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_a_fork_in_the_middle_of_a_start_inherits_no_lock(tmp_path):
    process = start(tmp_path, "fork_while_starting")
    out, _ = process.communicate()
    assert process.returncode == 0
    assert set(out.split()) == {"0"}
    assert len(out.split()) == 40


def test_pools_of_processes_record_beside_their_parent(tmp_path):
    process = start(tmp_path, "pools")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    ids = out.split()
    assert len(set(ids)) == 8
    manager = RecordManager(tmp_path)
    for record_id in ids:
        reader = manager.load_record(record_id, strict=True)
        assert (reader.event_count, reader.metadata.status) == (50, RecordStatus.COMPLETED)
    parent = next(metadata for metadata in manager.list_records() if metadata.pid == 1)
    assert (parent.event_count, parent.status) == (2, RecordStatus.COMPLETED)


def _record(base: str) -> None:
    with Recorder(base, 9, "child") as recorder:
        recorder.write_event(event(1))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12 and later, about our own threads
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_process_started_by_multiprocessing_records_itself(tmp_path, method):
    with Recorder(tmp_path, 1, "parent") as recorder:
        process = multiprocessing.get_context(method).Process(target=_record, args=(str(tmp_path),))
        process.start()
        process.join()
        recorder.write_event(event(1))
    assert process.exitcode == 0
    assert sorted(metadata.pid for metadata in RecordManager(tmp_path).list_records()) == [1, 9]


# --- amounts ---------------------------------------------------------------------------------------------------------


def test_64_threads_of_200_events(tmp_path):
    with Recorder(tmp_path, 1, "x") as recorder:

        def work(thread: int) -> None:
            for number in range(200):
                data = SyscallEventData("Tool", {"thread": thread, "number": number})
                recorder.write_event(RecordEvent(RecordEventType.SYSCALL, 0, 1, 1, syscall=data))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    reader = RecordReader(recorder.record_dir, strict=True)
    assert reader.event_count == 64 * 200
    seen = {(one.syscall.args["thread"], one.syscall.args["number"]) for one in reader.bare_events()}
    assert len(seen) == 64 * 200


def test_a_result_of_50_megabytes(tmp_path):
    text = "fifty megabytes of \N{SNOWMAN} text\n" * 1_500_000
    with Recorder(tmp_path, 1, "x") as recorder:
        data = SyscallEventData("Tool", {}, text)
        recorder.write_event(RecordEvent(RecordEventType.SYSCALL, 0, 1, 1, syscall=data))
        recorder.write_event(event(1))
    reader = RecordReader(recorder.record_dir, strict=True)
    assert reader.event(1).syscall.result == text
    assert reader.event(2).syscall.args == {"number": 1}
