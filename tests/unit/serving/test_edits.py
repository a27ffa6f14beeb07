"""Edits on the wire: which requests they reach, what they leave alone, what is said in full."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from unspool.errors import UsageError
from unspool.serving.edits import Draft, Edits, Replace, Turn, read_edits, read_kept, rewrite, write_kept
from unspool.serving.edits.kept import EDITS_NAME, KeptEdits

CHAT = "https://api.openai.com/v1/chat/completions"
RESPONSES = "https://api.openai.com/v1/responses"
MESSAGES = "https://api.anthropic.com/v1/messages"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:generateContent?alt=json"


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def chat(*messages: dict[str, Any], **more: Any) -> bytes:
    return encoded({"model": "m", "messages": list(messages), **more})


SYSTEM = {"role": "system", "content": "be brief"}
USER = {"role": "user", "content": "hello"}
CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ],
}
FIRST = {"role": "tool", "tool_call_id": "c1", "content": "one"}
SECOND = {"role": "tool", "tool_call_id": "c2", "content": "two"}


def messages_of(body: bytes, key: str = "messages") -> Any:
    return json.loads(body)[key]


def chat_edits(**done: Any) -> tuple[Draft, bytes]:
    body = chat(SYSTEM, USER, CALLS, FIRST, SECOND)
    return Draft.of("openai_chat", CHAT, body), body


# --- which requests --------------------------------------------------------------------------------------------------


def test_settings_reach_later_requests_of_the_conversation_and_no_others() -> None:
    draft, _ = chat_edits()
    draft.set_system, draft.model, draft.params = "be long", "m2", {"temperature": 0, "reasoning.effort": "low"}
    edits = draft.edits()
    later = chat(SYSTEM, USER, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "more"})
    done = rewrite(edits, "openai_chat", later, CHAT)
    document = json.loads(done.body)
    assert document["messages"][0] == {"role": "system", "content": "be long"}
    assert (document["model"], document["temperature"], document["reasoning"]) == ("m2", 0, {"effort": "low"})
    for other in (
        chat({"role": "system", "content": "be polite"}, USER),
        chat(SYSTEM, {"role": "user", "content": "another task"}),
        encoded({"input": "hello", "model": "m"}),
    ):
        assert rewrite(edits, "openai_chat", other, CHAT).body is other
    assert rewrite(edits, "anthropic", later, MESSAGES).body is later


def test_a_history_that_was_cut_at_the_front_is_still_the_conversation() -> None:
    draft, _ = chat_edits()
    draft.set_system = "be long"
    done = rewrite(draft.edits(), "openai_chat", chat(SYSTEM, CALLS, FIRST, SECOND, USER | {"content": "on"}), CHAT)
    assert messages_of(done.body)[0]["content"] == "be long"


def test_a_tool_result_is_changed_in_every_conversation_that_has_it() -> None:
    draft, _ = chat_edits()
    draft.set_tool_result("c2", "2")
    handed_over = chat({"role": "system", "content": "another agent"}, USER, CALLS, FIRST, SECOND)
    done = rewrite(draft.edits(), "openai_chat", handed_over, CHAT)
    assert messages_of(done.body)[4]["content"] == "2"
    assert messages_of(done.body)[:4] == messages_of(handed_over)[:4]


def test_a_plain_message_of_another_conversation_is_left_alone() -> None:
    draft, _ = chat_edits()
    draft.lines[0].text = "goodbye"
    edits = draft.edits()
    other = chat({"role": "system", "content": "x"}, {"role": "user", "content": "first"}, USER)
    assert rewrite(edits, "openai_chat", other, CHAT).body is other
    # The same history up to it under another prompt is a hand-over.
    handed_over = chat({"role": "system", "content": "x"}, USER)
    assert messages_of(rewrite(edits, "openai_chat", handed_over, CHAT).body)[1]["content"] == "goodbye"


def test_what_a_later_request_does_not_hold_is_reported() -> None:
    draft, body = chat_edits()
    draft.set_tool_result("c1", "1")
    done = rewrite(draft.edits(), "openai_chat", chat(SYSTEM, USER), CHAT)
    assert len(done.missed) == 1
    assert "tool of c1" in done.missed[0]
    assert not rewrite(draft.edits(), "openai_chat", body, CHAT).missed


def test_a_message_that_goes_later_is_read_so_often_before() -> None:
    draft, _ = chat_edits()
    draft.set_tool_result("c1", "[left out]")
    edits = draft.edits()
    [change] = edits.changes
    assert isinstance(change, Replace)
    change.after = 2
    edits = read_edits(edits.to_plan())
    assert edits is not None
    says = {"role": "assistant", "content": "so"}
    history = [SYSTEM, USER, CALLS, FIRST, SECOND]
    for behind, expected in (([], "one"), ([says], "one"), ([says, USER, says], "[left out]")):
        done = rewrite(edits, "openai_chat", chat(*history, *behind), CHAT)
        assert messages_of(done.body)[3]["content"] == expected
        assert not done.missed
    assert not rewrite(edits, "openai_chat", chat(SYSTEM, USER), CHAT).missed  # it has not come yet


@pytest.mark.parametrize(
    "now",
    [
        {"role": "user", "content": "hello", "name": None},
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        {"role": "user", "content": [{"type": "text", "text": "hello", "cache_control": {"type": "ephemeral"}}]},
        {"content": "hello", "role": "user", "tool_calls": []},
    ],
)
def test_a_message_is_known_in_every_spelling(now: dict[str, Any]) -> None:
    draft, _ = chat_edits()
    draft.lines[0].text = "goodbye"
    done = rewrite(draft.edits(), "openai_chat", chat(SYSTEM, now), CHAT)
    assert not done.missed
    assert "goodbye" in json.dumps(messages_of(done.body)[1])
    assert "cache_control" not in now["content"][0] or "cache_control" in json.dumps(messages_of(done.body)[1])


def test_equal_messages_are_told_apart_by_their_place() -> None:
    body = chat(USER, FIRST | {"content": "a"}, USER, USER)
    draft = Draft.of("openai_chat", CHAT, body)
    draft.lines[2].text = "the second"
    done = rewrite(draft.edits(), "openai_chat", body, CHAT)
    assert [one["content"] for one in messages_of(done.body)] == ["hello", "a", "the second", "hello"]


# --- what is done ----------------------------------------------------------------------------------------------------


def test_a_removed_call_takes_its_results_along() -> None:
    draft, body = chat_edits()
    del draft.lines[1]
    done = rewrite(draft.edits(), "openai_chat", body, CHAT)
    assert messages_of(done.body) == [SYSTEM, USER]


def test_an_addition_stays_behind_the_message_it_followed() -> None:
    draft, body = chat_edits()
    draft.remove_last(3)
    draft.append("user", "be quick")
    draft.append("developer", "really")
    edits = draft.edits()
    more = [{"role": "user", "content": "be quick"}, {"role": "developer", "content": "really"}]
    assert messages_of(rewrite(edits, "openai_chat", body, CHAT).body) == [SYSTEM, USER, *more]
    said = {"role": "assistant", "content": "new"}
    later = chat(SYSTEM, USER, CALLS, FIRST, SECOND, said)
    assert messages_of(rewrite(edits, "openai_chat", later, CHAT).body) == [SYSTEM, USER, *more, said]


def test_what_is_not_touched_keeps_its_bytes() -> None:
    body = (
        b'{"x_unknown": 1.50,  "messages":[{"role":"system","content":"be brief"}, {"content":"\\u00e4","role":"user",'
        b'"extra":[1,  2]},\n {"role":"user","content":"last"}], "n":1e0}'
    )
    draft = Draft.of("openai_chat", CHAT, body)
    draft.replace_last("new")
    done = rewrite(draft.edits(), "openai_chat", body, CHAT)
    assert b'{"content":"\\u00e4","role":"user","extra":[1,  2]}' in done.body
    assert b'"x_unknown":1.50' in done.body
    assert b'"n":1e0' in done.body
    assert list(json.loads(done.body)) == ["x_unknown", "messages", "n"]


def test_null_removes_a_parameter() -> None:
    body = chat(USER, temperature=1, reasoning={"effort": "low", "x": 1})
    draft = Draft.of("openai_chat", CHAT, body)
    draft.params = {"temperature": None, "reasoning.effort": None, "not.there": None}
    document = json.loads(rewrite(draft.edits(), "openai_chat", body, CHAT).body)
    assert "temperature" not in document
    assert document["reasoning"] == {"x": 1}
    assert "not" not in document


def test_all_leading_system_messages_make_way() -> None:
    body = chat({"role": "developer", "content": "a"}, {"role": "system", "content": "b"}, USER)
    draft = Draft.of("openai_chat", CHAT, body)
    draft.set_system = "c"
    assert messages_of(rewrite(draft.edits(), "openai_chat", body, CHAT).body) == [
        {"role": "developer", "content": "c"},
        USER,
    ]
    bare = chat(USER)
    draft = Draft.of("openai_chat", CHAT, bare)
    draft.set_system = "c"
    done = rewrite(draft.edits(), "openai_chat", bare, CHAT)
    assert messages_of(done.body) == [{"role": "system", "content": "c"}, USER]


def test_anthropic_blocks() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "eA=="}}
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    use = {"type": "tool_use", "id": "t1", "name": "f", "input": {"b": 1, "a": 2}}
    marked = {"type": "text", "text": "sys", "cache_control": {"type": "ephemeral"}}
    body = encoded(
        {
            "system": [marked],
            "messages": [
                {"role": "user", "content": [image, {"type": "text", "text": "what is it"}]},
                {"role": "assistant", "content": [thinking, use]},
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "t1", "content": "r"},
                        {"type": "text", "text": "go on"},
                    ],
                },
            ],
        }
    )
    draft = Draft.of("anthropic", MESSAGES, body)
    assert [(line.role, line.text) for line in draft.lines] == [
        ("user", "what is it"),
        ("assistant", ""),
        ("tool", "r"),
        ("user", "go on"),
    ]
    draft.lines[0].text, draft.lines[1].text, draft.lines[2].text = "and this", "I look.", "R"
    draft.lines.insert(3, draft.said("user", "between"))
    draft.set_system = "new"
    document = json.loads(rewrite(draft.edits(), "anthropic", body, MESSAGES).body)
    assert document["system"] == [{"type": "text", "text": "new", "cache_control": {"type": "ephemeral"}}]
    assert document["messages"] == [
        {"role": "user", "content": [image, {"type": "text", "text": "and this"}]},
        {"role": "assistant", "content": [thinking, {"type": "text", "text": "I look."}, use]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "R"}]},
        {"role": "user", "content": "between"},
        {"role": "user", "content": [{"type": "text", "text": "go on"}]},
    ]


def test_gemini_results_keep_their_form() -> None:
    def content(response: Any) -> bytes:
        call = {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "s"}]}
        result = {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": response}}]}
        return encoded({"contents": [call, result]})

    def changed(response: Any, text: str) -> Any:
        body = content(response)
        draft = Draft.of("gemini", GEMINI, body)
        draft.set_tool_result("f", text)
        done = rewrite(draft.edits(), "gemini", body, GEMINI)
        return json.loads(done.body)["contents"][1]["parts"][0]["functionResponse"]["response"]

    assert changed({"result": "3"}, "4") == {"result": "4"}
    assert changed({"result": 3}, "4") == {"result": 4}
    assert changed({"output": "x"}, '{"a": 1}') == {"output": '{"a": 1}'}
    assert changed({"result": "3"}, '{"result": "5"}') == {"result": "5"}
    assert changed({"rate": 1.25}, '{"rate": 1.08, "of": "today"}') == {"rate": 1.08, "of": "today"}
    assert changed({"rate": 1.25}, "none") == {"result": "none"}


def test_gemini_names_the_model_in_the_url_and_parameters_in_the_config() -> None:
    body = encoded({"contents": [{"parts": [{"text": "x"}]}], "toolConfig": {"a": 1}})
    draft = Draft.of("gemini", GEMINI, body)
    draft.model, draft.params = "gemini-3-flash", {"temperature": 0, "toolConfig.a": 2}
    done = rewrite(draft.edits(), "gemini", body, GEMINI)
    assert done.url == GEMINI.replace("gemini-3-pro", "gemini-3-flash")
    document = json.loads(done.body)
    assert document["generationConfig"] == {"temperature": 0}
    assert document["toolConfig"] == {"a": 2}


def test_an_input_that_is_a_text() -> None:
    body = encoded({"model": "m", "input": "hello", "instructions": "i"})
    draft = Draft.of("openai_responses", RESPONSES, body)
    draft.append("user", "more")
    document = json.loads(rewrite(draft.edits(), "openai_responses", body, RESPONSES).body)
    assert [item["content"] for item in document["input"]] == ["hello", "more"]
    draft.replace_last("other")


# --- what cannot be done ---------------------------------------------------------------------------------------------


def test_options_that_fit_nothing_say_what_there_is() -> None:
    draft, _ = chat_edits()
    with pytest.raises(UsageError, match=r"c1 \(f\), c2 \(g\)"):
        draft.set_tool_result("c9", "x")
    with pytest.raises(UsageError, match="the context has 4 messages"):
        draft.remove_last(5)
    with pytest.raises(UsageError, match="--tool-result"):
        draft.append("tool", "x")
    with pytest.raises(UsageError, match="user, assistant"):
        Draft.of("anthropic", MESSAGES, encoded({"messages": []})).append("system", "x")
    with pytest.raises(UsageError, match="no messages"):
        Draft.of("anthropic", MESSAGES, encoded({"messages": []})).replace_last("x")
    with pytest.raises(UsageError, match="cannot be edited"):
        Draft.of("openai_chat", CHAT, b"no json")


# --- state at the provider -------------------------------------------------------------------------------------------


def test_recorded_state_is_sent_in_full_and_state_of_this_run_is_left() -> None:
    said = {"type": "message", "role": "assistant", "id": "msg_1", "content": [{"type": "output_text", "text": "one"}]}
    turns = {
        "r1": Turn(None, [{"role": "user", "content": "1"}, said]),
        "r2": Turn("r1", [{"role": "user", "content": "2"}, {"type": "item_reference", "id": "msg_1"}]),
        "r3": Turn("r2", [], "whose answer is not recorded to its end"),
    }
    edits = Edits("openai_responses", turns=turns, states=["r2", "conv_1"])

    def sent(**more: Any) -> Any:
        body = encoded({"input": [{"role": "user", "content": "3"}], **more})
        return rewrite(edits, "openai_responses", body, RESPONSES), body

    done, _ = sent(previous_response_id="r2")
    document = json.loads(done.body)
    assert "previous_response_id" not in document
    assert document["input"] == [
        {"role": "user", "content": "1"},
        said,
        {"role": "user", "content": "2"},
        said,
        {"role": "user", "content": "3"},
    ]
    done, body = sent(previous_response_id="made_live")
    assert done.body is body
    assert done.blocked is None
    for more in ({"previous_response_id": "r3"}, {"conversation": "conv_1"}, {"conversation": {"id": "conv_1"}}):
        done, body = sent(**more)
        assert done.body is body
        assert "--keep-state" in (done.blocked or "")
    edits.keep_state = True
    assert sent(conversation="conv_1")[0].blocked is None


def test_cached_content_of_the_recording_is_not_leaned_on() -> None:
    body = encoded({"contents": [], "cachedContent": "cachedContents/1"})
    edits = Edits("gemini", states=["cachedContents/1"])
    assert rewrite(edits, "gemini", body, GEMINI).blocked
    assert rewrite(Edits("gemini"), "gemini", body, GEMINI).blocked is None


# --- plans -----------------------------------------------------------------------------------------------------------


def test_edits_go_through_a_plan_and_beside_a_recording(tmp_path: Any) -> None:
    draft, _ = chat_edits()
    draft.set_system = "half \ud83d of a pair"
    draft.lines[0].text = "x"
    edits = draft.edits()
    plan = msgspec.json.decode(msgspec.json.encode(edits.to_plan()))
    assert read_edits(plan) == edits
    assert read_edits(None) is None
    assert read_kept(tmp_path) == []
    kept = [KeptEdits(edits.to_plan(), 3), KeptEdits(None)]
    write_kept(tmp_path, kept)
    assert read_kept(tmp_path) == kept
    assert (tmp_path / EDITS_NAME).stat().st_mode & 0o077 == 0
