"""Recorded exchanges as fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from unspool import providers
from unspool.events import Context, LLMResponse

CASSETTES = Path(__file__).parents[2] / "data" / "cassettes"


class Exchange(NamedTuple):
    """One recorded exchange, and how unspool reads it."""

    url: str
    request: bytes
    response: bytes
    content_type: str | None
    status: int
    provider: providers.Provider

    def context(self) -> Context:
        return self.provider.parse_request(self.url, self.request)

    def answer(self, response: bytes | None = None, *, complete: bool = True) -> LLMResponse:
        body = self.response if response is None else response
        return self.provider.parse_response(self.url, body, self.content_type, self.status, complete)


def _read(path: Path) -> Exchange:
    raw: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    provider = providers.match(raw["method"], raw["url"])
    assert provider is not None, path.name
    return Exchange(
        raw["url"], raw["request"].encode(), raw["response"].encode(), raw["content_type"], raw["status"], provider
    )


@pytest.fixture(scope="session")
def cassettes() -> dict[str, Exchange]:
    """Every checked-in exchange by name."""
    return {path.stem: _read(path) for path in sorted(CASSETTES.glob("*.json"))}


@pytest.fixture
def cassette(cassettes: dict[str, Exchange]) -> Callable[[str], Exchange]:
    """One checked-in exchange."""
    return cassettes.__getitem__
