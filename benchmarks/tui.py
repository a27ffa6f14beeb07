"""The debugger on 100,000 events: opening, key to repaint, memory, and bytes a key over a slow line."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import resource
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Any

from unspool.events import ContextSnapshotData, CtxMessage, RecordEvent, RecordEventType, SyscallEventData
from unspool.recording import Recorder
from unspool.store import Store

EVENTS = 100_000
SIZES = ((80, 24), (200, 60))
PRESSES = 200  # of each key
_QUIET_S = 0.4  # a screen that is silent for so long is drawn


def _write(store: Store) -> str:
    """Model calls with contexts among tool calls, so that the panes have something to say."""
    with Recorder(store.ensure().records, 1, "a long run") as recorder:
        for number in range(EVENTS):
            call = number // 50 + 1
            if number % 50 == 0:
                messages = [CtxMessage("user", f"question {call}"), CtxMessage("assistant", "words " * 200)]
                data = ContextSnapshotData(messages=messages, model="gpt-4o", provider="openai")
                event = RecordEvent(RecordEventType.CONTEXT_SNAPSHOT, 0, number * 1000, 1, context=data)
                event.call = event.step = call
            else:
                args = {"path": "/dev/tool/search", "input": {"query": f"question {number}"}}
                data_out = SyscallEventData("ToolCall", args, result=f"answer {number} " + "of some length " * 5)
                event = RecordEvent(RecordEventType.SYSCALL, 0, number * 1000, 1, call=call, syscall=data_out)
            recorder.write_event(event)
        return recorder.record_id


# --- key to repaint, through Textual's pilot -------------------------------------------------------------------------


async def _measure(store: Store, record_id: str, size: tuple[int, int]) -> None:
    from textual._compositor import CompositorUpdate
    from textual.events import Key
    from textual.screen import Screen

    from unspool.tui.debugger import Debugger, DebuggerScreen
    from unspool.tui.eventlist import EventList

    class Watched(Debugger):
        """Says when something was painted."""

        def _display(self, screen: Screen[Any], renderable: Any) -> None:
            if isinstance(renderable, CompositorUpdate):  # as for a real terminal, which the pilot's is not
                renderable.render_segments(self.console)
            super()._display(screen, renderable)
            self.painted = time.perf_counter()

    app = Watched(store, record_id)
    began = time.perf_counter()
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        opened = time.perf_counter() - began
        screen = app.screen
        assert isinstance(screen, DebuggerScreen)
        events = screen.query_one(EventList)

        async def held(key: str) -> list[float]:
            """Milliseconds from each press of a key that is held until the screen is painted with the cursor moved."""
            times = []
            for _ in range(PRESSES):
                at, before = events.cursor, time.perf_counter()
                app.painted = 0.0
                app.post_message(Key(key, key if len(key) == 1 else None))
                while events.cursor == at or app.painted < before:
                    await asyncio.sleep(0)
                times.append((app.painted - before) * 1000)
            return times

        print(f"{size[0]}×{size[1]}: opened in {opened * 1000:.0f} ms", end="")
        for key in ("j", "pagedown", "k", "pageup"):
            times = sorted(await held(key))
            print(f"; {key} median {statistics.median(times):.1f} max {times[-1]:.1f} ms", end="")
        before = time.perf_counter()
        await pilot.press("G")
        while events.cursor != EVENTS - 1:
            await asyncio.sleep(0)
        print(f"; end {max(app.painted - before, 0) * 1000:.0f} ms", end="")
        await pilot.press("g", "slash", *"ANSWER 99990")
        before = time.perf_counter()
        app.post_message(Key("enter", None))
        while events.cursor != 99_990:
            await asyncio.sleep(0.001)
        print(f"; search through all {(time.perf_counter() - before) * 1000:.0f} ms", end="")
        print(f"; peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB")


def _pilot(folder: str, record_id: str) -> None:
    """In a process of its own, so that its memory is that of the view alone."""
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"({base / 1000:.0f} MB before; repaints are bundled into 60 a second, which is in the times)")
    for size in SIZES:
        asyncio.run(_measure(Store(Path(folder)), record_id, size))


# --- bytes a key, in a pseudo-terminal -------------------------------------------------------------------------------


def _bytes(folder: str, record_id: str) -> None:
    """What a line has to carry for a key, once the screen stands; a 9600 baud line carries 960 bytes a second."""
    for size in SIZES:
        counts = _pressed(folder, record_id, size)
        said = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        print(f"{size[0]}×{size[1]}: bytes written: {said}")


def _pressed(folder: str, record_id: str, size: tuple[int, int]) -> dict[str, int]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("UNSPOOL_", "TMUX"))}
    env |= {"TERM": "xterm-256color", "UNSPOOL_STORE": folder}
    env.pop("NO_COLOR", None)
    words = [sys.executable, "-m", "unspool", "replay", record_id]
    with subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True) as view:
        os.close(slave)
        try:
            counts = {"to open": _written(master, first_s=30)}
            for name, keys in (("j", "j"), ("k", "k"), ("page down", "\x1b[6~"), ("10 × j at once", "j" * 10)):
                os.write(master, keys.encode())
                counts[name] = _written(master)
            os.write(master, b"q")
            _written(master)
        finally:
            view.terminate()
            os.close(master)
    return counts


def _written(master: int, first_s: float = 3) -> int:
    """Bytes until nothing comes any more; waits `first_s` for the first."""
    count, wait = 0, first_s
    while select.select([master], [], [], wait)[0]:
        try:
            count += len(os.read(master, 65536))
        except OSError:  # the other side is gone
            break
        wait = _QUIET_S
    return count


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        record_id = _write(Store(Path(folder)))
        for part in ("pilot", "bytes"):
            subprocess.run([sys.executable, "-m", "benchmarks.tui", part, folder, record_id], check=True)


if __name__ == "__main__":
    {"pilot": _pilot, "bytes": _bytes}[sys.argv[1]](*sys.argv[2:])
