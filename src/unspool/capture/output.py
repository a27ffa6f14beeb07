"""What the program writes to standard output, kept for a rerun to be compared with.

The buffer below `sys.stdout` is replaced by one that also hands its bytes to the recording. `sys.stdout` stays the same
object, and buffering, encoding, `isatty` and errors are what they were. Bytes that do not pass here (a subprocess that
is no Python, `os.write`, C code) are not recorded.
"""

from __future__ import annotations

import hashlib
import io
import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec

from unspool.capture.guard import guard
from unspool.recording.stdout import STDOUT_KEPT_MAX, STDOUT_NAME, STDOUT_NOTES_NAME, StdoutNote

if TYPE_CHECKING:
    from unspool.capture.process import AgentProcess
    from unspool.capture.runtime import Runtime

__all__ = ["flush", "install", "note_tool", "position"]

# A process that never does anything worth a recording keeps this much in memory, for nothing.
_EARLY_MAX: Final = 256 << 10


_tee: _Tee | None = None


class _Output:
    """The output of one agent process, as far as it is kept."""

    def __init__(self, process: AgentProcess) -> None:
        self.process = process
        self._left = STDOUT_KEPT_MAX
        self._early_left = _EARLY_MAX
        self._rest = 0
        self.total = 0
        self._sha256: Any = None

    def begin(self, note: StdoutNote) -> None:
        self.note(note)
        self.process.begun(self)

    def add(self, data: memoryview) -> None:
        """Keep these bytes, or count them."""
        self.total += len(data)
        kept = min(len(data), self._left)
        if self.process.recorder is None:
            kept = min(kept, self._early_left)
            self._early_left -= kept
        if kept < len(data):
            self._left = 0  # what is kept is a beginning, without a gap
        else:
            self._left -= kept
        if kept:
            self.process.append_side(STDOUT_NAME, bytes(data[:kept]))
        if kept < len(data):
            if self._sha256 is None:
                self._sha256 = hashlib.sha256()
            self._rest += len(data) - kept
            self._sha256.update(data[kept:])

    def note(self, note: StdoutNote) -> None:
        """Say something about what was written."""
        self.process.append_side(STDOUT_NOTES_NAME, msgspec.json.encode(note) + b"\n")

    def cut_off(self) -> None:
        """The process ends: say what there was beyond what is kept."""
        if self._rest:
            self.note(StdoutNote(rest=self._rest, sha256=self._sha256.hexdigest()))


class _Tee:
    """Hands what is written to the recording of the agent process of this OS process."""

    def __init__(self, runtime: Runtime, note: StdoutNote) -> None:
        self._runtime = runtime
        self._note = note
        self._output: _Output | None = None

    def add(self, data: Any, taken: int | None) -> None:
        """The stream has taken so many bytes of `data`."""
        if taken:
            with guard:
                output = self.current()
                if output is not None:
                    output.add(memoryview(data).cast("B")[:taken])

    def current(self) -> _Output | None:
        """The output of the agent process that writes now."""
        process = self._runtime.root
        if process is None:
            return None
        output = self._output
        if output is None or output.process is not process:  # a forked child has its own
            output = self._output = _Output(process)
            output.begin(self._note)
        return output


# Both are the streams of the interpreter, `write` excepted. It must be in the buffered one where there is one, not in
# the file below: that is written to under the buffer's lock, where code of ours would let a signal's handler run, and
# one that prints would get the error of a reentrant call (seen with a handler that says which signal it got).


class _Buffered(io.BufferedWriter):
    def __init__(self, raw: io.RawIOBase, size: int, tee: _Tee) -> None:
        super().__init__(raw, size)
        self._tee = tee

    def write(self, data: Any, /) -> int:
        taken = super().write(data)
        self._tee.add(data, taken)
        return taken

    def __repr__(self) -> str:
        return f"<_io.BufferedWriter name={self.name!r}>"


class _Unbuffered(io.FileIO):
    def __init__(self, fd: int, tee: _Tee) -> None:
        super().__init__(fd, "wb", closefd=False)
        self._tee = tee

    def write(self, data: Any, /) -> int | None:  # type: ignore[override]  # typeshed: int; None if it would block
        taken = super().write(data)
        self._tee.add(data, taken)
        return taken

    def __repr__(self) -> str:
        return f"<_io.FileIO name={self.name!r} mode={self.mode!r} closefd=False>"


def install(runtime: Runtime) -> None:
    """Take standard output, if it is what Python makes of file descriptor 1; otherwise say why it is left alone."""
    global _tee
    text = sys.stdout
    if type(text) is not io.TextIOWrapper:
        _leave(runtime, "standard output is closed" if text is None else f"sys.stdout is a {type(text).__name__}")
        return
    buffer = text.buffer
    raw = buffer.raw if type(buffer) is io.BufferedWriter else buffer
    if type(raw) is not io.FileIO or raw.fileno() != 1:
        _leave(runtime, f"sys.stdout writes to a {type(raw).__name__}, not to file descriptor 1")
        return
    text.flush()
    tee = _Tee(runtime, StdoutNote(isatty=text.isatty(), encoding=text.encoding))
    ours: io.BufferedWriter | io.FileIO
    if raw is buffer:  # python -u
        ours = _Unbuffered(1, tee)
        ours.name = raw.name
    else:
        # Its size decides when the program's output appears; the object says it only so.
        size = buffer.__sizeof__() - io.BufferedWriter.__basicsize__
        ours = _Buffered(buffer.detach(), size, tee)
    # In place: others may hold this object already.
    text.__init__(ours, text.encoding, text.errors, "\n", text.line_buffering, text.write_through)  # type: ignore[misc]
    tee.current()
    _tee = tee
    runtime.flush_output = flush


def _leave(runtime: Runtime, why: str) -> None:
    if runtime.root is not None:
        runtime.root.append_side(STDOUT_NOTES_NAME, msgspec.json.encode(StdoutNote(missing=why)) + b"\n")


def position() -> int | None:
    """How many bytes this process has written so far, its buffers emptied; None if that is not followed."""
    output = _tee.current() if _tee is not None else None
    if output is None:
        return None
    flush()
    return output.total


def note_tool(span: str | None, start: int | None) -> None:
    """A tool that began at this position has ended: what was written since is its own, for all that can be known.

    A rerun that gives the tool's result without running it writes none of this.
    """
    end = position()
    if _tee is None or span is None or start is None or end is None or end <= start:
        return
    output = _tee.current()
    if output is not None:
        output.note(StdoutNote(tool=span, start=start, end=end))


def flush() -> None:
    """Have what the program printed so far written, which the recording shall hold.

    A failure (nobody reads any more) comes up again in the interpreter's own flush, which tells it as ever.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except Exception:  # noqa: BLE001 - see above
        return
