"""Keeping credentials off the disk: headers, URLs, command lines, environment."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from unspool.events import ErrorData

__all__ = [
    "REDACTED",
    "clean_argv",
    "clean_environment",
    "clean_error",
    "clean_headers",
    "clean_text",
    "clean_url",
    "is_credential_name",
    "is_credential_variable",
    "own_command",
    "secrets_of",
]

REDACTED = "REDACTED"

# Header, query and variable names. Response headers are included: Set-Cookie is as good as a password.
_HEADER = re.compile(
    r"authorization|cookie|api[-_]?key|(?:^|[-_])keys?$|(?:^|[-_])auth(?:$|[-_])|^x-goog-(?:iam|user-project)|token|secret"
    r"|passw(?:or)?d|passphrase|credential|signature|^x-amz-security|session-?id|^x-csrf|^openai-organization$",
    re.IGNORECASE,
)
# Names that look like credentials and are facts a profiler or a rerun needs.
_HARMLESS_HEADER = re.compile(
    r"^x-ratelimit-|^anthropic-ratelimit-|-tokens(?:-remaining|-limit|-reset)?$|^(?:x-)?idempotency-key$",
    re.IGNORECASE,
)
_QUERY = re.compile(
    r"^(?:code|sig|pwd|auth)$|(?:^|[-_.])key$|(?:apikey|token|secret|passw(?:or)?d|signature)$|credential|^x-amz-",
    re.IGNORECASE,
)
_QUERY_PAIR = re.compile(r"([^&;=]+)=([^&;]*)")
_VARIABLE = re.compile(
    r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASS|CREDENTIALS?|AUTH|DSN|COOKIE)(?:_|$)", re.IGNORECASE
)
_MIN_SECRET = 8  # shorter values are words that occur everywhere

# Values worth keeping: how a program was run, never who ran it.
_KEPT_VALUES = frozenset(
    [
        "CI",
        "COLUMNS",
        "LANG",
        "LANGUAGE",
        "LC_ALL",
        "LC_CTYPE",
        "LINES",
        "NO_COLOR",
        "PATH",
        "PWD",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONHASHSEED",
        "PYTHONIOENCODING",
        "PYTHONOPTIMIZE",
        "PYTHONPATH",
        "PYTHONUNBUFFERED",
        "PYTHONUTF8",
        "PYTHONWARNINGS",
        "SHELL",
        "TERM",
        "TZ",
        "VIRTUAL_ENV",
        "CONDA_DEFAULT_ENV",
        "OPENAI_BASE_URL",
        "ANTHROPIC_BASE_URL",
        "GOOGLE_GEMINI_BASE_URL",
        "OPENAI_API_VERSION",
        "OPENAI_API_TYPE",
        "OLLAMA_HOST",
    ]
)


def is_credential_name(name: str) -> bool:
    """Whether a header of this name carries a credential."""
    return bool(_HEADER.search(name)) and not _HARMLESS_HEADER.search(name)


_header_verdicts: dict[str, bool] = {}


def clean_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers with the values of credentials replaced; the names stay, so that a reader sees what was sent."""
    secret = _known_secrets()
    out = []
    for name, value in headers:
        verdict = _header_verdicts.get(name)
        if verdict is None:
            if len(_header_verdicts) > 1000:
                _header_verdicts.clear()
            verdict = _header_verdicts[name] = is_credential_name(name)
        if verdict:
            value = REDACTED  # noqa: PLW2901
        elif "://" in value or "?" in value:  # Location, Referer, Link
            value = clean_text(value)  # noqa: PLW2901
        elif secret is not None:
            value = secret.sub(REDACTED, value)  # noqa: PLW2901
        # Of type str, not of a subclass (multidict's `istr`).
        out.append((str.__str__(name), str.__str__(value)))
    return out


def clean_url(url: str) -> str:
    """A URL without user information and with the values of credential parameters replaced."""
    secret = _known_secrets()
    if secret is not None:
        url = secret.sub(REDACTED, url)
    if "@" not in url and "?" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0]
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{REDACTED}@{host}" if "@" in parts.netloc else parts.netloc
    return urlunsplit((parts.scheme, netloc, parts.path, _clean_query(parts.query), parts.fragment))


def _clean_query(query: str) -> str:
    return _QUERY_PAIR.sub(lambda m: f"{m[1]}={REDACTED}" if _QUERY.search(unquote(m[1])) else m[0], query)


_IN_TEXT = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>()]+")
_QUERY_IN_TEXT = re.compile(r"(?<=\?)[^\s'\"<>()]+")


def clean_text(text: str) -> str:
    """A message without the credentials that URLs in it carry, and without values of the environment's credentials."""
    secret = _known_secrets()
    if secret is not None:
        text = secret.sub(REDACTED, text)
    if "://" in text:
        text = _IN_TEXT.sub(lambda m: clean_url(m[0]), text)
    if "?" in text and "=" in text:  # urllib3 names the path and query only
        text = _QUERY_IN_TEXT.sub(lambda m: _clean_query(m[0]), text)
    return text


def clean_error(error: ErrorData) -> ErrorData:
    """An error whose texts say no credentials."""
    args = None if error.args is None else [_clean_value(arg) for arg in error.args]
    cause = clean_error(error.cause) if error.cause is not None else None
    return ErrorData(type=error.type, message=clean_text(error.message), args=args, cause=cause)


def _clean_value(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {name: _clean_value(item) for name, item in value.items()}
    return [_clean_value(item) for item in value] if isinstance(value, list) else value


_environment_seen: Any = None
_secret_pattern: re.Pattern[str] | None = None


def _known_secrets() -> re.Pattern[str] | None:
    """A pattern of the environment's credentials, made anew when the environment has changed (`load_dotenv`)."""
    global _environment_seen, _secret_pattern
    now = getattr(os.environ, "_data", None)
    if now is None or now != _environment_seen:
        _environment_seen = None if now is None else dict(now)
        secrets = sorted(secrets_of(os.environ), key=len, reverse=True)
        _secret_pattern = re.compile("|".join(map(re.escape, secrets))) if secrets else None
    return _secret_pattern


def clean_environment(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The values on the allow-list, and the names of all variables, sorted."""
    kept = {name: clean_url(value) for name, value in environ.items() if name in _KEPT_VALUES}
    return kept, sorted(environ)


def secrets_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Values of the environment that are credentials, each with the name of its variable."""
    return {value: name for name, value in environ.items() if _VARIABLE.search(name) and _may_be_secret(value)}


def is_credential_variable(name: str) -> bool:
    """Whether an environment variable of this name holds a credential."""
    return bool(_VARIABLE.search(name))


def _may_be_secret(value: str) -> bool:
    # SSH_AUTH_SOCK is a path and AUTH_URL an address: to replace them everywhere would hide what was asked of whom.
    return len(value) >= _MIN_SECRET and not value.startswith("/") and ("://" not in value or "@" in value)


_OPTION_NAME = r"--?[\w-]*(?:key|token|secret|passw(?:or)?d|credential)[\w-]*"
_OPTION = re.compile(f"^{_OPTION_NAME}$", re.IGNORECASE)
_OPTION_IN_TEXT = re.compile(rf"(?<![\w-])({_OPTION_NAME})(\s+|=)(?![-$])(\S+)", re.IGNORECASE)
_HEADER_IN_TEXT = re.compile(r"([\w-]*(?:authorization|api-?key|cookie|token)[\w-]*:\s*)([^'\"\n]+)", re.IGNORECASE)


def clean_argv(argv: Iterable[str], environ: Mapping[str, str] | None = None) -> list[str]:
    """A command line whose credentials are replaced: values equal to a variable's by `${NAME}`, others by REDACTED."""
    secrets = secrets_of(os.environ if environ is None else environ)
    out: list[str] = []
    after_option = False
    for word in map(str, argv):  # paths and bytes may stand in an argv
        if after_option and not word.startswith("-"):
            out.append(f"${{{secrets[word]}}}" if word in secrets else REDACTED)
            after_option = False
            continue
        after_option = bool(_OPTION.match(word))
        name, equals, value = word.partition("=")
        if equals and _OPTION.match(name):
            out.append(f"{name}={'${' + secrets[value] + '}' if value in secrets else REDACTED}")
            continue
        for secret, variable in secrets.items():
            word = word.replace(secret, f"${{{variable}}}")  # noqa: PLW2901
        if " " in word or ":" in word:  # a shell's command, a header
            word = _OPTION_IN_TEXT.sub(rf"\1\2{REDACTED}", word)  # noqa: PLW2901
            word = _HEADER_IN_TEXT.sub(rf"\1{REDACTED}", word)  # noqa: PLW2901
        out.append(clean_text(word))
    return out


def own_command() -> list[str]:
    """The command line of this OS process, as recordings keep it."""
    return clean_argv([sys.executable, *sys.orig_argv[1:]])
