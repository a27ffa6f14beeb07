"""Makes `fakes` and `recordings` importable under pytest's importlib mode."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

for name, file in (("trace_fakes", "fakes.py"), ("trace_recordings", "recordings.py")):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(file))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
