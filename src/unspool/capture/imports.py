"""Running a hook right after a module is imported, whenever that is, without changing how it is imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from unspool.capture.guard import guard

__all__ = ["ImportHooks"]

Hook = Callable[[ModuleType], None]


class ImportHooks:
    """A finder that finds nothing itself: it asks the others, and adds a hook to what they found.

    Not a subclass of `importlib.abc.MetaPathFinder`, which costs a dozen imports and gives nothing.
    """

    def __init__(self) -> None:
        self._hooks: dict[str, Hook] = {}
        self._late: list[str] = []  # being imported further up the stack when their hook was added

    def add(self, name: str, hook: Hook) -> None:
        """Call `hook(module)` each time the module is loaded; at once if it already is."""
        self._hooks[name] = hook
        module = sys.modules.get(name)
        if module is None:
            return
        if _is_initializing(module):
            with guard:
                import_module(name)  # waits for the thread that is importing it
            if _is_initializing(module):
                self._late.append(name)  # it is this very thread
                return
        with guard:
            hook(module)

    def install(self) -> None:
        """Take the first place among the finders."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Leave the finders."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        self._hooks.clear()
        self._late.clear()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the finders after this one find, for names that have a hook; None for all others."""
        if self._late:
            self._run_late()
        hook = self._hooks.get(fullname)
        if hook is None:
            return None
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    with guard:
                        _follow(spec.loader, fullname, hook)
                return spec
        return None

    def invalidate_caches(self) -> None:
        """Nothing is cached here."""

    def _run_late(self) -> None:
        for name in list(self._late):
            module = sys.modules.get(name)
            if module is not None and not _is_initializing(module):
                self._late.remove(name)
                hook = self._hooks.get(name)
                if hook is not None:
                    with guard:
                        hook(module)


def _is_initializing(module: ModuleType) -> bool:
    # A module still being imported has a spec that says so; its names may not be there yet.
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _follow(loader: Any, name: str, hook: Hook) -> None:
    exec_module = loader.exec_module

    def exec_and_hook(module: ModuleType) -> None:
        if module.__name__ != name:  # one loader may load several modules (zip files)
            exec_module(module)
            return
        # The loader gets its own method back first: what looks at it later must not meet ours.
        loader.__dict__.pop("exec_module", None)
        exec_module(module)
        with guard:
            hook(module)

    loader.exec_module = exec_and_hook
