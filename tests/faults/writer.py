"""A process that writes a recording, for tests that harm it. Prints the number of each event when it is written.

Arguments: the folder of recordings, what to do, and a number.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import resource
import sys
import threading
import time

from unspool.errors import StoreError
from unspool.events import ContextSnapshotData, CtxMessage, RecordEvent, RecordEventType, SyscallEventData
from unspool.recording import Recorder


def event(number: int) -> RecordEvent:
    """Small, long and referring events in turn."""
    if number % 5 == 4:
        messages = [CtxMessage("user", f"message {n} " * 30) for n in range(number // 5 % 40)]
        context = ContextSnapshotData(messages=messages)
        return RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, number, 1, context=context)
    result = "long " * 2000 if number % 7 == 0 else number
    return RecordEvent(
        RecordEventType.SYSCALL, 0, number, 1, syscall=SyscallEventData("Tool", {"number": number}, result)
    )


def say(*words: object) -> None:
    """One write, so that a killed process never leaves half a line."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def write_for_ever(recorder: Recorder) -> None:
    for number in itertools.count(1):
        say(recorder.write_event(event(number)))


def threads_for_ever(recorder: Recorder) -> None:
    for _ in range(4):
        threading.Thread(target=write_for_ever, args=(recorder,), daemon=True).start()
    time.sleep(60)


def exit_at_once(recorder: Recorder) -> None:
    for number in range(1, 21):
        say(recorder.write_event(event(number)))
    os._exit(3)


def fork_and_wait(recorder: Recorder) -> None:
    """A child that outlives its parent, which is killed while it waits."""
    say(recorder.write_event(event(1)))
    if os.fork() == 0:
        say("child", os.getpid(), recorder.closed)
        time.sleep(60)
        os._exit(0)
    write_for_ever(recorder)


def fork_while_starting(recorder: Recorder) -> None:
    """Threads make recordings while the process forks; the children must hold none of their locks."""
    base = recorder.record_dir.parent
    stop = threading.Event()

    def start() -> None:
        while not stop.is_set():
            Recorder(base, 2, "x").close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    children = []
    for _ in range(40):
        child = os.fork()
        if child == 0:
            held = [name for name in os.listdir("/proc/self/fd") if "writer.lock" in _target(name)]
            os._exit(len(held))
        children.append(child)
    held = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    stop.set()
    for thread in threads:
        thread.join()
    say(*held)
    recorder.close()


def _target(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        return ""


def limited(recorder: Recorder) -> None:
    """Writes against a limit on the size of files, then goes on without it."""
    limit = int(sys.argv[3])
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    written, lost = fill(recorder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    time.sleep(1.1)
    say(written, lost + _try(recorder, 10_000))
    recorder.close()


def fill(recorder: Recorder) -> tuple[int, int]:
    """Write until something is lost, and a little more; gives how many were written and lost."""
    written = lost = 0
    for number in itertools.count(1):
        failed = _try(recorder, number)
        written, lost = written + (not failed), lost + failed
        if lost == 5:
            return written, lost
    raise AssertionError


def _try(recorder: Recorder, number: int) -> bool:
    try:
        recorder.write_event(event(number))
    except StoreError:
        return True
    return False


def pool_worker(base: str, pid: int) -> str:
    """What a process of a pool does: a recording of its own."""
    with Recorder(base, pid, "worker") as recorder:
        for number in range(1, 51):
            recorder.write_event(event(number))
    return recorder.record_id


def pools(recorder: Recorder) -> None:
    """Process pools of both kinds beside a recording; with fork, the children inherit it."""
    base = str(recorder.record_dir.parent)
    for method in ("spawn", "fork"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            for record_id in pool.starmap(pool_worker, [(base, pid) for pid in range(2, 6)]):
                say(record_id)
        recorder.write_event(event(1))
    recorder.close()


if __name__ == "__main__":
    actions = [write_for_ever, threads_for_ever, exit_at_once, fork_and_wait, fork_while_starting, limited, pools]
    {action.__name__: action for action in actions}[sys.argv[2]](Recorder(sys.argv[1], 1, "harm me"))
