"""Credentials never reach the disk, wherever a program keeps them; their names do."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import pytest
from capture_harness import environment, grep, recordings, run
from capture_webserver import web_server

CODE = """
import os, subprocess, sys
import aiohttp, asyncio, httpx, requests
import unspool

URL = os.environ["MODEL_URL"]
HOST = URL.partition("//")[2]
HEADERS = {
    "Authorization": "Bearer header-secret-0001", "x-api-key": "header-secret-0002", "api-key": "header-secret-0003",
    "x-goog-api-key": "header-secret-0004", "Cookie": "sid=header-secret-0005", "X-Auth-Token": "header-secret-0006",
    "Ocp-Apim-Subscription-Key": "header-secret-0007", "X-Amz-Security-Token": "header-secret-0008",
    "Proxy-Authorization": "Basic header-secret-0009", "X-Custom": "prefix " + os.environ["MY_SERVICE_TOKEN"],
    "X-Access-Key": "header-secret-0011", "Referer": "http://x/?access_token=header-secret-0012",
    "Idempotency-Key": "kept-idempotency",
}
QUERY = "?key=query-secret-0001&api_key=query-secret-0002"
QUERY += "&q=kept-query&access_token=query-secret-0003&X-Amz-Signature=query-secret-0004"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}

for path in ("/page", "/v1/chat/completions"):
    httpx.post(URL + path + QUERY, headers=HEADERS, json=BODY)
    requests.post(URL + path + QUERY, headers=HEADERS, json=BODY)
httpx.get(f"http://user:userinfo-secret-0001@{HOST}/page")
requests.get(f"http://user:userinfo-secret-0002@{HOST}/page")
httpx.get(URL + "/cookie"); requests.get(URL + "/cookie")
httpx.get(URL + "/redirect", follow_redirects=True)
httpx.get(URL + "/page/" + os.environ["MY_SERVICE_TOKEN"])

async def main():
    async with aiohttp.ClientSession(headers=HEADERS) as session:
        async with session.post(URL + "/v1/chat/completions" + QUERY, json=BODY) as answer:
            await answer.read()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://user:userinfo-secret-0003@{HOST}/page") as answer:
            await answer.read()
asyncio.run(main())

subprocess.run([sys.executable, "-c", "import unspool; unspool.tool(len)([])", "--api-key", "argv-secret-0001",
                "--token=argv-secret-0002", os.environ["OPENAI_API_KEY"], "http://u:argv-secret-0003@host/"])
header = "Authorization: Bearer argv-secret-0005"
os.system(f"true --password argv-secret-0004; : -H '{header}' " + os.environ["MY_SERVICE_TOKEN"])

@unspool.tool
def fetch():
    requests.get("http://127.0.0.1:9/page?api_key=error-secret-0001")
@unspool.tool
def status():
    answer = requests.get(URL + "/missing?token=error-secret-0002")
    answer.raise_for_status()
for tool in (fetch, status):
    try: tool()
    except Exception as error: print(type(error).__name__)
raise RuntimeError("failed at http://host/?token=error-secret-0003 with " + os.environ["OPENAI_API_KEY"])
"""


def test_no_credential_is_on_disk(tmp_path: Path) -> None:
    for library in ("httpx", "requests", "aiohttp"):
        pytest.importorskip(library)
    (tmp_path / "agent.py").write_text(CODE)
    store = tmp_path / "store"
    with web_server() as port:
        env = environment(
            store,
            MODEL_URL=f"http://127.0.0.1:{port}",
            OPENAI_API_KEY="sk-environment-secret-0001",
            MY_SERVICE_TOKEN="environment-secret-0002",
            DATABASE_DSN="postgres://u:environment-secret-0003@db/x",
            GITHUB_PAT_TOKEN="environment-secret-0004",
            HARMLESS="kept-by-name-only",
        )
        argv = [sys.executable, "agent.py", "--api-key", "argv-secret-0006", "sk-environment-secret-0001"]
        result = run(argv, env, cwd=tmp_path)
    assert result.stdout == b"ConnectionError\nHTTPError\n"
    assert result.code == 1
    assert b"unspool:" not in result.stderr

    for needle in (b"secret-0", b"cookie-0123456789", b"tok-0123456789", b"kept-by-name-only"):
        assert grep(store, needle) == [], needle
    for secret in ("user:userinfo-secret-0001", "user:userinfo-secret-0002", "user:userinfo-secret-0003"):
        assert grep(store, base64.b64encode(secret.encode())) == []
    # What is no secret is there: the names, and what was asked.
    for needle in (
        b"kept-idempotency",
        b"kept-query",
        b"Ocp-Apim-Subscription-Key",
        b"set-cookie",
        b"MY_SERVICE_TOKEN",
    ):
        assert grep(store, needle), needle
    root, worker = recordings(store)
    assert root.metadata.lost_events == 0
    assert "HARMLESS" in (root.metadata.env_names or [])
    assert root.metadata.command is not None
    assert root.metadata.command[-1] == "${OPENAI_API_KEY}"
    assert worker.metadata.command is not None
    assert "REDACTED" in worker.metadata.command
    assert {call.snapshot.context.model for call in root.calls if call.snapshot.context is not None} == {"m"}
