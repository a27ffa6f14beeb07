"""Makes `fakes` and `made_runs` importable under pytest's importlib mode."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

for name in ("fakes", "made_runs"):
    if f"replay_{name}" not in sys.modules:
        spec = importlib.util.spec_from_file_location(f"replay_{name}", Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[f"replay_{name}"] = module
        spec.loader.exec_module(module)
