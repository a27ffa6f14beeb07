"""The pytest plugin: a test's model traffic, recorded once and served afterwards.

    @pytest.mark.unspool
    def test_the_agent(): ...

`pytest --unspool=record` writes `cassettes/<module>/<test>.unspool.json` beside the test; without an option such a file
is served, and a test whose requests are not those of its file fails with what differs.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from unspool.pytest_plugin.running import Mode, Running
    from unspool.recording.reader import RecordReader

__all__ = ["NotRecorded", "Replay", "replay"]

_MODES: Final = ("record", "replay", "live", "off")
_Failed: Any = pytest.fail.Exception  # pytest tells type checkers less of it than there is
_running: Final = pytest.StashKey["Running"]()
_passed: Final = pytest.StashKey[bool]()

_MARKER: Final = (
    'unspool(unused="fail", ignore_hosts=()): record the model traffic of this test once (--unspool=record) and serve '
    'it afterwards; unused="ignore" allows recorded exchanges that the test does not make; requests to ignore_hosts '
    "are left alone"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--unspool` and the settings of pytest.ini."""
    group = parser.getgroup("unspool", "model traffic of tests")
    group.addoption(
        "--unspool",
        choices=_MODES,
        default=None,
        help="record: call the models and write cassettes; replay: serve them (the default); live: call the models and "
        "write nothing; off: leave the tests alone.",
    )
    parser.addini("unspool_dir", "folder of cassettes, from the folder of the test's file", default="cassettes")
    parser.addini("unspool_ignore_hosts", "hosts whose requests are neither recorded nor served", type="args")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


class NotRecorded(_Failed):  # type: ignore[misc]  # as said there
    """Raised by a request that the cassette does not hold. No `Exception`, so that clients do not try again."""


class Replay:
    """What a test can ask about its traffic: the fixture `replay`.

    Attributes:
        mode: `record`, `replay`, `live` or `off`.
        path: its cassette, which need not exist.
    """

    def __init__(self, mode: str, path: Path, running: Running | None) -> None:
        self.mode = mode
        self.path = path
        self._running = running

    def recording(self) -> RecordReader:
        """What this run of the test has done so far, as a recording: events, contexts, tool calls. Close it.

        Raises:
            RuntimeError: nothing is recorded, because the plugin is off.
        """
        from unspool.recording.reader import RecordReader

        folder = self._running.record_dir if self._running is not None else None
        if folder is None:
            raise RuntimeError("nothing is recorded: the plugin is off (--unspool=off)")
        return RecordReader(folder, live=True)


@pytest.fixture
def replay(request: pytest.FixtureRequest) -> Replay:
    """Records the model traffic of the test once, and serves it afterwards, as the marker `unspool` does."""
    running = request.node.stash.get(_running, None)
    mode = running.mode if running is not None else "off"
    return Replay(mode, _cassette_path(request.node), running)


# --- the life of a test ----------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, trylast=True)  # the innermost: what fails here is like a fixture that fails
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """Begin before the fixtures: they may ask a model, too."""
    if _is_ours(item):
        _start(item)
    running = item.stash.get(_running, None)
    if running is None:
        return (yield)
    running.enter()
    try:
        return (yield)
    except BaseException as exc:
        _fail_if_diverged(item, running, exc)
        raise
    finally:
        running.leave()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Run the test, and fail it if its requests are not those of its cassette, whatever became of the exception."""
    running = item.stash.get(_running, None)
    if running is None:
        return (yield)
    running.enter()
    try:
        result = yield
    except BaseException as exc:
        _fail_if_diverged(item, running, exc)
        raise
    finally:
        running.leave()
        running.end_of_test()
    problem = running.problem(passed=True)
    if problem is not None:
        pytest.fail(_with_advice(item, problem), pytrace=False)
    item.stash[_passed] = True
    return result


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """Tear down the fixtures, then write the cassette of a test that passed."""
    running = item.stash.get(_running, None)
    if running is None:
        return (yield)
    try:
        running.enter()
        try:
            result = yield
        finally:
            running.leave()
            running.finish()
        problem = running.problem(passed=False)
        if problem is not None and item.stash.get(_passed, False):
            pytest.fail(_with_advice(item, problem), pytrace=False)
        _write(item, running)
        return result
    finally:
        del item.stash[_running]
        running.close()


def _is_ours(item: pytest.Item) -> bool:
    wanted = item.get_closest_marker("unspool") is not None or _uses_our_fixture(item)
    return wanted and item.config.getoption("--unspool") != "off"


def _uses_our_fixture(item: pytest.Item) -> bool:
    """Whether the test asks for `replay`, and that is ours: a project may have had a fixture of this name before."""
    found = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {}).get("replay", ())
    return any(getattr(one.func, "__module__", None) == __name__ for one in found[-1:])


def _start(item: pytest.Item) -> None:
    from unspool.errors import UnspoolError
    from unspool.pytest_plugin.running import Running

    unused, hosts = _marker_arguments(item)
    path = _cassette_path(item)
    mode = _mode(item)
    if mode == "replay" and not path.exists():
        pytest.fail(
            f"{item.nodeid} has no cassette ({path}).\nRecord it, which calls the models for real: "
            f'pytest --unspool=record "{item.nodeid}"',
            pytrace=False,
        )
    running = Running(
        item.nodeid,
        path,
        mode,
        unused=unused,
        ignored_hosts=(*item.config.getini("unspool_ignore_hosts"), *hosts),
        raised=lambda reason: NotRecorded(f"unspool: {reason}"),
    )
    try:
        running.start()
    except BaseException as exc:
        running.finish()
        running.close()
        if isinstance(exc, UnspoolError | ValueError | OSError):
            raise _Failed(f"unspool: {exc}", pytrace=False) from None
        raise
    item.stash[_running] = running


def _mode(item: pytest.Item) -> Mode:
    chosen: Mode | None = item.config.getoption("--unspool")
    return chosen or "replay"


def _marker_arguments(item: pytest.Item) -> tuple[Any, tuple[str, ...]]:
    marker = item.get_closest_marker("unspool")
    given = dict(marker.kwargs) if marker is not None else {}
    unused = given.pop("unused", "fail")
    hosts = given.pop("ignore_hosts", ())
    hosts = (hosts,) if isinstance(hosts, str) else tuple(hosts)
    if given or (marker is not None and marker.args) or unused not in ("fail", "ignore"):
        pytest.fail(f"@pytest.mark.unspool takes: {_MARKER}", pytrace=False)
    return unused, hosts


def _cassette_path(item: pytest.Item) -> Path:
    from unspool.pytest_plugin.names import cassette_path

    name = item.nodeid.partition("::")[2] or item.name
    return cassette_path(item.path, name, item.config.getini("unspool_dir"))


def _fail_if_diverged(item: pytest.Item, running: Running, exc: BaseException) -> None:
    if isinstance(exc, KeyboardInterrupt | SystemExit | pytest.exit.Exception):
        return
    problem = running.problem(passed=False)
    if problem is not None:
        # Another error shows where the test stumbled because of it; ours would say the same again.
        cause = None if isinstance(exc, NotRecorded) else exc
        raise _Failed(_with_advice(item, problem), pytrace=False) from cause


def _with_advice(item: pytest.Item, problem: str) -> str:
    return f'{problem}\nRecord it again, if this is how it shall be: pytest --unspool=record "{item.nodeid}"'


def _write(item: pytest.Item, running: Running) -> None:
    if running.mode != "record":
        return
    if not item.stash.get(_passed, False):
        item.add_report_section("teardown", "unspool", f"The test did not pass: {running.path} was not written.")
        return
    try:
        lost = running.write()
    except OSError as exc:
        pytest.fail(f"unspool: {running.path} cannot be written: {exc.strerror or exc}", pytrace=False)
    if lost:
        text = f"{lost} requests had not come to an end and are not in {running.path}."
        item.add_report_section("teardown", "unspool", text)
