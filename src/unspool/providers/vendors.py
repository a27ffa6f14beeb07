"""Who is called, by the host of the URL: the vendor in the device path /dev/llm/<vendor>/<model>."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

__all__ = ["host_port", "vendor_of_host"]

# A name stands for the domain and all below it; the longest that fits decides.
_VENDORS: Final = {
    "ai-gateway.vercel.sh": "vercel",
    "aliyuncs.com": "alibaba",
    "amazonaws.com": "bedrock",
    "anthropic.com": "anthropic",
    "api.aws": "bedrock",
    "azure.com": "azure",
    "azure.us": "azure",
    "baseten.co": "baseten",
    "bigmodel.cn": "zai",
    "cerebras.ai": "cerebras",
    "chatgpt.com": "openai",
    "claude.com": "anthropic",
    "cloudflare.com": "cloudflare",
    "cohere.ai": "cohere",
    "cohere.com": "cohere",
    "databricks.com": "databricks",
    "deepinfra.com": "deepinfra",
    "deepseek.com": "deepseek",
    "fireworks.ai": "fireworks",
    "githubcopilot.com": "github",
    "googleapis.com": "google",
    "groq.com": "groq",
    "huggingface.co": "huggingface",
    "hyperbolic.xyz": "hyperbolic",
    "minimax.io": "minimax",
    "mistral.ai": "mistral",
    "models.github.ai": "github",
    "moonshot.ai": "moonshot",
    "moonshot.cn": "moonshot",
    "nebius.com": "nebius",
    "novita.ai": "novita",
    "nvidia.com": "nvidia",
    "ollama.com": "ollama",
    "openai.com": "openai",
    "openrouter.ai": "openrouter",
    "perplexity.ai": "perplexity",
    "portkey.ai": "portkey",
    "sambanova.ai": "sambanova",
    "together.ai": "together",
    "together.xyz": "together",
    "x.ai": "xai",
    "z.ai": "zai",
}
_PORTS: Final = {11434: "ollama", 1234: "lmstudio"}


def vendor_of_host(url: str) -> str | None:
    """The vendor whose host (or whose local server's usual port) `url` names, None for any other."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:  # a port or an IPv6 address that is none
        return None
    labels = host.split(".")
    for start in range(len(labels) - 1):
        vendor = _VENDORS.get(".".join(labels[start:]))
        if vendor is not None:
            return vendor
    return _PORTS.get(port or 0)


def host_port(url: str) -> str:
    """The host and port of a URL, as device paths of the network name them; `?` where it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return f"{parts.hostname or '?'}:{port}"
    except ValueError:
        return "?"
