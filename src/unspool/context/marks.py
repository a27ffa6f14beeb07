"""What a text can be recognised by in a later one: quoted spans, paths, identifiers, numbers, rare words.

A mark is a key both texts share: lower case, without underscores, so that `refreshTokenHandler`,
`refresh_token_handler` and "refresh token handler" meet. Outputs of the model are read closely (`Spoken`); what
came before is only searched for marks that were spoken (`held_marks`), which keeps the work linear in the text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from unspool.events import CtxMessage

__all__ = ["Key", "Mark", "MarkKind", "Spoken", "held_marks", "message_text", "normalised", "spoken_text"]

MarkKind = Literal["quote", "path", "identifier", "number", "word"]
Key: TypeAlias = str | tuple[str, ...]


class Mark(Struct, frozen=True):
    """One recognisable thing as a model output spells it.

    `strength` is how much of a proof of use it is when it can come from one place only: 1 is enough by itself.
    """

    kind: MarkKind
    strength: float
    shown: str


QUOTE_WORDS: Final = 5
_QUOTE_CHARS: Final = 20  # five words such as "it is in the a" quote nothing
_CHUNK_CHARS: Final = 1 << 20  # bounds memory on messages of many megabytes
_SPOKEN_CHARS: Final = 1 << 18  # no model writes more in one turn; a tool call may hold a file of any size

# The star makes every word a match: with a plus, a word of megabytes without a separator would be tried from each of
# its characters, which is quadratic.
_TOKEN: Final = re.compile(r"\w+(?:[-./:@,'+]\w+)*")
_PIECE: Final = re.compile(r"[^\W_]+")
_LINE_SUFFIX: Final = re.compile(r"(?::\d+)+$")
_LONGEST_NAME: Final = 300  # looking for a line number at the end of something longer would be quadratic
_NUMBER: Final = re.compile(r"\d+(?:[.,:/-]\d+)*")
_HUMP: Final = re.compile(r"[a-z\d][A-Z]|\w_\w")
# Chinese, Japanese, Korean and Thai are written without spaces: pieces of three characters stand for words.
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\U00020000-\U0003134f]{3,}"
)
_ESCAPES: Final = (("\\n", "\n"), ("\\t", "\t"), ('\\"', '"'), ("\\/", "/"))

_WORD_STRENGTH: Final = 0.34  # three rare words in one output are a use
_UNSPACED_STRENGTH: Final = 0.2
_MIN_WORD: Final = 5
_LONG_WORD: Final = 20  # a hash, a key, a run of one letter: no dictionary has it
# Words of five letters and more that say nothing of where they come from.
_COMMON: Final = frozenset(
    """
    about above across actual after again against almost along already although always among another anything
    around available based because become before behind being below better between beyond cannot change
    changes check clear common complete contains correct could create created currently default details
    different directly doing during either enough every everything example existing first follow following
    found further given going great having however important include includes including inside instead issue
    issues itself large later latest least leave level likely little longer looking looks maybe means might
    moment multiple needed needs never nothing number other others output please point possible present
    problem provide really result results right several should simple since small someone something still
    support system takes their themselves there therefore these thing things think those though three through
    together toward towards under understand until update updated using usually value values version wants
    where whether which while whole within without working would write wrong yourself
    """.split()  # noqa: SIM905 - as a list it is two hundred lines
)
_MIN_JOINED: Final = 10  # "can not" must not be the identifier `cannot`


def message_text(message: CtxMessage) -> str:
    """What can be read of a message: its text and that of its parts."""
    texts = [part.text for part in message.parts or () if part.text]
    return "\n".join([message.content, *texts]) if texts else message.content


def spoken_text(message: CtxMessage) -> str:
    """What a model output says: its text, its reasoning and the values of its tool calls' arguments."""
    texts = [message_text(message)]
    for call in message.tool_calls or ():
        texts.extend(_argument_texts(call.arguments))
    return "\n".join(texts)


def _argument_texts(arguments: str) -> Iterator[str]:
    try:
        decoded = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        yield arguments
        return
    pending: list[Any] = [decoded]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            # Keys are the names of parameters: the tool's words, not the model's.
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif value is not None and not isinstance(value, bool):
            yield str(value)


def normalised(text: str) -> str:
    """The spelling in which marks are compared."""
    return text.lower().replace("_", "")


def _plain(text: str) -> str:
    """Text with the escapes of JSON strings undone, so that a quoted line does not begin with an `n`."""
    if "\\" in text:
        for escape, char in _ESCAPES:
            text = text.replace(escape, char)
    return text


def _chunks(text: str) -> Iterator[str]:
    if len(text) <= _CHUNK_CHARS:
        yield text
        return
    for start in range(0, len(text), _CHUNK_CHARS):
        yield text[start : start + _CHUNK_CHARS]


# --- what an output says ---------------------------------------------------------------------------------------------


class Spoken:
    """What one model output says that could show where it comes from.

    Words in a row, as quotes and as paraphrased identifiers, are many and seldom asked for: they become marks when they
    are.
    """

    def __init__(self, text: str) -> None:
        self._marks: dict[Key, Mark] = {}
        chunk = _plain(text[:_SPOKEN_CHARS])
        tokens = _TOKEN.findall(chunk)
        for token in set(tokens):
            _add_token(self._marks, token)
        for run in [] if chunk.isascii() else _UNSPACED.findall(chunk):
            for piece in _pieces_of_three(run):
                self._marks[piece] = Mark("word", _UNSPACED_STRENGTH, piece)
        words = [word for token in tokens if (word := normalised(token))]
        self._spans = set(_rows(words, QUOTE_WORDS))
        # Little words in between are skipped: "root of the project" and `root_project` may well be the same.
        words = [word for word in words if len(word) > 2 and word.isalpha()]
        self._joined = {"".join(row): row for size in (2, 3, 4) for row in _rows(words, size)}
        self.size = len(self._marks)

    def all_keys(self) -> Iterator[Key]:
        """Every key, some of them more than once."""
        return itertools.chain(self._marks, self._spans, self._joined)

    def lasting_keys(self) -> Iterator[Key]:
        """The keys by which a later output can be seen to take this one up."""
        return itertools.chain(self._marks, self._spans)

    def get(self, key: Key) -> Mark | None:
        """The mark behind a key; None for a row of words that proves nothing."""
        mark = self._marks.get(key)
        if mark is not None or key in self._marks:
            return mark
        if isinstance(key, tuple):
            return Mark("quote", 1.0, " ".join(key)) if sum(map(len, key)) >= _QUOTE_CHARS else None
        row = self._joined.get(key)
        return Mark("identifier", 1.0, " ".join(row)) if row is not None and len(key) >= _MIN_JOINED else None


def _rows(words: list[str], size: int) -> Iterator[tuple[str, ...]]:
    """All runs of `size` words."""
    return zip(*(words[offset:] for offset in range(size)), strict=False)


def _pieces_of_three(run: str) -> Iterator[str]:
    return (run[start : start + 3] for start in range(len(run) - 2))


def _add_token(marks: dict[Key, Mark], token: str) -> None:
    if len(token) > _LONGEST_NAME:
        for piece in set(_PIECE.findall(token)):
            _add_word(marks, piece)
        return
    bare = _LINE_SUFFIX.sub("", token)
    if _NUMBER.fullmatch(token):
        _put(marks, number_key(token), Mark("number", number_strength(token), token))
        return
    if bare.replace("_", "").isalnum():
        _add_word(marks, bare)
        return
    separators = {char for char in bare if not (char.isalnum() or char == "_")}
    if separators & set("/.@:") and len(bare) >= 6 and _is_reference(bare):
        kind: MarkKind = "path" if "/" in bare or _has_extension(bare) else "identifier"
        _put(marks, normalised(bare), Mark(kind, 1.0, token))
        base = bare.rpartition("/")[2]
        if base != bare and _has_extension(base):
            _put(marks, normalised(base), Mark("path", 1.0, token))
    elif any(char.isdigit() for char in bare) and any(char.isalpha() for char in bare) and len(bare) >= 5:
        _put(marks, normalised(bare), Mark("identifier", 1.0, token))
    for piece in _PIECE.findall(bare):
        _add_word(marks, piece)


def _is_reference(token: str) -> bool:
    """Whether a compound names something; `and/or` and `e.g` do not."""
    return token.count("/") > 1 or "@" in token or _has_extension(token) or len(token) >= 9


def _has_extension(token: str) -> bool:
    stem, dot, extension = token.rpartition(".")
    return bool(dot) and len(stem) >= 2 and 1 <= len(extension) <= 5 and extension.isalnum()


def _add_word(marks: dict[Key, Mark], word: str) -> None:
    key = normalised(word)
    if word.isdecimal():
        _put(marks, number_key(word), Mark("number", number_strength(word), word))
    elif len(key) >= _LONG_WORD:
        _put(marks, key, Mark("identifier", 1.0, word))
    elif any(char.isdigit() for char in word):
        if len(key) >= 4:
            _put(marks, key, Mark("identifier", 1.0, word))
    elif _HUMP.search(word):
        if len(key) >= 6:
            _put(marks, key, Mark("identifier", 1.0, word))
    elif len(key) >= 3 and word.isupper():
        _put(marks, key, Mark("word", 0.5, word))
    elif len(key) >= _MIN_WORD and key not in _COMMON:
        _put(marks, key, Mark("word", _WORD_STRENGTH, word))


def _put(marks: dict[Key, Mark], key: Key, mark: Mark) -> None:
    known = marks.get(key)
    if mark.strength > 0 and (known is None or known.strength < mark.strength):
        marks[key] = mark


# --- numbers ---------------------------------------------------------------------------------------------------------


def number_key(text: str) -> str:
    """One spelling for `48,213`, `48213` and `48213.00`; dates, times and versions stay as they are."""
    plain = text.replace(",", "")
    if plain.count(".") == 1 and plain.replace(".", "").isdecimal():
        plain = plain.rstrip("0").rstrip(".")
    return "#" + (plain.lstrip("0") or "0")


def number_strength(text: str) -> float:
    """By significant digits: a reader who has one of a million values knows its source, one of a hundred does not."""
    digits = "".join(char for char in number_key(text) if char.isdecimal())
    significant = len(digits.rstrip("0"))
    if significant >= 5:
        return 1.0
    if significant == 4:
        return 0.3 if digits.startswith(("19", "20")) and len(digits) == 4 else 1.0  # a year
    return (0.0, 0.0, 0.25, 0.9)[significant]


# --- what was there to be spoken of ----------------------------------------------------------------------------------


def held_marks(text: str, spoken: frozenset[Key] | set[Key]) -> tuple[set[Key], int]:
    """The marks of `text` that are spoken somewhere, and how many different tokens the text has."""
    found: set[Key] = set()
    size = 0
    for chunk in _chunks(_plain(text)):
        tokens = _TOKEN.findall(normalised(chunk))
        distinct = set(tokens)
        size += len(distinct)
        found.update(spoken.intersection(distinct))
        found.update(spoken.intersection(_inner_keys(distinct)))
        found.update(spoken.intersection(_rows(tokens, QUOTE_WORDS)))
        if not chunk.isascii():
            for run in _UNSPACED.findall(chunk):
                found.update(spoken.intersection(_pieces_of_three(run)))
    return found, size


def _inner_keys(tokens: Iterable[str]) -> Iterator[str]:
    """Keys inside compound tokens: a path without its line, its file name, the words of a dotted name; numbers."""
    for token in tokens:
        if token.isalnum():
            if token.isdecimal():
                yield number_key(token)
            continue
        if len(token) <= _LONGEST_NAME:
            if _NUMBER.fullmatch(token):
                yield number_key(token)
            bare = _LINE_SUFFIX.sub("", token)
            yield bare
            yield bare.rpartition("/")[2]
        for piece in set(_PIECE.findall(token)):
            yield number_key(piece) if piece.isdecimal() else piece
