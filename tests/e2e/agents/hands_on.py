"""Does things for real, one after the other, and says how each went; `FOLDER` and `PORT` are where."""

import asyncio
import contextlib
import http.client
import os
import pathlib
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading

FOLDER, PORT = pathlib.Path(os.environ["FOLDER"]), int(os.environ["PORT"])
HOST = "127.0.0.1"


def write_file():
    (FOLDER / "out.txt").write_text("x")


def os_open():
    os.close(os.open(FOLDER / "raw.txt", os.O_RDWR | os.O_CREAT))


def folders():
    (FOLDER / "d" / "e").mkdir(parents=True)


def replace():
    (FOLDER / "new.txt").write_text("y")
    os.replace(FOLDER / "new.txt", FOLDER / "final.txt")


def remove():
    (FOLDER / "victim.txt").unlink()


def truncate():
    os.truncate(FOLDER / "kept.txt", 0)


def database():
    with contextlib.closing(sqlite3.connect(FOLDER / "data.db")) as connection:
        connection.execute("create table if not exists t (a)")


def from_a_thread():
    error = []

    def work():
        try:
            (FOLDER / "thread.txt").write_text("x")
        except OSError as exc:
            error.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if error:
        raise error[0]


def popen():
    subprocess.run(["true"], check=True)


def shell():
    subprocess.run("true", shell=True, check=True)


def system():
    os.system("true")


def spawn():
    os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", "true"], {}), 0)


def python():
    subprocess.run([sys.executable, "-c", "pass"], check=True)


def async_process():
    async def work():
        await (await asyncio.create_subprocess_exec("true")).wait()

    asyncio.run(work())


def raw_socket():
    socket.create_connection((HOST, PORT)).close()


def http_client():
    connection = http.client.HTTPConnection(HOST, PORT)
    connection.request("GET", "/")
    connection.close()


def streams():
    async def work():
        _, writer = await asyncio.open_connection(HOST, PORT)
        writer.close()

    asyncio.run(work())


def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", (HOST, PORT))


def look_up():
    socket.getaddrinfo("nowhere.invalid", 80)


def look_up_old():
    socket.gethostbyname("nowhere.invalid")


def unseen():
    """Nothing of this is the program's own doing, or for real."""
    with tempfile.TemporaryDirectory():
        tempfile.TemporaryFile().close()
    with open(os.devnull, "w") as null:
        null.write("x")
    (FOLDER / "kept.txt").read_text()
    sqlite3.connect(":memory:").close()
    asyncio.run(asyncio.sleep(0))
    left, right = socket.socketpair()
    left.close()
    right.close()
    socket.getaddrinfo(HOST, PORT)


FILES = (write_file, os_open, folders, replace, remove, truncate, database, from_a_thread)
PROCESSES = (popen, shell, system, spawn, python, async_process)
NET = (raw_socket, http_client, streams, datagram, look_up, look_up_old)

for act in (unseen, *FILES, *PROCESSES, *NET):
    try:
        act()
    except OSError as error:
        print(act.__name__, error.strerror if isinstance(error, PermissionError) else "failed")
    else:
        print(act.__name__, "done")
