"""The one edge between the agent and the recorder: what goes wrong behind it never reaches the agent.

A fault is counted, one warning line goes to stderr, and the agent goes on as if unspool were not there.
"""

from __future__ import annotations

import os
import sys

from unspool.errors import UnspoolError

__all__ = ["Guard", "guard"]


class Guard:
    """`with guard: …` swallows, counts and reports every `Exception`; `KeyboardInterrupt` and the like pass.

    Without a lock: a finalizer may come here in the middle of anything, and so may a forked child.
    """

    def __init__(self) -> None:
        self.faults = 0
        self.last: BaseException | None = None
        self._said = False

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> bool:
        if exc is None or not isinstance(exc, Exception):
            return False
        self.note(exc)
        return True

    def note(self, exc: BaseException) -> None:
        """Count a fault and warn once."""
        self.faults += 1
        self.last = exc
        if not self._said:
            self._said, said = True, False  # two threads say it once
            try:
                said = self._say(exc)
            finally:  # at the recursion limit not even the call succeeds
                self._said = said

    def say_late(self) -> None:
        """At the end of the program: warn of a fault that came when nothing could be said (at the recursion limit)."""
        if self.last is not None and not self._said:
            self._said = self._say(self.last)

    def _say(self, exc: BaseException) -> bool:
        try:
            return self.warn(self._describe(exc))
        except Exception:  # noqa: BLE001 - the text of foreign exceptions, or the recursion limit again
            return False

    @staticmethod
    def _describe(exc: BaseException) -> str:
        what = str(exc) if isinstance(exc, UnspoolError) else f"{type(exc).__name__}: {exc}"
        if os.environ.get("UNSPOOL_DEBUG"):
            import traceback

            what += "\n" + "".join(traceback.format_exception(exc))
        return f"recording is incomplete: {what}"

    @staticmethod
    def warn(text: str) -> bool:
        """One line on the agent's stderr, which may be closed or gone; whether it was said."""
        try:
            sys.__stderr__.write(f"unspool: {text}\n")  # type: ignore[union-attr]
            sys.__stderr__.flush()  # type: ignore[union-attr]
        except Exception:  # noqa: BLE001 - there is nowhere left to report to
            return False
        return True


guard = Guard()
