"""Hooks run after a module is imported, and leave no trace of themselves."""

from __future__ import annotations

import importlib
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from unspool.capture.imports import ImportHooks


@pytest.fixture
def hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImportHooks]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    hooks = ImportHooks()
    hooks.install()
    yield hooks
    hooks.remove()
    assert hooks not in sys.meta_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_module_imported_later(hooks: ImportHooks, tmp_path: Path) -> None:
    (tmp_path / "hooked_later.py").write_text("VALUE = 1")
    seen: list[ModuleType] = []
    hooks.add("hooked_later", seen.append)
    module = importlib.import_module("hooked_later")
    assert seen == [module]
    assert "exec_module" not in vars(module.__loader__)
    importlib.reload(module)
    assert seen == [module, module]


def test_a_module_there_already(hooks: ImportHooks) -> None:
    seen: list[ModuleType] = []
    hooks.add("json", seen.append)
    assert seen == [sys.modules["json"]]


def test_a_module_being_imported_by_this_thread(hooks: ImportHooks, tmp_path: Path) -> None:
    (tmp_path / "hooked_early.py").write_text("import hooked_adder\nVALUE = 1\nimport hooked_other\n")
    (tmp_path / "hooked_other.py").write_text("")
    (tmp_path / "hooked_last.py").write_text("")
    (tmp_path / "hooked_adder.py").write_text("import hooked_box\nhooked_box.add()\n")
    box = ModuleType("hooked_box")
    seen: list[int] = []
    box.add = lambda: hooks.add("hooked_early", lambda module: seen.append(module.VALUE))  # type: ignore[attr-defined]
    sys.modules["hooked_box"] = box
    importlib.import_module("hooked_early")
    importlib.import_module("hooked_last")
    assert seen == [1]


def test_a_package_without_init_and_one_that_fails(hooks: ImportHooks, tmp_path: Path) -> None:
    (tmp_path / "hooked_space").mkdir()
    (tmp_path / "hooked_broken.py").write_text("raise ImportError('as ever')")
    seen: list[str] = []
    hooks.add("hooked_space", lambda module: seen.append(module.__name__))
    hooks.add("hooked_broken", lambda module: seen.append(module.__name__))
    hooks.add("hooked_absent", lambda module: seen.append(module.__name__))
    importlib.import_module("hooked_space")
    with pytest.raises(ImportError, match="as ever"):
        importlib.import_module("hooked_broken")
    with pytest.raises(ModuleNotFoundError, match="hooked_absent"):
        importlib.import_module("hooked_absent")
    assert seen == []  # there is no code of it to run a hook after


def test_modules_that_share_a_loader(hooks: ImportHooks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "modules.zip", "w") as archive:
        archive.writestr("hooked_zip.py", "import hooked_zip_other")
        archive.writestr("hooked_zip_other.py", "")
    monkeypatch.syspath_prepend(str(tmp_path / "modules.zip"))
    seen: list[str] = []
    hooks.add("hooked_zip", lambda module: seen.append(module.__name__))
    importlib.import_module("hooked_zip_other")
    importlib.import_module("hooked_zip")
    assert seen == ["hooked_zip"]


def test_a_hook_that_fails_does_not_fail_the_import(hooks: ImportHooks, tmp_path: Path) -> None:
    (tmp_path / "hooked_badly.py").write_text("")

    def broken(module: ModuleType) -> None:
        raise RuntimeError("a bug of ours")

    hooks.add("hooked_badly", broken)
    assert importlib.import_module("hooked_badly").__name__ == "hooked_badly"
