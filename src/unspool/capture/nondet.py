"""What the agent's code read from the clock and from random sources, written to `nondet.jsonl` for a later rerun.

Only reads by the agent and its libraries count, not those of the interpreter or of HTTP clients. Nothing the agent
sees changes: values are taken as they pass, generators are not seeded but their state is noted.

A line: `k` what was read, `t` the task, `at` file:line, `v` the value.
"""

from __future__ import annotations

import base64
import datetime
import gc
import importlib
import os
import re
import struct
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

import msgspec

from unspool.capture.flow import QUIET, current_flow
from unspool.capture.guard import guard
from unspool.capture.places import AGENT, LIBRARY, STDLIB, kind_of
from unspool.capture.process import NONDET_NAME

if TYPE_CHECKING:
    from unspool.capture.runtime import Runtime

__all__ = ["install"]

_LINES_MAX = (
    200_000  # a loop that polls the clock must not fill the disk; draws beyond are real in a rerun, and reported
)
_BYTES_MAX = 65_536
_TRANSPORT = re.compile(
    r"[\\/](?:httpx2?|httpcore2?|h11|h2|urllib3|aiohttp|requests|anyio|certifi|websockets|botocore|grpc|opentelemetry)[\\/]"
    # The SDKs' own HTTP layer: idempotency keys and retry jitter, which no request body holds.
    r"|[\\/]_base_client\.py$"
)
# Pass through to the caller behind: these draw for whoever called them.
_DRAWS_FOR_OTHERS = ("secrets.py", "random.py", "uuid.py")

_busy = threading.local()
_encode = msgspec.json.Encoder().encode
_transport_files: dict[str, bool] = {}


class _Log:
    """Counts and writes the lines of this OS process."""

    def __init__(self) -> None:
        self.lines = 0

    def note(self, kind: str, value: Any) -> None:
        """Write a value read by the code that called our replacement, if it is the agent's."""
        if getattr(_busy, "on", False) or self.lines >= _LINES_MAX or QUIET.get():
            return
        flow = current_flow()
        if flow is None:
            return
        _busy.on = True
        try:
            with guard:
                place = _reader()
                if place is not None:
                    self.lines += 1
                    line = {"k": kind, "t": flow.path, "at": place, "v": value}
                    flow.process.append_side(NONDET_NAME, _encode(line) + b"\n")
        finally:
            _busy.on = False


_log = _Log()


def _reader() -> str | None:
    """`file:line` of the code that read, None if it is not the agent's or a library's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        kind = kind_of(filename)
        if kind == AGENT:
            return f"{filename}:{frame.f_lineno}"
        if kind == LIBRARY:
            known = _transport_files.get(filename)
            if known is None:
                known = _transport_files[filename] = bool(_TRANSPORT.search(filename))
            return None if known else f"{filename}:{frame.f_lineno}"
        if filename == __file__ or (kind == STDLIB and filename.endswith(_DRAWS_FOR_OTHERS)):
            frame = frame.f_back
            continue
        return None
    return None


def install(runtime: Runtime) -> Callable[[], None]:
    """Start noting; gives the function that undoes what `Runtime.patch` cannot."""
    patch = runtime.patch
    _patch_clock(patch)
    undo = _patch_datetime()
    _patch_urandom(patch)
    runtime.add_hook("uuid", lambda module: _patch_uuid(module, patch))
    runtime.add_hook("random", lambda module: _patch_random(module, patch))
    runtime.add_hook("numpy.random", lambda module: _patch_numpy(module, patch))
    return undo


class _Builtin:
    """A function of the interpreter that notes what it gave.

    What is put in its place is a *bound* method of this class: `class Timer: now = time.time` works because a built-in
    function does not become a method, and neither does a method that is already bound.
    """

    def __init__(self, real: Callable[..., Any], kind: str) -> None:
        self.real = real
        self.kind = kind

    def __reduce__(self) -> Any:
        # Pickled, the method is the attribute of this name of its owner: the module, as for the original.
        return importlib.import_module, (self.real.__module__,)

    def __deepcopy__(self, memo: object) -> _Builtin:
        return self

    def time(self) -> float:
        value: float = self.real()
        _log.note(self.kind, value)
        return value

    def time_ns(self) -> int:
        value: int = self.real()
        _log.note(self.kind, value)
        return value

    def urandom(self, size: int, /) -> bytes:
        value: bytes = self.real(size)
        if size <= _BYTES_MAX:
            _log.note(self.kind, value.hex())
        return value


def _patch_clock(patch: Callable[[Any, str, Any], None]) -> None:
    patch(time, "time", _Builtin(time.time, "time").time)
    patch(time, "time_ns", _Builtin(time.time_ns, "time_ns").time_ns)


def _iso_text(value: datetime.date) -> str:
    """ISO form, by the type's own method: a subclass may have another."""
    kind = datetime.datetime if isinstance(value, datetime.datetime) else datetime.date
    return kind.isoformat(value)


def _patch_datetime() -> Callable[[], None]:
    """Replace the clock methods inside the `datetime` and `date` types themselves.

    A subclass put in their place would not be the type of values made by C code, and `type(x) is datetime` and every
    table keyed by type would break. The types are built in, so their dictionaries are reached past the read-only
    proxy, and the interpreter is told (`PyType_Modified`), as its own C API does.
    """
    try:
        from ctypes import py_object, pythonapi
    except ImportError:
        _log.note("datetime", None)
        return lambda: None
    changed: list[tuple[dict[str, Any], str, Any, type]] = []

    def replace(cls: type, name: str, wrap: Callable[[Any], Any]) -> None:
        attributes = gc.get_referents(cls.__dict__)[0]
        if not isinstance(attributes, dict) or name not in attributes:
            return
        old = attributes[name]
        changed.append((attributes, name, old, cls))
        attributes[name] = classmethod(wrap(old))
        pythonapi.PyType_Modified(py_object(cls))

    def clock_method(label: str) -> Callable[[Any], Any]:
        def wrap(old: Any) -> Any:
            def read(cls: type, *args: Any, **kwargs: Any) -> Any:
                outer = getattr(_busy, "on", False)
                _busy.on = True  # `today` reads `time.time`, which is this same read
                try:
                    value = old.__get__(None, cls)(*args, **kwargs)
                finally:
                    _busy.on = outer
                if isinstance(value, datetime.date):  # a subclass may give anything
                    _log.note(label, _iso_text(value))
                return value

            read.__name__ = label.rpartition(".")[2]
            return read

        return wrap

    # `datetime.today` is inherited from `date` and makes a datetime there.
    replace(datetime.datetime, "now", clock_method("datetime.now"))
    replace(datetime.datetime, "utcnow", clock_method("datetime.utcnow"))
    replace(datetime.date, "today", clock_method("date.today"))

    def undo() -> None:
        for attributes, name, old, cls in reversed(changed):
            attributes[name] = old
            pythonapi.PyType_Modified(py_object(cls))

    return undo


def _patch_urandom(patch: Callable[[Any, str, Any], None]) -> None:
    patch(os, "urandom", _Builtin(os.urandom, "urandom").urandom)


def _patch_uuid(module: Any, patch: Callable[[Any, str, Any], None]) -> None:
    for name in ("uuid1", "uuid4"):
        real = getattr(module, name)

        def make(*args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:
            outer = getattr(_busy, "on", False)
            _busy.on = True  # uuid4 draws from os.urandom, which is this same read
            try:
                value = _real(*args, **kwargs)
            finally:
                _busy.on = outer
            _log.note(_name, value.hex)
            return value

        patch(module, name, make)


def _patch_random(module: Any, patch: Callable[[Any, str, Any], None]) -> None:
    # `random` and `secrets` keep their own reference to os.urandom.
    patch(module, "_urandom", os.urandom)
    seed = module.Random.seed

    def seed_and_note(self: Any, a: Any = None, version: int = 2) -> None:
        seed(self, a, version)
        if a is None and not isinstance(self, module.SystemRandom):
            _log.note("random.state", _pack_state(self.getstate()))

    patch(module.Random, "seed", seed_and_note)
    patch(module, "seed", module._inst.seed)
    _note_state(module)
    global _random
    if _random is None:
        # After the seeding that `random` itself does in a forked child: hooks run in order of registration.
        os.register_at_fork(after_in_child=_note_state_after_fork)
    _random = module


_random: Any = None  # the module, once its hook for forked children is in place


def _note_state(module: Any) -> None:
    runtime_note("random.start", _pack_state(module.getstate()))


def _note_state_after_fork() -> None:
    if current_flow() is not None:
        _note_state(_random)


def _pack_state(state: Any) -> dict[str, Any]:
    version, numbers, gauss = state
    packed = base64.b64encode(struct.pack(f"<{len(numbers)}I", *numbers)).decode("ascii")
    return {"version": version, "state": packed, "gauss": gauss}


def _patch_numpy(module: Any, patch: Callable[[Any, str, Any], None]) -> None:
    make = module.default_rng

    def default_rng(seed: Any = None) -> Any:
        rng = make(seed)
        if seed is None:
            entropy = getattr(getattr(rng.bit_generator, "seed_seq", None), "entropy", None)
            _log.note("numpy.entropy", str(entropy))
        return rng

    patch(module, "default_rng", default_rng)
    kind, keys, position, has_gauss, gauss = module.get_state()
    packed = base64.b64encode(keys.tobytes()).decode("ascii")
    runtime_note(
        "numpy.start", {"kind": kind, "state": packed, "pos": position, "has_gauss": has_gauss, "gauss": gauss}
    )


def runtime_note(kind: str, value: Any) -> None:
    """Write a state that no line of the agent's code read, but all of its later draws depend on."""
    flow = current_flow()
    if flow is not None:
        with guard:
            flow.process.append_side(NONDET_NAME, _encode({"k": kind, "t": flow.path, "v": value}) + b"\n")
