"""Makes `made_contexts` importable under pytest's importlib mode."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

if "made_contexts" not in sys.modules:
    spec = importlib.util.spec_from_file_location("made_contexts", Path(__file__).with_name("made_contexts.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["made_contexts"] = module
    spec.loader.exec_module(module)

# The run of benchmarks/web.py, smaller, for tests that need a long one.
if "bench_web" not in sys.modules:
    bench = importlib.util.spec_from_file_location("bench_web", Path(__file__).parents[3] / "benchmarks" / "web.py")
    assert bench is not None
    assert bench.loader is not None
    sys.modules["bench_web"] = importlib.util.module_from_spec(bench)
    bench.loader.exec_module(sys.modules["bench_web"])
