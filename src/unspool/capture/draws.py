"""The generator that the functions of `random` share, and who drew what from it.

As long as one task draws, its start state says all. Once a second task (or thread, or agent process) draws, what each
gets depends on the order in which they run, which is another in every run: from then on each value is noted with the
task that got it. In a rerun the first task draws its share from the restored state, and every value behind it comes
from the notes, so that each task gets its own values whatever the order.

`random.start` is the state before the first draw; `random.switch` the number of values task `t` drew from it alone;
`random.random`, `random.gauss` and `random.bits` (number of bits, value in hexadecimal) are single values.
"""

from __future__ import annotations

import base64
import os
import struct
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from unspool.capture.clocks import Builtin
from unspool.capture.flow import FLOW, QUIET, Flow, current_flow
from unspool.capture.guard import guard
from unspool.capture.nondet import is_pinned, is_reading, not_given, note_state, pins_of, read, reading

if TYPE_CHECKING:
    from unspool.capture.process import AgentProcess

__all__ = ["Draws", "pack_state", "unpack_state"]

_NOBODY: Final = object()
_FUNCTIONS: Final = {"random.random": "random", "random.gauss": "gauss", "random.bits": "getrandbits"}


class Draws(Builtin):
    """Stands in for the three functions through which everything is drawn from the shared generator."""

    def __init__(self, module: Any) -> None:
        super().__init__("random")
        self._library = module
        self._generator = module._inst
        self._random: Callable[[], float] = self._generator.random
        self._getrandbits: Callable[[int], int] = self._generator.getrandbits
        self._gauss = self._generator.gauss
        self._reset()

    def _reset(self) -> None:
        """Nobody has drawn yet in this OS process."""
        self._lock = threading.RLock()
        self._begun: WeakSet[AgentProcess] = WeakSet()
        self._flow: Any = _NOBODY  # the flow of the last draw, while there is only one drawer
        self._owner: tuple[AgentProcess, str] | None = None  # process and task of that one
        self._count = 0  # what it drew
        self._is_shared = False
        self._share = 0  # in a rerun: how much the owner still has to draw from the state
        self._spare: Any = None  # in a rerun: for what is real and must leave the state alone

    def install(self, patch: Callable[[Any, str, Any], None]) -> None:
        """Put ours in place. `choice`, `shuffle` and the others find them through the generator."""
        for name in ("random", "gauss", "getrandbits"):
            patch(self._generator, name, getattr(self, name))
            patch(self._library, name, getattr(self, name))
        for name in ("getstate", "setstate"):
            patch(self._library, name, getattr(self, name))
        global _current
        if _current is None:
            # After the seeding that `random` itself does in a forked child: hooks run in order of registration.
            os.register_at_fork(after_in_child=_forked)
        _current = self

    # --- what stands in ----------------------------------------------------------------------------------------------

    # Nothing between the comparison and the draw gives another thread its turn, so the count is right without a lock.

    def random(self) -> float:
        if FLOW.get() is self._flow:
            self._count += 1
            return self._random()
        value: float = self._draw("random.random", (), None, float)
        return value

    def getrandbits(self, k: int, /) -> int:
        if FLOW.get() is self._flow:
            self._count += 1
            return self._getrandbits(k)

        def pack(value: int) -> list[Any]:
            return [k, f"{value:x}"]

        drawn: int = self._draw("random.bits", (k,), pack, _unpack_bits, k)
        return drawn

    def gauss(self, mu: float = 0.0, sigma: float = 1.0) -> float:
        # A draw of its own: it makes two values at once and keeps the second one in the generator.
        value: float = self._draw("random.gauss", (mu, sigma), None, float)
        return value

    def getstate(self) -> Any:
        return self.seeded().getstate()

    def setstate(self, state: Any) -> None:
        self.seeded().setstate(state)

    def seeded(self) -> Any:
        """The program is about to set or look at the state; gives the generator that it means."""
        flow = current_flow()
        if flow is not None and not is_reading():
            with guard, self._lock:
                if not self._is_own_draw(flow) and self._spare is not None:
                    return self._spare
        return self._generator

    # --- a draw ------------------------------------------------------------------------------------------------------

    def _draw(
        self,
        kind: str,
        args: tuple[Any, ...],
        pack: Callable[[Any], Any] | None,
        unpack: Callable[[Any], Any],
        size: int | None = None,
    ) -> Any:
        name = _FUNCTIONS[kind]
        own = getattr(self, f"_{name}")
        flow = current_flow()
        if flow is None or is_reading():
            return own(*args)
        with self._lock, reading():
            is_own = False
            with guard:
                is_own = self._is_own_draw(flow)
            if is_own:
                if name == "gauss":
                    self._flow = _NOBODY  # what it draws itself is not counted
                value = own(*args)  # which says what is wrong with the arguments
                if self._is_shared:
                    self._share -= 1
                else:
                    self._count += 1
                    self._flow = FLOW.get() if name != "gauss" else _NOBODY
                return value
        real = own if self._spare is None else getattr(self._spare, name)
        return read(kind, lambda: real(*args), pack, unpack, size)

    def _is_own_draw(self, flow: Flow) -> bool:
        """Whether what this task draws follows from the state and the number of its draws."""
        if flow.process not in self._begun:
            self._begin(flow)
        drawer = (flow.process, flow.place)
        if self._is_shared:
            return drawer == self._owner and self._share > 0
        if self._owner is None:
            self._owner = drawer
        if drawer == self._owner and not QUIET.get():
            return True
        self._flow, self._is_shared, self._share = _NOBODY, True, 0
        process, task = self._owner
        note_state("random.switch", process, task, self._count)
        return False

    def _begin(self, flow: Flow) -> None:
        """The first draw of an agent process: in a rerun, restore what its recording began with."""
        is_first = not self._begun
        self._begun.add(flow.process)
        pinned = is_pinned()
        pins = pins_of(flow.process) if pinned else None
        if pins is not None:
            switch = pins.state("random.switch")
            if switch is not None or pins.holds(*_FUNCTIONS):
                self._flow, self._is_shared = _NOBODY, True
                self._spare = self._spare or self._library.Random()
            if switch is not None and isinstance(switch[1], int):
                self._owner, self._share = (flow.process, switch[0]), switch[1]
                note_state("random.switch", flow.process, *switch)
            start = pins.state("random.start")
            if start is not None:
                self._library.Random.setstate(self._generator, unpack_state(start[1]))
                is_first = True
            elif is_first and not self._is_shared:
                not_given("random.start", flow, "in the recording, nothing was drawn from the generator of random")
        if is_first:
            note_state("random.start", flow.process, flow.place, pack_state(self._generator.getstate()))


_current: Draws | None = None


def _forked() -> None:
    if _current is not None:
        _current._reset()


def _unpack_bits(noted: Any) -> int:
    return int(noted[1], 16)


def pack_state(state: Any) -> dict[str, Any]:
    """The noted form of a state of `random.Random`."""
    version, numbers, gauss = state
    packed = base64.b64encode(struct.pack(f"<{len(numbers)}I", *numbers)).decode("ascii")
    return {"version": version, "state": packed, "gauss": gauss}


def unpack_state(packed: Any) -> Any:
    """The state of `pack_state`.

    Raises:
        KeyError, TypeError, ValueError, struct.error: it is none.
    """
    data = base64.b64decode(packed["state"])
    return packed["version"], struct.unpack(f"<{len(data) // 4}I", data), packed["gauss"]
