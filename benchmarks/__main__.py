"""Run the benchmarks named on the command line, or all."""

from __future__ import annotations

import importlib
import sys

NAMES = (
    *("write_event", "loop", "open_million", "startup", "catalog", "blame", "whowhen", "growth", "temperature"),
    *("tokens", "profile_speed"),
    *("context_diff", "diff_runs", "rerun"),
    *("otlp_import", "otlp_endpoint"),
    "web",
    "tui",
)


def main() -> int:
    chosen = sys.argv[1:] or list(NAMES)
    unknown = [name for name in chosen if name not in NAMES]
    if unknown:
        print(f"no benchmark named {', '.join(unknown)}; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    for name in chosen:
        module = importlib.import_module(f"benchmarks.{name}")
        print(f"== {name}: {(module.__doc__ or '').splitlines()[0]}")
        module.main()
        print(flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
