"""gateway.systemd: what is said to a manager, what is taken from it; and the units that systemd itself finds sound."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

import pytest
import trio
import trio.testing

from gateway import systemd
from gateway.config import ConfigError
from gateway.systemd import Notifier, Watchdog, take_sockets

UNITS = Path(__file__).parents[3] / "systemd"
EXPOSURE_MAX = 1.5


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket as a service manager listens on it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


Tell = Callable[..., Notifier]


@pytest.fixture
def tell() -> Iterator[Tell]:
    """Makes notifiers, and closes them."""
    made: list[Notifier] = []

    def make(environ: dict[str, str], **options: int) -> Notifier:
        made.append(Notifier(environ, **options))
        return made[-1]

    yield make
    for notifier in made:
        notifier.close()


def heard(sock: socket.socket) -> list[list[str]]:
    datagrams = []
    while True:
        try:
            datagrams.append(sock.recv(4096).decode().split("\n"))
        except BlockingIOError:
            return datagrams


def at(sock: socket.socket) -> dict[str, str]:
    return {"NOTIFY_SOCKET": sock.getsockname()}


# Telling


def test_what_is_told(tell: Tell, manager: socket.socket) -> None:
    """Each step of a service's life in the words of sd_notify(3), one datagram each."""
    notifier = tell(at(manager))
    notifier.ready("serving\non 8400")
    notifier.beat()
    notifier.reloading()
    notifier.stopping("draining")
    notifier.close()
    ready, beat, reloading, stopping = heard(manager)
    assert ready == ["READY=1", "STATUS=serving on 8400"]
    assert beat == ["WATCHDOG=1"]
    assert reloading[0] == "RELOADING=1"
    assert re.fullmatch(r"MONOTONIC_USEC=\d+", reloading[1])
    assert stopping == ["STOPPING=1", "STATUS=draining", "EXTEND_TIMEOUT_USEC=10000000"]


def test_an_abstract_address(tell: Tell) -> None:
    """An address that begins with @ has no file."""
    name = f"readback-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        sock.setblocking(False)
        tell({"NOTIFY_SOCKET": "@" + name}).beat()
        assert heard(sock) == [["WATCHDOG=1"]]


@pytest.mark.parametrize(
    "environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}, {"NOTIFY_SOCKET": "/no/one"}]
)
def test_nobody_listens(tell: Tell, environ: dict[str, str]) -> None:
    """Started by hand, or by a manager that has gone: saying something does nothing and fails in nothing."""
    tell(environ).ready("serving")


def test_a_manager_that_does_not_read(tell: Tell, manager: socket.socket) -> None:
    """Its queue may be full: the node does not wait for it."""
    notifier = tell(at(manager))
    for _ in range(10_000):
        notifier.beat()
    assert heard(manager)


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "42"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "43"}, inf),
        ({"WATCHDOG_USEC": "0"}, inf),
        ({"WATCHDOG_USEC": "soon"}, inf),
        ({}, inf),
    ],
)
def test_the_watchdogs_time(tell: Tell, manager: socket.socket, variables: dict[str, str], seconds: float) -> None:
    """What the manager asks of this very process, and of no other."""
    assert tell({**at(manager), **variables}, pid=42).watchdog_s == seconds


def test_the_loop_feeds_the_watchdog(tell: Tell, manager: socket.socket) -> None:
    """Called each tenth of a second, it beats twice in the manager's time; while not alive, not at all."""
    now_s, alive = 0.0, True
    watchdog = Watchdog(tell({**at(manager), "WATCHDOG_USEC": "4000000"}), lambda: alive, lambda: now_s)
    for tick in range(100):
        now_s, alive = tick / 10, tick < 50
        watchdog()
    assert len(heard(manager)) == 3  # at 0, 2 and 4 s
    alive = True
    watchdog()
    assert len(heard(manager)) == 1


def test_no_watchdog_no_beats(tell: Tell, manager: socket.socket) -> None:
    """A manager that did not ask is told once at most, and harmlessly."""
    watchdog = Watchdog(tell(at(manager)), lambda: True, lambda: 5.0)
    for _ in range(10):
        watchdog()
    assert len(heard(manager)) <= 1


async def test_more_time_while_a_drain_goes_on(
    tell: Tell, manager: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    """Asked for again and again: when the loop hangs, the manager's patience ends."""
    notifier = tell(at(manager))
    with trio.move_on_after(9):
        await notifier.extend_while_stopping()
    assert heard(manager) == [["EXTEND_TIMEOUT_USEC=10000000"]] * 5


async def test_a_loop_without_a_pulse(
    tell: Tell, manager: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    """The parent of workers beats by a task."""
    with trio.move_on_after(9):
        await tell({**at(manager), "WATCHDOG_USEC": "4000000"}).feed_watchdog()
    assert heard(manager) == [["WATCHDOG=1"]] * 5
    await tell({}).feed_watchdog()  # nobody asked: nothing to do


# Inherited sockets


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """Two listening sockets on successive descriptors, as a manager hands them over."""
    first = 200
    originals, duplicates = [], []
    for at in range(2):
        sock = socket.create_server(("127.0.0.1", 0))
        os.dup2(sock.fileno(), first + at)
        originals.append(sock)
        duplicates.append(first + at)
    monkeypatch.setattr(systemd, "FIRST_FD", first)
    yield originals
    for sock in originals:
        sock.close()
    for descriptor in duplicates:
        try:
            os.close(descriptor)
        except OSError:
            pass  # closed by who took it


def variables(**changed: str) -> dict[str, str]:
    return {"LISTEN_FDS": "2", "LISTEN_PID": "7", "LISTEN_FDNAMES": "websocket:http", "HOME": "/", **changed}


@pytest.mark.parametrize(
    ("names", "websocket"), [("websocket:http", 0), ("http:websocket", 1), ("", 0), ("unknown:unknown", 0)]
)
def test_sockets_by_name(handed: list[socket.socket], names: str, websocket: int) -> None:
    """Names decide; without them the WebSocket's comes first. No child inherits them or what told of them."""
    environ = variables(LISTEN_FDNAMES=names)
    taken = take_sockets(environ, pid=7)
    assert taken is not None
    try:
        assert taken.websocket.getsockname() == handed[websocket].getsockname()
        assert taken.http.getsockname() == handed[1 - websocket].getsockname()
        assert not os.get_inheritable(taken.http.fileno())
        assert environ == {"HOME": "/"}
    finally:
        taken.websocket.close()
        taken.http.close()


def test_sockets_of_somebody_else() -> None:
    """Without the variables, or with another process' number, there are none."""
    assert take_sockets({}) is None
    assert take_sockets(variables(LISTEN_PID="8"), pid=7) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"LISTEN_FDS": "1", "LISTEN_FDNAMES": "websocket"}, "handed over 1 sockets"),
        ({"LISTEN_FDS": "3"}, "handed over 3 sockets"),
        ({"LISTEN_FDNAMES": "ws:api"}, "'ws:api'.*FileDescriptorName="),
        ({"LISTEN_FDNAMES": "websocket:websocket"}, "must be websocket and http"),
    ],
)
def test_wrong_sockets(handed: list[socket.socket], changed: dict[str, str], said: str) -> None:
    """One sentence says what was handed over and what is taken."""
    with pytest.raises(ConfigError, match=said):
        take_sockets(variables(**changed), pid=7)


def test_sockets_of_a_wrong_kind(handed: list[socket.socket]) -> None:
    """Only listening TCP sockets will do: no datagrams, no connection, no file."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        os.dup2(datagrams.fileno(), systemd.FIRST_FD)
    with pytest.raises(ConfigError, match="for websocket is no listening TCP socket"):
        take_sockets(variables(), pid=7)
    with socket.create_connection(handed[0].getsockname()) as connection:
        os.dup2(connection.fileno(), systemd.FIRST_FD)
    with pytest.raises(ConfigError, match="Accept=no"):
        take_sockets(variables(), pid=7)
    with open(os.devnull) as file:
        os.dup2(file.fileno(), systemd.FIRST_FD)
    with pytest.raises(ConfigError, match="is no socket"):
        take_sockets(variables(), pid=7)


# The units

needs_systemd_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on PATH: the units cannot be verified here"
)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that exists in place of the installed one."""
    for unit in UNITS.iterdir():
        if unit.suffix in (".service", ".socket", ".target"):
            text = unit.read_text("utf-8")
            (tmp_path / unit.name).write_text(text.replace("/opt/readback/bin/readback", "/bin/true"))
    return tmp_path


@needs_systemd_analyze
def test_units_verify(units: Path) -> None:
    """systemd finds nothing to say about any of them."""
    names = [
        "readback@1.service",
        "readback-work@1.service",
        "readback.socket",
        "readback-http.socket",
        "readback.target",
    ]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--generators=no", *(str(units / name) for name in names)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "readback" in line]) == (0, [])


@needs_systemd_analyze
@pytest.mark.parametrize("unit", ["readback@.service", "readback-work@.service"])
def test_units_are_shut_in(units: Path, unit: str) -> None:
    """What a taken-over node or worker could reach, as systemd counts it: at most 1.5 of 10."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(units / unit)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    exposure = re.search(r"Overall exposure level for .*: ([\d.]+) ", done.stdout)
    assert exposure is not None, done.stdout + done.stderr
    assert float(exposure[1]) <= EXPOSURE_MAX


def test_units_and_code_agree() -> None:
    """The names of the sockets are those the code knows; systemd waits longer than a drain may take."""
    from core.limits import Limits

    names = {
        unit.stem: re.findall(r"^FileDescriptorName=(\w+)$", unit.read_text(), re.MULTILINE)
        for unit in UNITS.glob("*.socket")
    }
    assert names == {"readback": [systemd.WEBSOCKET], "readback-http": [systemd.HTTP]}
    service = (UNITS / "readback@.service").read_text()
    stop_s = re.search(r"^TimeoutStopSec=(\d+)$", service, re.MULTILINE)
    assert stop_s is not None
    assert int(stop_s[1]) > Limits().drain_window_s + 10
    files = re.search(r"^LimitNOFILE=(\d+)$", service, re.MULTILINE)
    assert files is not None
    assert int(files[1]) >= Limits().connections_max + 512
