"""Versions of the client libraries a program has used: what a rerun that differs may be explained by."""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["library_versions"]

# Module: distribution. Those that shape requests, or turn answers into what the program sees.
_LIBRARIES: Final = {
    "agents": "openai-agents",
    "aiohttp": "aiohttp",
    "anthropic": "anthropic",
    "botocore": "botocore",
    "google.genai": "google-genai",
    "httpx": "httpx",
    "httpx2": "httpx2",
    "langchain_core": "langchain-core",
    "langgraph": "langgraph",
    "litellm": "litellm",
    "mcp": "mcp",
    "numpy": "numpy",
    "openai": "openai",
    "pydantic": "pydantic",
    "pydantic_ai": "pydantic-ai-slim",
    "requests": "requests",
    "urllib3": "urllib3",
}


def library_versions() -> dict[str, str]:
    """Distribution and version of each known library that is loaded. Imports nothing of theirs."""
    found = {}
    for module, distribution in _LIBRARIES.items():
        loaded = sys.modules.get(module)
        if loaded is None:
            continue
        version = getattr(loaded, "__version__", None) or _installed(distribution)
        if isinstance(version, str):
            found[distribution] = version
    return found


def _installed(distribution: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # the program has a module of its own by that name
        return None
