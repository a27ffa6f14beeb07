"""How the agents of this folder are put together: named scenarios, each printing one line, always the same."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
from collections.abc import Callable

URL = os.environ.get("MODEL_URL", "")
_all: dict[str, Callable[[], object]] = {}


def scenario(function):
    _all[function.__name__] = function
    return function


def main() -> None:
    """Run the scenarios named on the command line, or all; an exception is a result like any other."""
    for name in sys.argv[1:] or list(_all):
        function = _all[name]
        try:
            result = asyncio.run(function()) if inspect.iscoroutinefunction(function) else function()
        except Exception as error:
            chain, seen = [], error
            while seen is not None:
                chain.append(type(seen).__name__)
                seen = seen.__cause__
            result = {"error": chain[0], "because": chain[-1]}
        print(json.dumps({name: result}), flush=True)
