"""Who may read: the token, the cookie, Host and Origin, and the policy in every answer."""

from __future__ import annotations

import pytest

from unspool.cli.prices import Prices
from unspool.errors import UsageError
from unspool.web.guard import Door, is_loopback
from unspool.web.serve import serve

TOKEN = "a-token-of-the-tests"


def test_without_the_token_nothing_is_shown(stranger, record):
    name = record("secret plan")
    for address in ("/", f"/run/{name}", f"/run/{name}.json", f"/run/{name}/live", f"/run/{name}/step/1/request.raw"):
        answer = stranger.get(address)
        assert answer.status_code == 401
        assert "secret plan" not in answer.text


def test_the_token_gives_a_cookie_that_scripts_and_other_sites_do_not_get(stranger):
    answer = stranger.get("/", params={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 200
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert stranger.get("/").status_code == 200


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", "ä", "\udc80"])
def test_another_token_is_refused(stranger, token):
    answer = stranger.get(f"/?token={token.encode('utf-8', 'surrogatepass').hex() if token.strip() else ''}")
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_a_made_up_cookie_is_refused(stranger, door):
    stranger.cookies.set(door.cookie, "0" * 64)
    assert stranger.get("/").status_code == 401


@pytest.mark.parametrize(
    "host",
    ["evil.example:4848", "127.0.0.1:80", "127.0.0.1", "", "127.0.0.1.evil.example:4848", "[::1", "192.168.1.7:4848"],
)
def test_another_name_for_the_server_is_refused(browser, host):
    assert browser.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:4848", "localhost:4848", "LOCALHOST:4848", "[::1]:4848"])
def test_its_own_names_are_taken(browser, host, door):
    answer = browser.get("/", headers={"host": host, "cookie": f"{door.cookie}={door.secret}"})
    assert answer.status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "https://127.0.0.1:4848"])
def test_a_request_from_another_site_is_refused(browser, origin):
    assert browser.get("/", headers={"origin": origin}).status_code == 403


def test_what_another_site_embeds_is_refused(browser):
    assert browser.get("/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}).status_code == 403
    assert browser.get("/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_but_looking_is_allowed(browser, method):
    assert browser.request(method, "/").status_code == 405


def test_every_answer_has_the_policy(browser, stranger, record):
    name = record()
    for address in ("/", f"/run/{name}", "/nothing", "/static/app.js", "/?token=wrong", f"/run/{name}.json"):
        headers = browser.get(address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_no_page_has_inline_script_or_style(browser, record):
    name = record()
    for address in ("/", f"/run/{name}", f"/run/{name}/step/2", f"/run/{name}/blame", f"/run/{name}/context"):
        text = browser.get(address).text
        assert "<style" not in text
        assert " style=" not in text
        assert " onclick=" not in text
        assert text.count("<script") == 1
        assert '<script src="/static/app.js" defer></script>' in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"host": "0.0.0.0", "token": None, "insecure": False}, "--token"),
        ({"host": "127.0.0.1", "token": "short", "insecure": False}, "16"),
        ({"host": "127.0.0.1", "token": TOKEN, "insecure": True}, "choose one"),
    ],
)
def test_it_does_not_open_itself_to_others_unasked(store, given, said):
    with pytest.raises(UsageError, match=said):
        serve(store, Prices(), port=0, started=print, **given)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("192.168.0.1", False), ("example.org", False), ("localhost.example.org", False)],
)  # fmt: skip
def test_what_only_this_machine_can_reach(host, expected):
    assert is_loopback(host) is expected


def test_on_an_open_address_any_literal_address_is_its_name_and_no_foreign_name_is():
    door = Door("0.0.0.0", 4848, None)
    assert door.answers_to("192.168.1.7:4848")
    assert not door.answers_to("evil.example:4848")
