"""Where things are: the `.unspool` folder, the PID counter, ids, and who is alive."""

from __future__ import annotations

import fcntl
import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path

from unspool.errors import InvalidID, StoreError

__all__ = [
    "FORMAT_VERSION",
    "STORE_NAME",
    "Store",
    "boot_id",
    "check_id",
    "find_store",
    "new_hex_id",
    "new_record_id",
    "os_process_start",
    "time_of_record_id",
    "writer_is_alive",
]

STORE_NAME = ".unspool"
FORMAT_VERSION = 1
LOCK_NAME = "writer.lock"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"  # 32 characters: five bits of a random byte choose one
_STAMP = "%Y%m%dT%H%M%S"
_PID_MAX = 1 << 62


def check_id(kind: str, value: str) -> str:
    """Give `value` back if it is an id that cannot leave its folder.

    Raises:
        InvalidID: it is empty, too long, has other characters, or holds `..`.
    """
    if not _ID.fullmatch(value) or ".." in value:
        raise InvalidID(kind, value)
    return value


def new_hex_id() -> str:
    """16 bytes of the operating system's generator as 32 lower-case hex characters (a W3C trace id)."""
    return os.urandom(16).hex()


def new_record_id(pid: int) -> str:
    """`<pid>-<UTC time>-<4 random characters>`: sorts by time within a PID, never meets another of the same second."""
    stamp = datetime.now(UTC).strftime(_STAMP)
    return f"{pid}-{stamp}-{''.join(_ID_ALPHABET[byte & 31] for byte in os.urandom(4))}"


def time_of_record_id(record_id: str) -> datetime | None:
    """When a recording was started, by its id: ours, or the reference's `<pid>-<unix seconds>`; None for others."""
    pid, _, rest = record_id.partition("-")
    stamp = rest.partition("-")[0]
    try:
        if not pid.isdecimal():
            return None
        if stamp.isdecimal():
            return datetime.fromtimestamp(int(stamp), UTC)
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return None


def find_store(explicit: str | os.PathLike[str] | None = None, *, cwd: str | os.PathLike[str] | None = None) -> Store:
    """The store to use: `explicit`, else `UNSPOOL_STORE`, else the nearest `.unspool` upward, else one in `cwd`.

    The search upward ends at the repository root (a folder with `.git`) and does not reach the home folder or
    what is above it. Nothing is created here.
    """
    if explicit:
        return Store(Path(explicit).expanduser().absolute())
    if named := os.environ.get("UNSPOOL_STORE"):
        return Store(Path(named).expanduser().absolute())
    here = Path(cwd or os.getcwd()).absolute()
    home = Path.home()
    for folder in (here, *here.parents):
        if folder != here and (folder == home or folder in home.parents):
            break
        if (folder / STORE_NAME).is_dir():
            return Store(folder / STORE_NAME)
        if (folder / ".git").exists():
            break
    return Store(here / STORE_NAME)


class Store:
    """A `.unspool` folder. Making the object touches nothing on disk; `ensure` creates the folder."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def records(self) -> Path:
        """The folder of recordings: one folder each, named by record id."""
        return self.path / "records"

    @property
    def traces(self) -> Path:
        """The folder that joins the processes of one trace."""
        return self.path / "traces"

    def ensure(self) -> Store:
        """Create the folder (0700, ignored by git) if it is not there.

        Raises:
            StoreError: it cannot be created.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.records.mkdir(mode=0o700, exist_ok=True)
            ignore = self.path / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
                ignore.chmod(0o600)
        except OSError as exc:
            raise StoreError(
                f"cannot create the store {self.path}: {exc.strerror or exc}. Choose another place with --store DIR."
            ) from exc
        return self

    def next_pid(self) -> int:
        """The next PID: from 1, unique in this store, never used again.

        Raises:
            StoreError: the counter cannot be read or written.
        """
        path = self.path / "pid"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                text = os.read(fd, 32).strip()
                # A lost or damaged counter must not hand out a PID again: start above every recording there is.
                last = int(text) if text.isdigit() else _PID_MAX
                if last >= _PID_MAX:
                    last = self._highest_recorded_pid()
                os.pwrite(fd, text := b"%-20d\n" % (last + 1), 0)
                os.ftruncate(fd, len(text))
                return last + 1
            finally:
                fcntl.flock(fd, fcntl.LOCK_UN)  # closing is not enough if another thread forked meanwhile
                os.close(fd)
        except OSError as exc:
            raise StoreError(f"cannot count a new PID in {path}: {exc.strerror or exc}") from exc

    def use_pid(self, pid: int) -> None:
        """Never hand out this PID or one below it: a recording that was copied in has it.

        Raises:
            StoreError: as `next_pid`.
        """
        path = self.path / "pid"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                text = os.read(fd, 32).strip()
                # A counter that is lost or damaged is made anew by `next_pid`, above every recording there is.
                if text.isdigit() and int(text) < pid < _PID_MAX:
                    os.pwrite(fd, text := b"%-20d\n" % pid, 0)
                    os.ftruncate(fd, len(text))
            finally:
                fcntl.flock(fd, fcntl.LOCK_UN)
                os.close(fd)
        except OSError as exc:
            raise StoreError(f"cannot count PIDs in {path}: {exc.strerror or exc}") from exc

    def _highest_recorded_pid(self) -> int:
        highest = 0
        try:
            for name in os.listdir(self.records):
                head = name.split("-", 1)[0]
                if head.isdecimal() and len(head) < 19:
                    highest = max(highest, int(head))
        except FileNotFoundError:
            return 0
        return highest


def writer_is_alive(record_dir: str | os.PathLike[str]) -> bool:
    """Whether a process holds this recording's writer lock, that is, may still write to it.

    A shared lock is asked for, so that several readers asking at once do not take each other for the writer.
    """
    try:
        fd = os.open(os.path.join(record_dir, LOCK_NAME), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks: nobody can hold one
        return False
    finally:
        os.close(fd)


def boot_id() -> str | None:
    """An id of this boot of the machine, None where the system has none (then only the lock tells who is alive)."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return None


def os_process_start(os_pid: int) -> int | None:
    """When an OS process started, in clock ticks since boot (proc(5), stat field 22); None if it is gone or unknown.

    Together with the boot id this tells a process from a later one with the same number.
    """
    try:
        with open(f"/proc/{os_pid}/stat", "rb") as file:
            # The command name is in parentheses and may itself hold spaces and parentheses.
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def host_name() -> str:
    """This machine's name, as written into metadata."""
    return os.uname().nodename


def wall_clock_offset_ns() -> int:
    """Add this to a `time.monotonic_ns()` reading to get nanoseconds of the Unix epoch."""
    return time.time_ns() - time.monotonic_ns()
