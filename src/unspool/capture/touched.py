"""What a rerun does for real: files it changes, processes it starts, hosts it reaches. Reported, or refused (`--deny`).

Works on audit events (PEP 578), which come before the act and can refuse it. What does not count is what the program
did not ask for: the interpreter's own files, temporary files while `tempfile` makes or removes them, the insides of
`multiprocessing`, and our own. What cannot be seen: C extensions that open files or sockets without the interpreter,
and what a process that is no Python does.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from unspool.capture import serve
from unspool.capture.credentials import clean_argv
from unspool.capture.flow import QUIET, current_flow
from unspool.capture.guard import guard
from unspool.capture.places import AGENT, LIBRARY, STDLIB, caller, kind_of
from unspool.serving.journal import Entry

if TYPE_CHECKING:
    from unspool.serving.stage import Stage

__all__ = ["EVENTS", "Touched"]

FILES, PROCESSES, NET = "fs-write", "process", "net"

_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NO_FILES = ("/proc/", "/sys/", "/dev/")
_FILES_AFTER_ALL = ("/dev/shm/",)
_TEXT_MAX = 200
# Frames that act for the interpreter or for themselves, not for the program that called them.
_FOR_ITSELF = tuple(
    os.sep + name.replace("/", os.sep)
    for name in ("platform.py", "sysconfig.py", "sysconfig/__init__.py", "ctypes/util.py", "tempfile.py")
)
_MULTIPROCESSING = f"{os.sep}multiprocessing{os.sep}"


class _Act(NamedTuple):
    """Something about to happen."""

    kind: str
    path: str
    what: str  # "writing /tmp/out.txt"


class Touched:
    """Sees the acts of one OS process of a rerun.

    Args:
        stage: of the rerun.
        own_folder: the store; what happens in it is ours.
    """

    def __init__(self, stage: Stage, own_folder: str) -> None:
        self._stage = stage
        self._deny = frozenset(stage.plan.deny)
        self._own = os.path.join(own_folder, "")
        self._told: set[tuple[str, str | None, bool]] = set()

    def see(self, event: str, args: tuple[Any, ...]) -> None:
        """Take note of one audit event.

        Raises:
            PermissionError: it is refused.
        """
        if event not in EVENTS:
            return
        kind, describe = EVENTS[event]
        act: _Act | None = _Act(kind, f"/dev/{_FOLDERS[kind]}/?", event)  # what cannot be described still counts
        with guard:
            act = describe(event, args)
            if act is None or f"{act.path}/".startswith("/dev/fs" + self._own) or self._is_sent_by_us(kind):
                return
        if act is None:
            return
        is_denied = kind in self._deny
        with guard:
            self._note(act, is_denied)
        if is_denied:
            command = "rerun" if self._stage.plan.target is None else "fork"
            raise PermissionError(errno.EACCES, f"unspool {command} --deny {kind}: {act.what} refused")

    def _is_sent_by_us(self, kind: str) -> bool:
        """Whether this is the connection of a model call that the rules of the rerun send, reported as such."""
        if kind != NET or not QUIET.get() or not serve.MODEL_CALL.get():
            return False
        return self._stage.plan.on_divergence == "live" or self._stage.reached

    def _note(self, act: _Act, is_denied: bool) -> None:
        at = caller()
        if (act.path, at, is_denied) in self._told:
            return
        self._told.add((act.path, at, is_denied))
        flow = current_flow()
        self._stage.journal.write(
            Entry(
                kind="denied" if is_denied else "touched",
                os_pid=os.getpid(),
                path=act.path,
                task=flow.path if flow is not None else None,
                at=at,
                reason=act.what,
            )
        )


_FOLDERS = {FILES: "fs", PROCESSES: "proc", NET: "net"}


def _is_of_program() -> bool:
    """Whether the program or one of its libraries asked for what is happening."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        kind = kind_of(filename)
        if kind in (AGENT, LIBRARY):
            return True
        if kind == STDLIB and (
            filename.startswith("<frozen importlib") or filename.endswith(_FOR_ITSELF) or _MULTIPROCESSING in filename
        ):
            return False
        frame = frame.f_back
    return True  # it gave a thread or a loop a function of the standard library to run


# --- files -----------------------------------------------------------------------------------------------------------


def _file(verb: str, name: str | None, more: str = "") -> _Act | None:
    if name is None or (name.startswith(_NO_FILES) and not name.startswith(_FILES_AFTER_ALL)) or not _is_of_program():
        return None
    return _Act(FILES, f"/dev/fs{name}", f"{verb} {name}{more}")


def _located(path: Any, folder: Any = None) -> str | None:
    """The absolute name of a file; None for a descriptor, whose file was opened before."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        return None
    name = os.fsdecode(path)
    if isinstance(folder, int) and folder >= 0 and not os.path.isabs(name):
        try:
            return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
        except OSError:  # not on this system
            return name
    return os.path.abspath(name)


def _open(event: str, args: tuple[Any, ...]) -> _Act | None:
    flags = args[2] if len(args) > 2 else 0
    if not isinstance(flags, int) or not flags & _WRITES:
        return None
    return _file("writing", _located(args[0]))


def _database(event: str, args: tuple[Any, ...]) -> _Act | None:
    name = os.fsdecode(args[0]) if isinstance(args[0], (str, bytes, os.PathLike)) else ""
    if not name or ":memory:" in name:
        return None
    if name.startswith("file:"):
        from urllib.parse import parse_qs, urlsplit
        from urllib.request import url2pathname

        parts = urlsplit(name)
        options = parse_qs(parts.query)
        if options.get("mode") in (["ro"], ["memory"]) or options.get("immutable") == ["1"]:
            return None
        name = url2pathname(parts.path)
    return _file("opening the database", _located(name))


def _change(verb: str, folder_position: int | None) -> Callable[[str, tuple[Any, ...]], _Act | None]:
    def describe(event: str, args: tuple[Any, ...]) -> _Act | None:
        folder = args[folder_position] if folder_position is not None and len(args) > folder_position else None
        return _file(verb, _located(args[0], folder))

    return describe


def _arrival(verb: str, folder_position: int) -> Callable[[str, tuple[Any, ...]], _Act | None]:
    """For what gives a file a second name or another one: the new name is what changes."""

    def describe(event: str, args: tuple[Any, ...]) -> _Act | None:
        folder = args[folder_position] if len(args) > folder_position else None
        old = os.fsdecode(args[0]) if isinstance(args[0], (str, bytes, os.PathLike)) else "?"
        return _file(verb, _located(args[1], folder), f" (from {old})")

    return describe


# --- processes -------------------------------------------------------------------------------------------------------


def _started(words: list[str]) -> _Act | None:
    if not _is_of_program():
        return None
    text = " ".join(clean_argv(words))
    text = text if len(text) <= _TEXT_MAX else text[:_TEXT_MAX] + "…"
    return _Act(PROCESSES, f"/dev/proc/{os.path.basename(words[0]) if words else '?'}", f"starting {text}")


def _popen(event: str, args: tuple[Any, ...]) -> _Act | None:
    program, argv = args[0], args[1]
    if isinstance(argv, (str, bytes, os.PathLike)):
        argv = [argv]
    return _started(_words([program or argv[0], *argv[1:]]))


def _exec(event: str, args: tuple[Any, ...]) -> _Act | None:
    if event == "os.exec" and not os.access(args[0], os.X_OK):
        return None  # os.execvp tries each folder of PATH
    return _started(_words([args[0], *args[1][1:]]))


def _system(event: str, args: tuple[Any, ...]) -> _Act | None:
    return _started(["sh", "-c", *_words(args[:1])])


def _pty(event: str, args: tuple[Any, ...]) -> _Act | None:
    return _started(_words(args[0]))


def _words(argv: Any) -> list[str]:
    return [os.fsdecode(word) if isinstance(word, (str, bytes, os.PathLike)) else str(word) for word in argv]


# --- hosts -----------------------------------------------------------------------------------------------------------


def _connection(event: str, args: tuple[Any, ...]) -> _Act | None:
    address = args[1]
    if address is None:  # sendmsg on a socket that is connected
        return None
    if isinstance(address, tuple) and len(address) >= 2:
        where = f"{address[0]}:{address[1]}"
    elif isinstance(address, (str, bytes)):
        if not _is_of_program():
            return None  # multiprocessing, among its own processes
        where = os.fsdecode(address).replace("\0", "@")
    else:
        where = str(address)
    verb = "connection" if event == "socket.connect" else "sending"
    return _Act(NET, f"/dev/net/{where}", f"{verb} to {where}")


def _lookup(event: str, args: tuple[Any, ...]) -> _Act | None:
    host = args[0]
    if event == "socket.getnameinfo":
        host = host[0] if isinstance(host, tuple) and host else host
    name = host.decode("ascii", "replace") if isinstance(host, (bytes, bytearray)) else host
    if not isinstance(name, str) or name in ("", "localhost", _own_name()):
        return None
    number = _number(name)
    if number is not None and (number.is_loopback or event in ("socket.getaddrinfo", "socket.gethostbyname")):
        return None  # nobody is asked
    port = args[1] if event == "socket.getaddrinfo" else None
    where = name if port in (None, "", 0) else f"{name}:{port}"
    return _Act(NET, f"/dev/net/{where}", f"looking up {where}")


def _own_name() -> str:
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")


def _number(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


EVENTS: Final[dict[str, tuple[str, Callable[[str, tuple[Any, ...]], _Act | None]]]] = {
    "open": (FILES, _open),
    "sqlite3.connect": (FILES, _database),
    "os.remove": (FILES, _change("removing", 1)),
    "os.rmdir": (FILES, _change("removing", 1)),
    "os.mkdir": (FILES, _change("making", 2)),
    "os.truncate": (FILES, _change("writing", None)),
    "os.chmod": (FILES, _change("changing the mode of", 2)),
    "os.chown": (FILES, _change("changing the owner of", 3)),
    "os.utime": (FILES, _change("changing the times of", 3)),
    "os.setxattr": (FILES, _change("changing the attributes of", None)),
    "os.removexattr": (FILES, _change("changing the attributes of", None)),
    "os.rename": (FILES, _arrival("renaming to", 3)),
    "os.link": (FILES, _arrival("linking to", 3)),
    "os.symlink": (FILES, _arrival("linking to", 2)),
    "subprocess.Popen": (PROCESSES, _popen),
    "os.system": (PROCESSES, _system),
    "os.exec": (PROCESSES, _exec),
    "os.posix_spawn": (PROCESSES, _exec),
    "pty.spawn": (PROCESSES, _pty),
    "socket.connect": (NET, _connection),
    "socket.sendto": (NET, _connection),
    "socket.sendmsg": (NET, _connection),
    "socket.getaddrinfo": (NET, _lookup),
    "socket.gethostbyname": (NET, _lookup),
    "socket.gethostbyaddr": (NET, _lookup),
    "socket.getnameinfo": (NET, _lookup),
}
