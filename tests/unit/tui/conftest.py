"""Makes `made` importable under pytest's importlib mode."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

if "tui_made" not in sys.modules:
    spec = importlib.util.spec_from_file_location("tui_made", Path(__file__).with_name("made.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tui_made"] = module
    spec.loader.exec_module(module)
