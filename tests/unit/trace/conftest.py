"""Makes `fakes` importable under pytest's importlib mode."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

if "trace_fakes" not in sys.modules:
    spec = importlib.util.spec_from_file_location("trace_fakes", Path(__file__).with_name("fakes.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["trace_fakes"] = module
    spec.loader.exec_module(module)
