"""Makes the modules beside the tests importable under pytest's importlib mode, and the browser's fixtures known."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

for name in ("harness", "webserver", "reruns", "browser", "hostile"):
    if f"capture_{name}" not in sys.modules:
        spec = importlib.util.spec_from_file_location(f"capture_{name}", Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[f"capture_{name}"] = module
        spec.loader.exec_module(module)

from capture_browser import chromium, demo, person, server  # noqa: E402, F401 - made importable above
