"""`unspool fork --run` of a run whose model server has moved, and what its exit code says."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from capture_harness import Result, environment, run

from unspool.demo.script import ModelRequest, Reply
from unspool.demo.server import ModelServer

AGENT = """\
import os, sys
from openai import OpenAI

url = os.environ.get("OPENAI_BASE_URL") if len(sys.argv) < 2 else sys.argv[1]
messages = []
with OpenAI(base_url=url, max_retries=0) as client:
    for number in range(1, 4):
        messages.append({"role": "user", "content": f"question {number}"})
        said = client.chat.completions.create(model="gpt-5", messages=messages).choices[0].message.content
        messages.append({"role": "assistant", "content": said})
print(messages[-1]["content"])
sys.exit(7 if "broken" in said else 0)
"""


def play(word: str):
    def answer(request: ModelRequest) -> Reply:
        return Reply(text=f"{word} {request.last_user_text}")

    return answer


class Home:
    """A store with one recording, made against a server that is gone."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.store = folder / "store"
        self.here = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "UNSPOOL_STORE": str(self.store)}
        (folder / "agent.py").write_text(AGENT)
        with ModelServer(play("old")) as server:
            self.old = server.url
            argv = [word.replace("OLD", server.url) for word in words]
            done = self.unspool("run", "-q", "--", sys.executable, str(folder / "agent.py"), *argv, at=server.url)
        assert done.stdout == b"old question 3\n", done.stderr

    def unspool(self, *args: str, at: str | None = None) -> Result:
        env = environment(None, **self.here, **({} if at is None else {"OPENAI_BASE_URL": f"{at}/v1"}))
        return run([sys.executable, "-m", "unspool", *args], env, timeout=90)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(play("new")) as one:
        yield one


@pytest.mark.parametrize("path", ["/v1", "/gateway/team/v1", "/v9"])
def test_another_server_is_asked_behind_the_point_and_what_is_before_is_served(
    home: Home, server: ModelServer, path: str
) -> None:
    done = home.unspool("fork", "1@call:2", "--base-url", server.url + path, "--run", "--json")
    assert done.code == 0, done.stderr.decode()
    [fork] = json.loads(done.stdout)["forks"]
    assert (fork["status"], fork["served"], fork["live"]) == ("forked", 1, 2)
    assert fork["unanswered"] is None
    assert [one.path for one in server.requests] == [f"{path}/chat/completions"] * 2
    assert b"new question 3" in done.stderr
    # The fork can be forked in its turn, at the server that it was made with.
    again = home.unspool("fork", "last-fork@call:3", "--run")
    assert again.code == 0, again.stderr.decode()
    assert again.stdout == b"new question 3\n"
    assert len(server.requests) == 3


def test_a_program_that_names_its_server_itself_is_stopped_before_it_asks_that(
    tmp_path: Path, server: ModelServer
) -> None:
    home = Home(tmp_path, "OLD/v1")
    done = home.unspool("fork", "1@call:2", "--base-url", f"{server.url}/v1", "--run")
    assert done.code == 3
    assert "not that of --base-url: it does not go by OPENAI_BASE_URL" in done.stderr.decode()
    assert server.requests == []


def test_which_server_is_asked_is_said_where_the_environment_names_another(home: Home, server: ModelServer) -> None:
    done = home.unspool("fork", "1@call:2", "--run", at=server.url)
    said = done.stderr.decode()
    assert f"OPENAI_BASE_URL is as recorded, {home.old}/v1, and not {server.url}/v1 as here" in said
    assert f"no live call was answered: {home.old}: " in said
    assert "--base-url URL" in said
    assert server.requests == []
    chosen = home.unspool("fork", "1@call:2", "--run", "--base-url", f"{server.url}/v1", at=server.url)
    assert "as recorded" not in chosen.stderr.decode()


def test_a_program_that_fails_is_a_failure(home: Home) -> None:
    done = home.unspool("fork", "1@call:2", "--run")
    assert done.code == 1
    assert "the program ended with code 1" in done.stderr.decode()
    with ModelServer(play("broken")) as server:
        base = f"{server.url}/v1"
        failed = home.unspool("fork", "1@call:2", "--run", "--base-url", base, "--json")
        assert failed.code == 1
        [fork] = json.loads(failed.stdout)["forks"]
        assert (fork["status"], fork["exit_code"], fork["program_exit"]) == ("forked", 1, 7)
        early = home.unspool("fork", "1@call:3", "--run", "--base-url", base, "--set-response", "fine")
        assert early.code == 0, early.stderr.decode()


@pytest.mark.parametrize(
    ("url", "said"), [("nonsense", "is no URL"), ("ftp://127.0.0.1/v1", "is no URL"), ("", "is no URL")]
)
def test_what_is_no_server_is_refused_before_anything_runs(home: Home, url: str, said: str) -> None:
    done = home.unspool("fork", "1@call:2", "--run", "--base-url", url)
    assert done.code == 2
    assert said in done.stderr.decode()
    assert done.stdout == b""
