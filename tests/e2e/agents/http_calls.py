"""Requests through each HTTP library, without any SDK."""

import asyncio
import gc
import hashlib
import sys
import urllib.request

import aiohttp
import httpx
import httpx2
import requests
import urllib3
from scenarios import URL, main, scenario

DATA = bytes(range(256)) * 100
kept = []


def digest(data):
    return [len(data), hashlib.sha256(data).hexdigest()[:8]]


def ack():
    urllib.request.urlopen(URL + "/ack").close()  # a library that is not recorded


def pieces():
    for start in range(0, len(DATA), 5000):
        yield DATA[start : start + 5000]


async def async_pieces():
    for piece in pieces():
        yield piece


# --- httpx and its fork ----------------------------------------------------------------------------------------------


class Answering(httpx.BaseTransport):
    def handle_request(self, request):
        return httpx.Response(200, content=b"from a transport of my own", request=request)


def both(function):
    for module in (httpx, httpx2):
        name = f"{module.__name__}_{function.__name__}"

        def bound(module=module):
            return function(module)

        bound.__name__ = name
        scenario(bound)
    return function


@both
def page(module):
    with module.Client() as client:
        answer = client.get(URL + "/page", headers={"x-one": "1"})
        return [
            answer.status_code,
            digest(answer.content),
            type(answer.stream).__name__ != "",
            answer.elapsed is not None,
        ]


@both
def redirected(module):
    with module.Client(follow_redirects=True) as client:
        answer = client.get(URL + "/redirect")
        return [answer.status_code, [one.status_code for one in answer.history], digest(answer.content)]


@both
def digest_auth(module):
    with module.Client() as client:
        answer = client.get(URL + "/digest", auth=module.DigestAuth("user", "hunter2-0123456789"))
        return [answer.status_code, digest(answer.content)]


@both
def event_hooks(module):
    seen = []
    hooks = {"request": [lambda r: seen.append(r.method)], "response": [lambda r: seen.append(r.status_code)]}
    with module.Client(event_hooks=hooks) as client:
        client.get(URL + "/page")
    return seen


@both
def streamed_upload(module):
    with module.Client() as client:
        return client.post(URL + "/upload", content=pieces()).text


@both
def multipart_upload(module):
    with module.Client() as client:
        return client.post(
            URL + "/upload",
            files={"file": ("a.bin", DATA)},
            headers={"content-type": "multipart/form-data; boundary=fixed"},
        ).text


@both
def stepwise(module):
    got = []
    with (
        module.Client() as client,
        client.stream("POST", URL + "/stepwise/v1/chat/completions", json={"model": "m", "messages": []}) as answer,
    ):
        for piece in answer.iter_raw():
            got.append(piece.decode())
            ack()
    return got


@both
def read_in_part(module):
    with module.Client() as client, client.stream("GET", URL + "/chunked") as answer:
        return next(answer.iter_raw()).decode()


@both
def unzipped(module):
    with module.Client() as client:
        return digest(client.get(URL + "/gzip").content)


@both
def head_and_none(module):
    with module.Client() as client:
        return [client.head(URL + "/page").status_code, client.get(URL + "/none").status_code]


@both
def cut(module):
    with module.Client() as client:
        return digest(client.get(URL + "/cut").content)


@scenario
def httpx_own_transport():
    with httpx.Client(transport=Answering()) as client:
        return client.get("http://nowhere.invalid/own").text


@scenario
async def httpx2_async():
    async with httpx2.AsyncClient(follow_redirects=True) as client:
        answer = await client.get(URL + "/redirect")
        upload = await client.post(URL + "/upload", content=async_pieces())
        return [answer.status_code, len(answer.history), digest(answer.content), upload.text]


@scenario
async def httpx2_async_stepwise():
    got = []
    async with httpx2.AsyncClient() as client, client.stream("GET", URL + "/stepwise") as answer:
        async for piece in answer.aiter_raw():
            got.append(piece.decode())
            await asyncio.to_thread(ack)
    return got


# --- requests and urllib3 --------------------------------------------------------------------------------------------


@scenario
def requests_page():
    answer = requests.get(URL + "/page", timeout=10)
    return [answer.status_code, digest(answer.content), answer.ok]


@scenario
def requests_redirected():
    answer = requests.get(URL + "/redirect", timeout=10)
    return [answer.status_code, [one.status_code for one in answer.history], digest(answer.content)]


@scenario
def requests_unzipped():
    return digest(requests.get(URL + "/gzip", timeout=10).content)


@scenario
def requests_chunked():
    return requests.get(URL + "/chunked", timeout=10).text


@scenario
def requests_until_close():
    return digest(requests.get(URL + "/until-close", timeout=10).content)


@scenario
def requests_head_and_none():
    return [requests.head(URL + "/page", timeout=10).status_code, requests.get(URL + "/none", timeout=10).status_code]


@scenario
def requests_stepwise():
    got = []
    with requests.post(
        URL + "/stepwise/v1/chat/completions", json={"model": "m", "messages": []}, stream=True, timeout=10
    ) as answer:
        for piece in answer.iter_content(None):
            got.append(piece.decode())
            ack()
    return got


@scenario
def requests_read_in_part():
    with requests.get(URL + "/chunked", stream=True, timeout=10) as answer:
        return next(answer.iter_content(None)).decode()


@scenario
def requests_abandoned():
    answer = requests.get(URL + "/page", stream=True, timeout=10)
    start = answer.raw.read(10)
    del answer
    gc.collect()
    return start.decode()


@scenario
def requests_cut():
    return digest(requests.get(URL + "/cut", timeout=10).content)


@scenario
def requests_upload():
    return requests.post(URL + "/upload", data=pieces(), timeout=10).text


@scenario
def requests_missing():
    answer = requests.get(URL + "/missing", timeout=10)
    return [answer.status_code, answer.text]


@scenario
def urllib3_page():
    answer = urllib3.request("GET", URL + "/page")
    return [answer.status, digest(answer.data)]


@scenario
def urllib3_unzipped():
    return digest(urllib3.request("GET", URL + "/gzip").data)


@scenario
def urllib3_not_preloaded():
    answer = urllib3.PoolManager().request("GET", URL + "/page", preload_content=False)
    first, rest = answer.read(10), answer.read()
    answer.release_conn()
    return [first.decode(), digest(rest)]


@scenario
def urllib3_raw_zipped():
    answer = urllib3.PoolManager().request("GET", URL + "/gzip", decode_content=False)
    return digest(answer.data)


@scenario
def urllib3_cut():
    return digest(urllib3.request("GET", URL + "/cut", retries=False).data)


@scenario
def urllib3_collected_at_once():
    """A response nobody holds gives its connection back then and there, not at the next collection."""
    gc.disable()
    pool = urllib3.HTTPConnectionPool("127.0.0.1", int(URL.rpartition(":")[2]), maxsize=1, block=True)
    for _ in range(3):
        pool.request("GET", "/page", preload_content=False, pool_timeout=5).read()
    gc.enable()
    return pool.num_connections


# --- aiohttp ---------------------------------------------------------------------------------------------------------


@scenario
async def aiohttp_page():
    async with aiohttp.ClientSession() as session, session.get(URL + "/page") as answer:
        return [answer.status, digest(await answer.read()), isinstance(answer.content, aiohttp.StreamReader)]


@scenario
async def aiohttp_post():
    async with aiohttp.ClientSession() as session, session.post(URL + "/upload", json={"a": 1}) as answer:
        return await answer.text()


@scenario
async def aiohttp_upload():
    async with aiohttp.ClientSession() as session, session.post(URL + "/upload", data=async_pieces()) as answer:
        return await answer.text()


@scenario
async def aiohttp_redirected():
    async with aiohttp.ClientSession() as session, session.get(URL + "/redirect") as answer:
        return [answer.status, [one.status for one in answer.history], digest(await answer.read())]


@scenario
async def aiohttp_in_pieces():
    async with aiohttp.ClientSession() as session, session.get(URL + "/chunked") as answer:
        line = await answer.content.readline()
        few = await answer.content.readexactly(3)
        rest = await answer.content.read()
        return [line.decode(), few.decode(), rest.decode()]


@scenario
async def aiohttp_chunks():
    async with aiohttp.ClientSession() as session, session.get(URL + "/page") as answer:
        return digest(b"".join([piece async for piece in answer.content.iter_chunked(100)]))


@scenario
async def aiohttp_stepwise():
    got = []
    async with (
        aiohttp.ClientSession() as session,
        session.post(URL + "/stepwise/v1/chat/completions", json={"model": "m", "messages": []}) as answer,
    ):
        async for piece in answer.content.iter_any():
            got.append(piece.decode())
            await asyncio.to_thread(ack)
    return got


@scenario
async def aiohttp_released_unread():
    async with aiohttp.ClientSession() as session:
        answer = await session.get(URL + "/page")
        answer.release()
        return answer.status


@scenario
async def aiohttp_read_in_part():
    async with aiohttp.ClientSession() as session, session.get(URL + "/chunked") as answer:
        return (await answer.content.readline()).decode()


@scenario
async def aiohttp_unzipped():
    async with aiohttp.ClientSession() as session, session.get(URL + "/gzip") as answer:
        return digest(await answer.read())


@scenario
async def aiohttp_raw_zipped():
    async with aiohttp.ClientSession(auto_decompress=False) as session, session.get(URL + "/gzip") as answer:
        return digest(await answer.read())


@scenario
async def aiohttp_head_and_none():
    async with aiohttp.ClientSession() as session:
        async with session.head(URL + "/page") as head, session.get(URL + "/none") as none:
            return [head.status, none.status, await none.read() == b""]


@scenario
async def aiohttp_cut():
    async with aiohttp.ClientSession() as session, session.get(URL + "/cut") as answer:
        return digest(await answer.read())


@scenario
async def aiohttp_own_middleware():
    seen = []

    async def middleware(request, handler):
        answer = await handler(request)
        seen.append(answer.status)
        return answer

    async with aiohttp.ClientSession(middlewares=[middleware]) as session, session.get(URL + "/redirect") as answer:
        await answer.read()
    return seen


@scenario
async def aiohttp_refused():
    async with aiohttp.ClientSession() as session, session.get("http://127.0.0.1:9/refused") as answer:
        return answer.status


main()
sys.exit(0)
