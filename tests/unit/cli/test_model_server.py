"""`unspool model-server` and `unspool demo`."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

SCRIPT = """
from unspool.demo.script import Reply
def speak(request):
    return Reply(text="scripted")
not_callable = 3
PAGES = {"policy": "all of it"}
"""


def ask(url: str) -> str:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]}).encode()
    request = urllib.request.Request(f"{url}/v1/chat/completions", body, {"content-type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        return json.load(response)["choices"][0]["message"]["content"]


def get(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=30) as response:
        return response.read().decode()


@pytest.mark.parametrize("with_script", [False, True])
def test_it_prints_its_url_and_serves_until_ctrl_c(tmp_path, with_script):
    (tmp_path / "speaking.py").write_text(SCRIPT)
    script = ["--script", "speaking.py:speak"] if with_script else []
    with subprocess.Popen(
        [sys.executable, "-m", "unspool", "model-server", *script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stderr is not None
            url = server.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:")
            assert (ask(url) == "scripted") is with_script
            assert (get(f"{url}/page/policy") == "all of it") is with_script
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(timeout=30) == 0
        assert server.stderr.read() == ""


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("speaking.py", "FILE.py:NAME"),
        ("nowhere.py:speak", "cannot load nowhere.py"),
        ("no_such_module:speak", "cannot load no_such_module"),
        ("speaking.py:nothing", "has no function nothing"),
        ("speaking.py:not_callable", "has no function"),
        ("broken.py:speak", "ZeroDivisionError"),
    ],
)
def test_a_script_that_cannot_be_used(invoke, tmp_path, script, message):
    (tmp_path / "speaking.py").write_text(SCRIPT)
    (tmp_path / "broken.py").write_text("1 / 0")
    result = invoke("model-server", "--script", script)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_port_that_is_taken(invoke):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = invoke("model-server", "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 1
    assert "Choose another --port" in result.stderr


def test_the_demo_is_run_with_the_store_and_its_code_comes_back(invoke, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("unspool.demo.tour.run_demo", lambda *args, then: asked.append((*args, then)) or 3)
    assert invoke("demo", "--no-tour", "--store", str(tmp_path)).exit_code == 3
    assert invoke("demo").exit_code == 3
    assert [(args[:2], args[-1]) for args in asked] == [((tmp_path, False), None), ((None, True), None)]
