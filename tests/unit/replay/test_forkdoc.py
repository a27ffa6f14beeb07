"""The document of `--edit`: written, edited, read back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unspool.replay.forkdoc import BrokenDocument, read_document, write_document
from unspool.serving.edits import Draft

URL = "https://api.openai.com/v1/chat/completions"


def draft(*messages: dict[str, Any]) -> Draft:
    return Draft.of("openai_chat", URL, json.dumps({"model": "m", "messages": list(messages)}).encode())


def conversation() -> Draft:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"q": "\x1b[31mred"}'}}
    return draft(
        {"role": "system", "content": "be brief\nand kind"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "I look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "one\n"},
    )


def test_it_can_be_read() -> None:
    text = write_document(conversation())
    body = "\n".join(
        line for line in text.split("\n") if not line.startswith("#: ") or "calls" in line or "result" in line
    )
    assert "=== system prompt\nbe brief\nand kind\n" in body
    assert "=== 2 assistant\n#: calls f(" in body
    assert "\x1b" not in text
    assert "=== 3 tool\n#: result of f [c1]\none\n" in body


def test_no_text_of_a_recording_stands_where_editors_look_for_settings() -> None:
    text = write_document(draft({"role": "user", "content": "# vim: set shell=sh:"}))
    lines = text.rstrip("\n").split("\n")
    assert all(line.startswith("#:") for line in lines[:5] + lines[-5:])


def test_changes_are_found() -> None:
    edited = conversation()
    text = write_document(edited)
    text = (
        text.replace("be brief", "be long")
        .replace("hello", "goodbye")
        .replace("=== 2 assistant", "=== user\nmore\n\n=== 2 assistant")
    )
    read_document(text, edited)
    assert edited.set_system == "be long\nand kind"
    assert [(line.number, line.role, line.text) for line in edited.lines] == [
        (1, "user", "goodbye"),
        (0, "user", "more"),
        (2, "assistant", "I look."),
        (3, "tool", "one\n"),
    ]


def test_a_block_that_is_gone_is_a_message_that_is_gone() -> None:
    edited = conversation()
    text = write_document(edited)
    start, end = text.index("=== 2"), text.index("=== 3")
    read_document(text[:start] + text[end:], edited)
    assert [line.number for line in edited.lines] == [1, 3]


def test_what_editors_do_to_blank_space_is_no_change() -> None:
    edited = draft({"role": "user", "content": "a  \n\nb\t\n\n"}, {"role": "user", "content": "c\r\nd"})
    text = write_document(edited)
    tidied = "\n".join(line.rstrip() for line in text.split("\n")).rstrip("\n")
    read_document(tidied, edited)
    read_document(text.replace("\r\n", "\n").replace("\n", "\r\n"), edited)
    assert edited.edits().is_empty
    read_document(text.replace("\r\n", "\n").replace("c\nd", "x\ny").replace("\n", "\r\n"), edited)
    assert edited.lines[1].text == "x\ny"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("hello", 1, "before the first heading"),
        ("\n=== 9 user\nx", 2, "no message 9"),
        ("=== 1 user\nx\n=== 1 user\ny", 3, "stands in line 1 already"),
        ("=== 2 assistant\nx\n\n=== 1 user\ny", 4, "keep their order"),
        ("=== 1 assistant\nx", 1, "of role user, not assistant"),
        ("=== 1 user\nx\n=== system prompt\ny", 3, "before all messages"),
        ("=== system prompt\n=== system prompt\n", 2, "stands once"),
        ("=== User!\nx", 1, "no heading"),
        ("===\nx", 1, "no heading"),
        ("=== tool\nx", 1, "--tool-result"),
        ("=== 1 user\n=======\n", 2, "backslash"),
    ],
)
def test_a_broken_document_names_the_line_and_changes_nothing(text: str, line: int, problem: str) -> None:
    edited = conversation()
    with pytest.raises(BrokenDocument, match=problem) as caught:
        read_document(text, edited)
    assert caught.value.line == line
    assert edited.edits().is_empty
