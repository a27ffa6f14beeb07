"""Who may read: the token, the cookie, Host and Origin, and the policy in every answer."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from unspool.cli.prices import Prices
from unspool.errors import UsageError
from unspool.web.app import create_app
from unspool.web.forkjobs import Jobs
from unspool.web.guard import LARGEST_FORM, Door, is_loopback
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


@pytest.mark.parametrize("other", ['prefs={"a":1}', "list=[1,2]", "x=a b", "name=caf\xe9", "", "=", "a=b=c", '"'])
def test_cookies_of_other_programs_on_this_machine_shut_nobody_out(stranger, door, other):
    own = f"{door.cookie}={door.secret}"
    for cookies in (f"{other}; {own}", f"{own}; {other}", f"{other};{own};{other}"):
        assert stranger.get("/", headers={"cookie": cookies.encode("latin-1")}).status_code == 200
    assert stranger.get("/", headers={"cookie": f"x{own}; {other}".encode("latin-1")}).status_code == 401


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


# --- forms -----------------------------------------------------------------------------------------------------------

OPEN = Door("127.0.0.1", 4848, TOKEN, forking=True)
FORM = {"origin": "http://127.0.0.1:4848", "content-type": "application/x-www-form-urlencoded"}
STOP = "/fork/0123456789abcdef/stop"  # of no job: 404 says that the form was taken


@pytest.fixture
def poster(store):
    """A browser that opened the address of a server that takes forms."""
    app = create_app(store, Prices(), OPEN, Jobs(store))
    client = TestClient(app, base_url="http://127.0.0.1:4848", follow_redirects=False)
    assert client.get("/", params={"token": TOKEN}).status_code == 200
    return client


def form(token: str = OPEN.form_token) -> str:
    return f"form-token={token}&do=x"


def test_a_form_of_its_own_page_is_taken(poster):
    assert poster.post(STOP, content=form(), headers=FORM).status_code == 404
    same = {**FORM, "sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}
    assert poster.post(STOP, content=form(), headers=same).status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": None}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:4848"}, 403),  # another name for it, but not the one that was asked
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"}, 403),
        ({"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, 403),
        ({"host": "evil.example:4848"}, 421),
        ({"content-type": "application/json"}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": None}, 415),
        ({"content-length": str(LARGEST_FORM + 1)}, 413),
        ({"content-length": "9" * 40}, 413),
        ({"content-length": "-1"}, 411),
        ({"transfer-encoding": "chunked"}, 411),
    ],
)
def test_another_form_is_refused_before_it_is_read(poster, headers, status):
    sent = {name: value for name, value in {**FORM, **headers}.items() if value is not None}
    assert poster.post(STOP, content=form(), headers=sent).status_code == status


@pytest.mark.parametrize(
    "body",
    [
        "do=x",
        form(""),
        form("wrong"),
        form(OPEN.secret),
        form(Door("127.0.0.1", 4848, TOKEN).form_token),
        "form-token=%ff",
    ],
    ids=["none", "empty", "wrong", "the cookie's", "another server's", "no text"],
)
def test_a_form_without_its_token_does_nothing(poster, body):
    answer = poster.post(STOP, content=body, headers=FORM)
    assert answer.status_code == 403
    assert "nothing was done" in answer.text or "cannot be read" in answer.text


def test_a_form_needs_the_cookie_too_and_the_address_does_not_stand_for_it(store):
    app = create_app(store, Prices(), OPEN, Jobs(store))
    stranger = TestClient(app, base_url="http://127.0.0.1:4848", follow_redirects=False)
    for path in (STOP, f"{STOP}?token={TOKEN}"):
        answer = stranger.post(path, content=form(), headers=FORM)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers


def test_more_than_it_said_is_not_read():
    """A body that goes on behind its length; servers cut it, this does not lean on that."""
    import asyncio

    from starlette.requests import Request

    from unspool.web.answering import FormRefused, _body

    async def receive():
        return {"type": "http.request", "body": b"x" * (1 << 20), "more_body": True}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(FormRefused, match="larger than it said"):
        asyncio.run(_body(request))


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_server_that_takes_forms_takes_nothing_else(poster, method):
    assert poster.request(method, STOP, headers=FORM).status_code == 405


@pytest.mark.parametrize("path", ["/", "/runs", "/compare", "/static/app.js", "/fork", "/live"])
def test_pages_take_no_forms(poster, path):
    assert poster.post(path, content=form(), headers=FORM).status_code == 405


def test_the_token_of_forms_is_anothers_for_each_server_and_never_the_cookie():
    one, other = Door("127.0.0.1", 4848, TOKEN), Door("127.0.0.1", 4848, TOKEN)
    assert one.form_token != other.form_token
    assert one.secret == other.secret
    assert one.secret not in one.form_token


@pytest.mark.parametrize(
    ("given", "forking"),
    [
        ({}, True),
        ({"read_only": True}, False),
        ({"insecure": True}, False),
        ({"insecure": True, "allow_fork": True}, True),
        ({"host": "0.0.0.0", "token": TOKEN}, False),
        ({"host": "0.0.0.0", "token": TOKEN, "allow_fork": True}, True),
    ],
)
def test_when_forks_can_be_made(store, monkeypatch, given, forking):
    doors = []
    monkeypatch.setattr("unspool.web.serve.create_app", lambda store, prices, door, jobs: doors.append((door, jobs)))
    monkeypatch.setattr("unspool.web.serve._Server.run", lambda self, sockets: None)
    arguments = {"host": "127.0.0.1", "token": None, "insecure": False, **given}
    serve(store, Prices(), port=0, started=print, **arguments)
    [(door, jobs)] = doors
    assert door.forking is forking
    assert (jobs is not None) is forking


def test_forks_that_are_both_wanted_and_not_are_wrong_usage(store):
    with pytest.raises(UsageError, match="choose one"):
        serve(store, Prices(), host="127.0.0.1", port=0, token=None, insecure=False, started=print,
              read_only=True, allow_fork=True)  # fmt: skip
