"""Running a hook right after a module is imported, whenever that is, without changing how it is imported."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from unspool.capture.guard import guard

__all__ = ["ImportHooks"]


class ImportHooks(MetaPathFinder):
    """A finder that finds nothing itself: it asks the others, and adds a hook to what they found."""

    def __init__(self) -> None:
        self._hooks: dict[str, Callable[[ModuleType], None]] = {}
        self._asking = threading.local()

    def add(self, name: str, hook: Callable[[ModuleType], None]) -> None:
        """Call `hook(module)` once the module is loaded; at once if it already is."""
        module = sys.modules.get(name)
        # A module still being imported has a spec that says so; its names may not be there yet.
        if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
            with guard:
                hook(module)
            return
        self._hooks[name] = hook

    def install(self) -> None:
        """Take the first place among the finders."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Leave the finders."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        self._hooks.clear()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        hook = self._hooks.get(fullname)
        if hook is None or getattr(self._asking, "name", None) == fullname:
            return None
        self._asking.name = fullname
        try:
            spec = importlib.util.find_spec(fullname)
        except (ImportError, ValueError, AttributeError):
            return None  # the other finders will be asked again, and say what is wrong
        finally:
            self._asking.name = None
        if spec is None or spec.loader is None:
            return spec
        with guard:
            self._follow(spec.loader, fullname, hook)
        return spec

    def _follow(self, loader: Any, name: str, hook: Callable[[ModuleType], None]) -> None:
        exec_module = loader.exec_module

        def exec_and_hook(module: ModuleType) -> None:
            # The loader gets its own method back first: what looks at it later must not meet ours.
            del loader.exec_module
            exec_module(module)
            self._hooks.pop(name, None)
            with guard:
                hook(module)

        loader.exec_module = exec_and_hook
