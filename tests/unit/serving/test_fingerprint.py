"""When two requests are the same."""

from __future__ import annotations

import hashlib
import json

import pytest

from unspool.serving.fingerprint import body_digest, canonical_digest, request_key


def test_a_model_call_is_known_wherever_the_model_is() -> None:
    here = request_key("post", "http://127.0.0.1:8080/v1/chat/completions", is_model_call=True)
    there = request_key("POST", "https://api.openai.com/v1/chat/completions", is_model_call=True)
    assert here == there == "POST /v1/chat/completions"


def test_another_host_is_another_page() -> None:
    one = request_key("GET", "https://one.example/page?q=1", is_model_call=False)
    assert one == "GET https://one.example/page?q=1"
    assert one != request_key("GET", "https://two.example/page?q=1", is_model_call=False)


def test_credentials_do_not_count() -> None:
    plain = request_key("GET", "https://h.example/p?q=1", is_model_call=False)
    assert request_key("GET", "https://REDACTED@h.example/p?key=REDACTED&q=1", is_model_call=False) == plain


@pytest.mark.parametrize("url", ["http://[::1", "", "nonsense"])
def test_what_is_no_url_has_a_key(url: str) -> None:
    assert request_key("GET", url, is_model_call=False).startswith("GET ")


def test_the_order_of_keys_does_not_count() -> None:
    one = json.dumps({"a": [1, {"c": 1.0, "d": "ü"}], "b": None}).encode()
    other = json.dumps({"b": None, "a": [1, {"d": "ü", "c": 1.0}]}, indent=2, ensure_ascii=False).encode()
    assert body_digest(one) != body_digest(other)
    assert canonical_digest(one) == canonical_digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [({"a": [1, 2]}, {"a": [2, 1]}), ({"a": 1}, {"a": 1.0}), ({"a": None}, {}), ({"a": " x"}, {"a": "x"})],
)
def test_what_a_model_would_read_otherwise_counts(one: object, other: object) -> None:
    assert canonical_digest(json.dumps(one).encode()) != canonical_digest(json.dumps(other).encode())


def form(boundary: str, value: str) -> bytes:
    return f'--{boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\n{value}\r\n--{boundary}--\r\n'.encode()


def test_the_boundary_of_a_form_does_not_count() -> None:
    assert canonical_digest(form("0123456789abcdef", "x")) == canonical_digest(form("fedcba9876543210", "x"))
    assert canonical_digest(form("0123456789abcdef", "x")) != canonical_digest(form("0123456789abcdef", "y"))


@pytest.mark.parametrize("body", [b"{broken", b"[" * 100_000, b"--", b"--\r\n", b"a=1&b=2", b"\xff\xfe"])
def test_other_bodies_are_their_bytes(body: bytes) -> None:
    assert canonical_digest(body) == body_digest(body) == hashlib.sha256(body).hexdigest()


def test_no_body_has_no_digest() -> None:
    assert body_digest(b"") is canonical_digest(b"") is None
