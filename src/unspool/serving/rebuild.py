"""Recorded results and errors as the values they were; nothing is unpickled and nothing is imported.

A value that JSON holds comes back as it is. Another is built from the annotation of what returned it, or from its
class, and counts only if it is of the recorded type and would be recorded as the same JSON again.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import sys
import types
import typing
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from unspool.events import ErrorData
from unspool.recording.lines import revive, to_wire

__all__ = [
    "CannotRebuild",
    "class_named",
    "item_hint",
    "parts_of",
    "rebuild_error",
    "rebuild_value",
    "return_hint",
    "what_is_wrong",
]

_FROM_TEXT: Final = ("datetime", "decimal", "uuid")  # modules of the standard library whose values are recorded as text
_SEQUENCES: Final = (list, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Collection)
_PLAIN: Final = (str, int, float, bool, type(None))
_PARTS_MAX: Final = 10_000
_ITERATIONS: Final = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
)


class CannotRebuild(Exception):
    """The text says why a recorded result cannot be given back as it was."""


def rebuild_value(value: Any, result_type: str | None, hint: Any = Any, parts: list[str] | None = None) -> Any:
    """The value that was recorded.

    Args:
        value: what the reader gives.
        result_type: the dotted name of its class as recorded; None: it was plain JSON.
        hint: what the function is annotated to return, resolved; `Any` without annotation.
        parts: what `parts_of` gave for the value; None: that was not recorded.

    Raises:
        CannotRebuild: it cannot be given back with the type it had.
    """
    if result_type is None:
        return value
    reasons = []
    for candidate in (hint, class_named(result_type)):
        if candidate is Any or candidate is None:
            continue
        try:
            built = _build(value, candidate)
        except CannotRebuild as exc:
            reasons.append(str(exc))
            continue
        except Exception as exc:  # noqa: BLE001 - constructors of the agent's own classes run here
            reasons.append(f"{_name(candidate)} refuses it: {type(exc).__name__}: {exc}")
            continue
        wrong = what_is_wrong(built, value, result_type, parts)
        if wrong is None:
            return built
        reasons.append(f"{_name(candidate)} {wrong}")
    why = f"; {reasons[0]}" if reasons else "; nothing that is loaded has this name, and no annotation says more"
    raise CannotRebuild(f"its result was a {result_type}, which the recorded JSON does not give back{why}")


def what_is_wrong(built: Any, value: Any, result_type: str, parts: list[str] | None) -> str | None:
    """Why a value made anew is not the recorded one, as the end of a sentence; None if it is. See `rebuild_value`."""
    if _dotted(type(built)) != result_type:
        return f"makes a {_dotted(type(built))} of it"
    if _wire(built) != _wire(value):
        return "would not be recorded as the same JSON again"
    if parts is not None and (made := parts_of(built)) != parts:
        return f"does not say what in it was {', '.join(one for one in parts if one not in made) or 'something else'}"
    return None


def rebuild_error(data: ErrorData, make: Callable[[type, list[Any]], BaseException] | None = None) -> BaseException:
    """The exception that was recorded, made anew from its arguments.

    Args:
        make: makes one of a class and the recorded arguments, which are then not the exception's `args`.

    Raises:
        CannotRebuild: its class is not loaded, or makes another exception of the recorded arguments.
    """
    kind = class_named(data.type)
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise CannotRebuild(f"it raised {data.type}, a class that is not loaded")
    args = [revive(arg, lambda _: None) for arg in data.args or ()]
    try:
        error = kind(*args) if make is None else make(kind, args)
        same = type(error) is kind and str(error) == data.message
        if make is None:
            same = same and [_wire(arg) for arg in error.args] == [_wire(arg) for arg in args]
    except Exception as exc:
        raise CannotRebuild(
            f"it raised {data.type}, which cannot be made from its arguments: {type(exc).__name__}: {exc}"
        ) from exc
    if not same:
        raise CannotRebuild(f"it raised {data.type}, which is not made from its arguments alone")
    return error


def class_named(dotted: str) -> Any:
    """The class of this dotted name if its module is loaded, else None."""
    parts = dotted.split(".")
    for end in range(len(parts) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(parts[:end]))
        if found is None:
            continue
        for name in parts[end:]:
            found = vars(found).get(name) if isinstance(found, type | types.ModuleType) else None
        return found if isinstance(found, type) else None
    return None


def return_hint(function: Any) -> Any:
    """What a function is annotated to return; `Any` where that is not said or cannot be resolved."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - annotations are the agent's code, and may name what is not there
        hints = getattr(function, "__annotations__", {})
        return Any if isinstance(hints.get("return"), str) else hints.get("return", Any)
    return hints.get("return", Any)


def item_hint(hint: Any) -> Any:
    """What a generator with this return annotation gives."""
    origin = typing.get_origin(hint)
    return typing.get_args(hint)[0] if origin in _ITERATIONS and typing.get_args(hint) else Any


# --- building --------------------------------------------------------------------------------------------------------


def _build(value: Any, hint: Any) -> Any:
    """The value a type makes of what was recorded of it."""
    hint = _plain_hint(hint)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return value
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _build_union(value, typing.get_args(hint))
    if origin is typing.Literal:
        return _build_literal(value, typing.get_args(hint))
    if origin is not None:
        return _build_container(value, origin, typing.get_args(hint))
    if hint is None or hint is type(None):
        return _checked(value, type(None))
    if not isinstance(hint, type):
        raise CannotRebuild(f"the annotation {hint!r} says too little")
    return _build_class(value, hint)


def _plain_hint(hint: Any) -> Any:
    """An annotation without `Annotated`, `NewType`, aliases and the like around it."""
    while True:
        if typing.get_origin(hint) in (typing.Annotated, typing.Final, typing.Required, typing.NotRequired):
            hint = typing.get_args(hint)[0]
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            return hint


def _build_union(value: Any, arms: tuple[Any, ...]) -> Any:
    # What JSON holds as it is comes before what is made of it: a text in `str | datetime` is a text.
    for arm in sorted(arms, key=lambda arm: _plain_hint(arm) not in (str, int, float, bool, None, type(None))):
        try:
            built = _build(value, arm)
        except Exception:  # noqa: BLE001 - the next one may fit
            continue
        if _wire(built) == _wire(value):
            return built
    raise CannotRebuild(f"no part of {' | '.join(_name(arm) for arm in arms)} fits")


def _build_literal(value: Any, allowed: tuple[Any, ...]) -> Any:
    for one in allowed:
        if _wire(one) == _wire(value):
            return one
    raise CannotRebuild(f"{value!r} is none of the literals")


def _build_container(value: Any, origin: Any, args: tuple[Any, ...]) -> Any:
    if origin in _SEQUENCES or origin in _ITERATIONS:
        return [_build(item, args[0]) for item in _checked(value, list)]
    if origin in (set, frozenset, collections.abc.Set, collections.abc.MutableSet):
        kind = frozenset if origin is frozenset else set
        return kind(_build(item, args[0]) for item in _checked(value, list))
    if origin is tuple:
        items = _checked(value, list)
        if len(args) == 2 and args[1] is ...:
            return tuple(_build(item, args[0]) for item in items)
        if args == ((),):
            args = ()
        if len(args) != len(items):
            raise CannotRebuild(f"a tuple of {len(args)} cannot have {len(items)} items")
        return tuple(_build(item, arg) for item, arg in zip(items, args, strict=True))
    if origin in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
        return {_key(name, args[0]): _build(item, args[1]) for name, item in _checked(value, dict).items()}
    if isinstance(origin, type):  # a generic class of the agent's
        return _build_class(value, origin)
    raise CannotRebuild(f"the annotation {_name(origin)} says too little")


def _key(name: str, hint: Any) -> Any:
    hint = _plain_hint(hint)
    if hint is int:
        return int(name)  # keys are recorded as text
    return _build(name, hint)


def _build_class(value: Any, kind: type) -> Any:
    if kind in (str, int, float, bool, list, dict, bytes):
        return _checked(value, kind)
    if kind in (tuple, set, frozenset, bytearray):
        return kind(_checked(value, bytes if kind is bytearray else list))
    if issubclass(kind, enum.Enum):
        return _build_enum(value, kind)
    if kind.__module__ in _FROM_TEXT or issubclass(kind, msgspec.Struct):
        return msgspec.convert(value, kind)
    if typing.is_typeddict(kind):
        return _build_typed_dict(value, kind)
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(value, kind)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        hints = typing.get_type_hints(kind, include_extras=True)
        items = _checked(value, list)
        return kind(*(_build(item, hints.get(name, Any)) for item, name in zip(items, kind._fields, strict=True)))
    if callable(getattr(kind, "model_validate", None)):  # pydantic
        return _build_model(value, kind)
    raise CannotRebuild(f"{_name(kind)} is no record of named fields")


def _build_enum(value: Any, kind: type[enum.Enum]) -> enum.Enum:
    for member in kind:
        if _wire(member) == _wire(value):
            return member
    raise CannotRebuild(f"{_name(kind)} has no member with the value {value!r}")


def _build_typed_dict(value: Any, kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {name: _build(item, hints.get(name, Any)) for name, item in _checked(value, dict).items()}


def _build_dataclass(value: Any, kind: type) -> Any:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = dataclasses.fields(kind)
    taken = {field.name for field in fields if field.init}
    given = {name: _build(item, hints.get(name, Any)) for name, item in _checked(value, dict).items() if name in taken}
    return kind(**given)


def _build_model(value: Any, kind: Any) -> Any:
    """Models are recorded by the names of their fields, not by their aliases."""
    try:
        return kind.model_validate(value, by_name=True)
    except TypeError:  # before pydantic 2.11
        return kind.model_validate(value)


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise CannotRebuild(f"a {_name(kind)} is wanted, a {type(value).__name__} was recorded")
    return value


# --- comparing and naming --------------------------------------------------------------------------------------------


def _wire(value: Any) -> Any:
    """What would be written of a value, read back or not."""
    return to_wire(revive(to_wire(value), lambda _: None))


def _dotted(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _name(hint: Any) -> str:
    return str(getattr(hint, "__qualname__", hint))


def parts_of(value: Any) -> list[str]:
    """Dotted names of the classes of a value and of what is in it, but for those that JSON holds; sorted.

    A class that occurs more than once has `×` and the number behind it. Keys that are no text count as `key of` their
    class. Beyond 10,000 values, as in a circle, the last entry is `…`.
    """
    found: Counter[str] = Counter()
    left, waiting = _PARTS_MAX, [value]
    while waiting:
        left -= 1
        if left < 0:
            return [*_counted(found), "…"]
        one = waiting.pop()
        kind = type(one)
        if kind in _PLAIN:
            continue
        if kind not in (dict, list):
            found[_dotted(kind)] += 1
        if isinstance(one, Mapping):
            found.update(f"key of {_dotted(type(key))}" for key in one if type(key) is not str)
            waiting.extend(one.values())
        elif isinstance(one, list | tuple | set | frozenset):
            waiting.extend(one)
        elif isinstance(one, msgspec.Struct):
            waiting.extend(getattr(one, info.name) for info in msgspec.structs.fields(one))
        elif dataclasses.is_dataclass(kind):
            waiting.extend(getattr(one, field.name) for field in dataclasses.fields(kind))
        elif callable(getattr(kind, "model_dump", None)):
            waiting.extend(vars(one).values())
    return _counted(found)


def _counted(found: Counter[str]) -> list[str]:
    return sorted(name if number == 1 else f"{name} ×{number}" for name, number in found.items())
