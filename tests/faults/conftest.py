"""Makes the harness of the end-to-end tests importable here too."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

if "capture_harness" not in sys.modules:
    path = Path(__file__).parents[1] / "e2e" / "harness.py"
    spec = importlib.util.spec_from_file_location("capture_harness", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["capture_harness"] = module
    spec.loader.exec_module(module)
