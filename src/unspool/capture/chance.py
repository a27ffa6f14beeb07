"""Random sources as the agent's code draws from them: `os.urandom`, `secrets`, `uuid`, `random`, `numpy.random`.

`secrets`, `SystemRandom` and all seeding of `numpy.random` draw from `os.urandom`. A seeded generator needs no note: it
gives the same in every run. Of an unseeded one the state is noted, from which all it gives follows.
"""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unspool.capture.clocks import Builtin
from unspool.capture.draws import Draws, pack_state, unpack_state
from unspool.capture.flow import current_flow
from unspool.capture.guard import guard
from unspool.capture.nondet import is_pinned, note_state, pins_of, read

if TYPE_CHECKING:
    from unspool.capture.runtime import Runtime

__all__ = ["install"]

_BYTES_MAX = 65_536


def install(runtime: Runtime) -> None:
    """Put ours in place, now or when a module is imported."""
    patch = runtime.patch
    patch(os, "urandom", _Os().urandom)
    runtime.add_hook("uuid", lambda module: _patch_uuid(module, patch))
    runtime.add_hook("random", lambda module: _patch_random(module, patch))
    runtime.add_hook("numpy.random", _note_numpy)


class _Os(Builtin):
    def __init__(self) -> None:
        super().__init__("os")
        self._urandom = os.urandom

    def urandom(self, size: int, /) -> bytes:
        if not isinstance(size, int) or not 0 < size <= _BYTES_MAX:
            return self._urandom(size)
        return read("urandom", lambda: self._urandom(size), bytes.hex, bytes.fromhex, size)


def _patch_uuid(module: Any, patch: Callable[[Any, str, Any], None]) -> None:
    def from_hex(text: str) -> Any:
        return module.UUID(hex=text)

    for name in ("uuid1", "uuid4", "uuid6", "uuid7", "uuid8"):
        real = getattr(module, name, None)
        if real is None:
            continue  # 6 to 8 came with Python 3.14

        def make(*args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:
            return read(_name, lambda: _real(*args, **kwargs), lambda value: value.hex, from_hex)

        patch(module, name, make)


def _patch_random(module: Any, patch: Callable[[Any, str, Any], None]) -> None:
    # `random` and `secrets` keep their own reference to os.urandom.
    patch(module, "_urandom", os.urandom)
    draws = Draws(module)
    seed = module.Random.seed

    def seed_and_note(self: Any, a: Any = None, version: int = 2) -> None:
        target = draws.seeded() if self is module._inst else self
        seed(target, a, version)
        if a is None and not isinstance(self, module.SystemRandom):
            state = module.Random.getstate(target)
            given = read("random.state", lambda: state, pack_state, unpack_state)
            if given is not state:
                module.Random.setstate(target, given)

    patch(module.Random, "seed", seed_and_note)
    patch(module, "seed", module._inst.seed)
    draws.install(patch)


def _note_numpy(module: Any) -> None:
    """The state of numpy's own generator, which was seeded from `os.urandom` by another place in another version."""
    with guard:
        flow = current_flow()
        if flow is None:
            return
        pins = pins_of(flow.process) if is_pinned() else None
        recorded = pins.state("numpy.start") if pins is not None else None
        if recorded is not None:
            _restore_numpy(module, recorded[1])
        kind, keys, position, has_gauss, gauss = module.get_state()
        packed = base64.b64encode(keys.tobytes()).decode("ascii")
        value = {"kind": kind, "state": packed, "pos": position, "has_gauss": has_gauss, "gauss": gauss}
        note_state("numpy.start", flow.process, flow.place, value)


def _restore_numpy(module: Any, packed: dict[str, Any]) -> None:
    data = base64.b64decode(packed["state"])
    numbers = struct.unpack(f"={len(data) // 4}I", data)
    module.set_state((packed["kind"], list(numbers), packed["pos"], packed["has_gauss"], packed["gauss"]))
