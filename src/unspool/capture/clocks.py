"""The clock as the agent's code reads it: `time` and `datetime`.

`monotonic`, `perf_counter` and `sleep` are never touched: they measure, and what they measure is real.
"""

from __future__ import annotations

import datetime
import functools
import gc
import importlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unspool.capture.guard import guard
from unspool.capture.nondet import read

if TYPE_CHECKING:
    from unspool.capture.runtime import Runtime

__all__ = ["Builtin", "install"]


def install(runtime: Runtime) -> Callable[[], None]:
    """Put ours in place; gives the function that undoes what `Runtime.patch` cannot."""
    _patch_time(runtime.patch)
    return _patch_datetime()


class Builtin:
    """Stands for a module of the interpreter whose functions are replaced.

    What is put in their place are *bound* methods: `class Timer: now = time.time` works because a built-in function
    does not become a method, and neither does a method that is already bound.
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def __reduce__(self) -> Any:
        # Pickled, the method is the attribute of its name of its owner: the module, as for the original.
        return importlib.import_module, (self._module,)

    def __deepcopy__(self, memo: object) -> Builtin:
        return self


class _Time(Builtin):
    def __init__(self) -> None:
        super().__init__("time")
        self._time, self._time_ns = time.time, time.time_ns
        self._localtime, self._gmtime, self._strftime = time.localtime, time.gmtime, time.strftime
        self._ctime, self._asctime = time.ctime, time.asctime

    def time(self) -> float:
        return read("time", self._time, None, float)

    def time_ns(self) -> int:
        return read("time_ns", self._time_ns, None, int)

    # These read the clock when they are not told a time.

    def localtime(self, seconds: Any = None, /) -> Any:
        return self._localtime(self._seconds("localtime") if seconds is None else seconds)

    def gmtime(self, seconds: Any = None, /) -> Any:
        return self._gmtime(self._seconds("gmtime") if seconds is None else seconds)

    def ctime(self, seconds: Any = None, /) -> str:
        return self._ctime(self._seconds("ctime") if seconds is None else seconds)

    def asctime(self, *moment: Any) -> str:
        return self._asctime(*moment) if moment else self._asctime(self._localtime(self._seconds("asctime")))

    def strftime(self, form: Any, /, *moment: Any) -> str:
        if moment or not isinstance(form, str):
            return self._strftime(form, *moment)
        return self._strftime(form, self._localtime(self._seconds("strftime")))

    def _seconds(self, kind: str) -> int:
        return read(kind, lambda: int(self._time()), None, int)


def _patch_time(patch: Callable[[Any, str, Any], None]) -> None:
    ours = _Time()
    for name in ("time", "time_ns", "localtime", "gmtime", "ctime", "asctime", "strftime"):
        patch(time, name, getattr(ours, name))


def _pack(value: Any) -> Any:
    """ISO form, by the type's own method: a subclass may have another. With the fold, if there is one."""
    if not isinstance(value, datetime.datetime):
        return datetime.date.isoformat(value) if isinstance(value, datetime.date) else None
    text = datetime.datetime.isoformat(value)
    return [text, value.fold] if value.fold else text


def _moment(packed: Any) -> datetime.datetime:
    text, fold = packed if isinstance(packed, list) else (packed, 0)
    return datetime.datetime.fromisoformat(text).replace(fold=fold)


def _naive(cls: type[datetime.datetime], moment: datetime.datetime) -> Any:
    """As the interpreter makes them: by calling the class, which may be the agent's."""
    parts = (*moment.timetuple()[:6], moment.microsecond)
    return cls(*parts, fold=moment.fold) if moment.fold else cls(*parts)


def _aware(cls: type[datetime.datetime], moment: datetime.datetime, zone: Any) -> Any:
    if moment.tzinfo is None:
        raise ValueError("the recorded moment has no zone")
    utc = moment.astimezone(datetime.UTC)
    return zone.fromutc(cls(*utc.timetuple()[:6], utc.microsecond, zone))


def _patch_datetime() -> Callable[[], None]:
    """Replace the clock methods inside the `datetime` and `date` types themselves.

    A subclass put in their place would not be the type of values made by C code, and `type(x) is datetime` and every
    table keyed by type would break. The types are built in, so their dictionaries are reached past the read-only
    proxy, and the interpreter is told (`PyType_Modified`), as its own C API does.
    """
    try:
        from ctypes import py_object, pythonapi
    except ImportError:
        guard.warn("without ctypes, what datetime.now gives is not recorded")
        return lambda: None
    changed: list[tuple[dict[str, Any], str, Any, type]] = []

    def replace(cls: type, name: str, wrap: Callable[[Any], Any]) -> None:
        attributes = gc.get_referents(cls.__dict__)[0]
        if not isinstance(attributes, dict) or name not in attributes:
            return
        old = attributes[name]
        changed.append((attributes, name, old, cls))
        method = wrap(old)
        method.__name__ = name
        attributes[name] = classmethod(method)
        pythonapi.PyType_Modified(py_object(cls))

    def now(old: Any) -> Any:
        def now(cls: Any, *args: Any, **kwargs: Any) -> Any:
            zone = args[0] if args else kwargs.get("tz")
            if len(args) + len(kwargs) > 1 or not isinstance(zone, (type(None), datetime.tzinfo)):
                return old.__get__(None, cls)(*args, **kwargs)  # which says what is wrong
            return read(
                "datetime.now" if zone is None else "datetime.now(tz)",
                lambda: old.__get__(None, cls)(*args, **kwargs),
                _pack,
                lambda packed: _naive(cls, _moment(packed)) if zone is None else _aware(cls, _moment(packed), zone),
            )

        return now

    def utcnow(old: Any) -> Any:
        def utcnow(cls: Any, *args: Any) -> Any:
            real = functools.partial(old.__get__(None, cls), *args)
            return read("datetime.utcnow", real, _pack, lambda packed: _naive(cls, _moment(packed)))

        return utcnow

    def today(old: Any) -> Any:
        # `datetime.today` is inherited from `date` and makes a datetime there.
        def today(cls: Any, *args: Any) -> Any:
            real = functools.partial(old.__get__(None, cls), *args)
            if issubclass(cls, datetime.datetime):
                return read("datetime.today", real, _pack, lambda packed: _naive(cls, _moment(packed)))
            return read("date.today", real, _pack, lambda packed: cls(*_moment(packed).timetuple()[:3]))

        return today

    replace(datetime.datetime, "now", now)
    replace(datetime.datetime, "utcnow", utcnow)
    replace(datetime.date, "today", today)

    def undo() -> None:
        for attributes, name, old, cls in reversed(changed):
            attributes[name] = old
            pythonapi.PyType_Modified(py_object(cls))

    return undo
