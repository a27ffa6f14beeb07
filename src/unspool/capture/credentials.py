"""Keeping credentials off the disk: headers, URLs, command lines, environment."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit, urlunsplit

__all__ = ["REDACTED", "clean_argv", "clean_environment", "clean_headers", "clean_url", "is_credential_name"]

REDACTED = "REDACTED"

# Header, query and variable names. Response headers are included: Set-Cookie is as good as a password.
_HEADER = re.compile(
    r"authorization|cookie|api[-_]?key|^x-goog-(?:api-key|iam|user-project)|token|secret|password|passwd|credential"
    r"|signature|^x-amz-security|session-?(?:id|key)|^x-csrf|private[-_]?key|^openai-organization$",
    re.IGNORECASE,
)
# Names that look like credentials and are facts a profiler needs.
_HARMLESS_HEADER = re.compile(r"^x-ratelimit-|^anthropic-ratelimit-|-tokens?(?:-remaining|-limit|-reset)?$", re.IGNORECASE)
_QUERY = re.compile(r"^(?:key|api[-_]?key|.*token|.*secret|.*passw(?:or)?d|sig|.*signature|x-amz-.*|.*credential.*|code)$", re.IGNORECASE)
_QUERY_PAIR = re.compile(r"([^&;=]+)=([^&;]*)")
_VARIABLE = re.compile(r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASS|CREDENTIALS?|AUTH|DSN|COOKIE)(?:_|$)", re.IGNORECASE)
_MIN_SECRET = 8  # shorter values are words that occur everywhere

# Values worth keeping: how a program was run, never who ran it.
_KEPT_VALUES = frozenset(
    "CI COLUMNS LANG LANGUAGE LC_ALL LC_CTYPE LINES NO_COLOR PATH PWD PYTHONDONTWRITEBYTECODE PYTHONHASHSEED "
    "PYTHONIOENCODING PYTHONOPTIMIZE PYTHONPATH PYTHONUNBUFFERED PYTHONUTF8 PYTHONWARNINGS SHELL TERM TZ VIRTUAL_ENV "
    "CONDA_DEFAULT_ENV OPENAI_BASE_URL ANTHROPIC_BASE_URL GOOGLE_GEMINI_BASE_URL OPENAI_API_VERSION OPENAI_API_TYPE "
    "OLLAMA_HOST".split()
)


def is_credential_name(name: str) -> bool:
    """Whether a header of this name carries a credential."""
    return bool(_HEADER.search(name)) and not _HARMLESS_HEADER.search(name)


_header_verdicts: dict[str, bool] = {}


def clean_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers with the values of credentials replaced; the names stay, so that a reader sees what was sent."""
    out = []
    for name, value in headers:
        verdict = _header_verdicts.get(name)
        if verdict is None:
            if len(_header_verdicts) > 1000:
                _header_verdicts.clear()
            verdict = _header_verdicts[name] = is_credential_name(name)
        out.append((name, REDACTED if verdict else value))
    return out


def clean_url(url: str) -> str:
    """A URL without user information and with the values of credential parameters replaced."""
    if "@" not in url and "?" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0]
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{REDACTED}@{host}" if "@" in parts.netloc else parts.netloc
    query = _QUERY_PAIR.sub(lambda m: f"{m[1]}={REDACTED}" if _QUERY.match(m[1]) else m[0], parts.query)
    return urlunsplit((parts.scheme, netloc, parts.path, query, parts.fragment))


def clean_environment(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The values on the allow-list, and the names of all variables, sorted."""
    kept = {name: clean_url(value) for name, value in environ.items() if name in _KEPT_VALUES}
    return kept, sorted(environ)


def secrets_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Values of the environment that are credentials, each with the name of its variable."""
    return {
        value: name for name, value in environ.items() if len(value) >= _MIN_SECRET and _VARIABLE.search(name)
    }


_OPTION = re.compile(r"^--?[\w-]*(?:key|token|secret|password|passwd|credential)[\w-]*$", re.IGNORECASE)


def clean_argv(argv: Iterable[str], environ: Mapping[str, str] | None = None) -> list[str]:
    """A command line whose credentials are replaced: values equal to a variable's by `${NAME}`, others by REDACTED."""
    secrets = secrets_of(os.environ if environ is None else environ)
    out: list[str] = []
    for word in argv:
        word = str(word)  # noqa: PLW2901 - paths and bytes may stand in an argv
        if out and _OPTION.match(out[-1]) and not word.startswith("-"):
            out.append(f"${{{secrets[word]}}}" if word in secrets else REDACTED)
            continue
        name, equals, value = word.partition("=")
        if equals and _OPTION.match(name):
            out.append(f"{name}={'${' + secrets[value] + '}' if value in secrets else REDACTED}")
            continue
        for secret, variable in secrets.items():
            if secret in word:
                word = word.replace(secret, f"${{{variable}}}")  # noqa: PLW2901
        out.append(clean_url(word) if "://" in word else word)
    return out
