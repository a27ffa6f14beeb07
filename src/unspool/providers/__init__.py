"""Wire formats of model providers: raw bodies in, `Context` and `LLMResponse` out.

Pure functions without I/O, imported in the agent's process. A format is one module with a `PROVIDER`; adding one
touches that module and the table here. Parsing never raises, whatever the bytes: what cannot be read is said in
`partial` or `error`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from unspool.providers import anthropic, gemini, openai_chat, openai_responses
from unspool.providers.provider import Provider, RequestHead
from unspool.providers.vendors import host_port, vendor_of_host
from unspool.providers.wire import as_object, decode_json

__all__ = ["PROVIDERS", "Provider", "RequestHead", "host_port", "match", "request_head", "request_id", "vendor"]

PROVIDERS: Final[dict[str, Provider]] = {
    module.PROVIDER.name: module.PROVIDER for module in (openai_chat, openai_responses, anthropic, gemini)
}
# Where providers put the id to quote to their support: OpenAI and most, Anthropic, Google, Azure, AWS.
_REQUEST_IDS: Final = ("x-request-id", "request-id", "x-goog-request-id", "apim-request-id", "x-amzn-requestid")
_SUFFIXES: Final = tuple(suffix for provider in PROVIDERS.values() for suffix in provider.suffixes)


def match(method: str, url: str) -> Provider | None:
    """The wire format of a call, by method and URL path alone; None if it is no call of a model.

    Runs for every HTTP request of the agent, so what most requests fail comes first: the end of the path.
    """
    path = url.partition("?")[0].partition("#")[0].removesuffix("/")
    if not path.endswith(_SUFFIXES) or method.upper() != "POST":
        return None
    for provider in PROVIDERS.values():
        if path.endswith(provider.suffixes) and provider.accepts(path):
            return provider
    return None


def vendor(provider: Provider, url: str) -> str:
    """The name for the device path /dev/llm/<vendor>/<model>: who is called, else who invented the wire format."""
    return vendor_of_host(url) or provider.vendor


def request_id(headers: Iterable[tuple[str, str]]) -> str | None:
    """The provider's id of a request, from the headers of its response."""
    return next((value for name, value in headers if name.lower() in _REQUEST_IDS), None)


def request_head(provider: Provider, url: str, skeleton: bytes) -> RequestHead:
    """Model, stream flag and provider-side state of a request; raises nothing.

    Args:
        skeleton: the request body, which may have its arrays emptied.
    """
    try:
        document = as_object(decode_json(skeleton))
    except ValueError:
        document = {}
    return provider.read_head(url, document)
