"""Edits of a fork: what is changed in a conversation, kept through all later requests of it.

`Draft` takes a recorded request apart and turns what is done to it into `Edits`, which go into the plan of a rerun;
`rewrite` applies them to each request the program then sends. Everything works on the providers' own JSON and leaves
what it does not change as it is.
"""

from __future__ import annotations

from unspool.serving.edits.draft import Draft, Line
from unspool.serving.edits.edits import Answer, Change, Edits, Insert, Remove, Replace, Said, Turn, read_edits
from unspool.serving.edits.json_text import JsonObject
from unspool.serving.edits.kept import EDITS_NAME, KeptEdits, read_kept, write_kept
from unspool.serving.edits.openai_responses import items_of
from unspool.serving.edits.rewriting import DIALECTS, Rewritten, rewrite
from unspool.serving.edits.states import state_of

__all__ = [
    "DIALECTS",
    "EDITS_NAME",
    "Answer",
    "Change",
    "Draft",
    "Edits",
    "Insert",
    "JsonObject",
    "KeptEdits",
    "Line",
    "Remove",
    "Replace",
    "Rewritten",
    "Said",
    "Turn",
    "items_of",
    "read_edits",
    "read_kept",
    "rewrite",
    "state_of",
    "write_kept",
]
