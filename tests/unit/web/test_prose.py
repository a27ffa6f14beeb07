"""Messages as a person reads them, and what a redacted report keeps of them."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess

import pytest

from unspool.events import CtxMessage, HttpRequest, Part, ToolCall
from unspool.web.prose import Cutter, pieces_of, shown_messages
from unspool.web.report import Redactor
from unspool.web.snippets import as_curl, as_python


def test_code_blocks_stand_apart():
    found = pieces_of("Look:\n```python\nprint(1)\n```\nand\n~~~\nraw\n~~~\nend")
    assert [(one.kind, one.text, one.language) for one in found] == [
        ("text", "Look:", ""), ("code", "print(1)", "python"), ("text", "and", ""), ("code", "raw", ""),
        ("text", "end", ""),
    ]  # fmt: skip


def test_a_code_block_that_never_ends_loses_nothing():
    assert [one.text for one in pieces_of("a\n```\nb\nc")] == ["a", "b\nc"]


def test_json_is_laid_out_and_what_only_looks_like_it_is_left_alone():
    assert pieces_of('{"a":[1,2]}')[0].text == json.dumps({"a": [1, 2]}, indent=2)
    assert pieces_of("[not json]")[0].text == "[not json]"
    assert pieces_of("[" * 30_000 + "]" * 30_000)[0].text  # deeper than a parser goes


def test_results_find_their_calls_by_id_and_else_by_name():
    messages = [
        CtxMessage(
            "assistant", "", tool_calls=[ToolCall("a", "{}", "1"), ToolCall("b", "{}", "2"), ToolCall("c", "{}")]
        ),
        CtxMessage("tool", "of b", tool_call_id="2"),
        CtxMessage("tool", "of a", tool_call_id="1"),
        CtxMessage("tool", "of c", tool_name="c"),
        CtxMessage("tool", "of nobody", tool_call_id="9"),
    ]
    asked, *results = shown_messages(messages, Cutter())
    assert [call.answered_by for call in asked.calls] == [3, 2, 4]
    assert [one.answers.name if one.answers else None for one in results] == ["b", "a", "c", None]


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}, True),
        ({"source": {"type": "base64", "media_type": "image/jpeg", "data": "/9j/4AAQ"}}, True),
        ({"inlineData": {"mimeType": "image/webp", "data": "UklGRg=="}}, True),
        ({"image_url": {"url": "data:image/svg+xml;base64,PHN2Zz4="}}, False),
        ({"image_url": {"url": "https://example.org/spy.png"}}, False),
        ({"source": {"media_type": "image/png", "data": '"><script>'}}, False),
        ({"source": {"media_type": "text/html", "data": "PGI+"}}, False),
    ],
)
def test_only_pixels_are_shown_as_pictures(data, shown):
    [one] = shown_messages([CtxMessage("user", "", parts=[Part("image", data=data)])], Cutter())
    assert bool(one.pictures) is shown
    assert shown or one.others


SECRETS = [
    "ada@example.org", "sk-proj-abcdefghijklmnop", "ghp_0123456789abcdefghij", "4111 1111 1111 1111",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "0123456789abcdef0123456789abcdef01234567", "/home/ada/notes",
]  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
def test_a_redacted_text_has_no_keys_addresses_or_numbers(secret):
    kept, _ = Redactor().cut(f"write to {secret}, now")
    assert secret not in kept
    assert kept.startswith("write to ")
    assert kept.endswith(", now")


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("before", range(170, 200, 5))
def test_where_a_text_is_cut_no_half_of_a_key_is_left(secret, before):
    kept, left_out = Redactor().cut("x" * before + " " + secret + " tail" * 100)
    assert left_out > 0
    assert len(kept) <= 200
    assert secret[:8] not in kept


REQUEST = HttpRequest(
    method="POST",
    url="https://api.openai.com/v1/chat/completions?a='b'",
    headers=[
        ("Authorization", "REDACTED"),
        ("Content-Type", "application/json"),
        ("X-It", "it's $HOME `id`"),
        ("Host", "x"),
    ],
)
BODY = json.dumps({"a": 'it\'s "quoted" $HOME `id` \\ ☃', "none": None}).encode()


def test_a_request_as_curl_says_the_same_to_a_shell():
    command = as_curl(REQUEST, BODY).removeprefix("curl ")
    done = subprocess.run(
        ["sh", "-c", f"printf '%s\\0' {command}"], env={"OPENAI_API_KEY": "k1"}, capture_output=True, check=True
    )
    given = done.stdout.decode().split("\0")
    assert given[given.index("-H") + 1] == "Authorization: Bearer k1"
    assert "X-It: it's $HOME `id`" in given
    assert given[given.index("--data-binary") + 1].encode() == BODY
    assert REQUEST.url in given
    assert not any(one.lower().startswith("host:") for one in given)
    assert shlex.split(as_curl(REQUEST, BODY).replace("\\\n", ""))


def test_a_request_as_python_is_a_program_with_the_same_body_and_no_key():
    program = as_python(REQUEST, BODY)
    tree = ast.parse(program)
    body = next(one.value for one in tree.body if isinstance(one, ast.Assign) and one.targets[0].id == "body")
    assert ast.literal_eval(body.func.value.args[0]) == json.loads(BODY)
    assert 'os.environ["OPENAI_API_KEY"]' in program
    assert "REDACTED" not in program
