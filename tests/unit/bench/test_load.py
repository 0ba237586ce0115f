"""bench.load and bench.servers: generators and servers are driven over pipes, and what fails says why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import servers
from bench.load import Load, LoadError, Loads, Measured, shares
from bench.scenarios import common
from bench.scenarios.common import Context, Field, Tally
from bench.servers import Missing, Process, Server
from bench.stats import Histogram


@pytest.mark.parametrize(("total", "parts", "expected"), [(10, 3, [4, 3, 3]), (2, 2, [1, 1]), (5, 1, [5])])
def test_work_is_shared_evenly(total: int, parts: int, expected: list[int]) -> None:
    """Nobody gets two more than another, and nothing is lost."""
    assert shares(total, parts) == expected


def test_lines_that_come_together_are_not_lost() -> None:
    """Two lines in one read are two answers, the second kept for the next question."""
    process = Process.start([sys.executable, "-c", "print('a\\nb\\nc')"])
    try:
        assert next(process.lines(10)) == "a"
        assert list(process.lines(10)) == ["b", "c"]
    finally:
        process.stop()


def test_a_silent_process_is_a_time_out_with_its_last_words() -> None:
    """A generator that hangs fails the run instead of hanging it, and what it wrote is said."""
    script = "import sys; sys.stderr.write('stuck here'); sys.stderr.flush(); print('x', flush=True); sys.stdin.read()"
    process = Process.start([sys.executable, "-c", script])
    try:
        assert next(process.lines(10)) == "x"
        with pytest.raises(TimeoutError, match="stuck here"):
            next(process.lines(0))
    finally:
        process.stop()


def test_a_generator_that_knows_no_such_job_says_so() -> None:
    """An error of a generator reaches the harness in words."""
    load = Load({"kind": "nonsense"}, lambda done, of, note: None)
    try:
        with pytest.raises(LoadError, match="no job 'nonsense'"):
            load.ready(30)
    finally:
        load.stop()


def test_a_generator_that_cannot_connect_says_so() -> None:
    """A refused connection ends the run with the system's words."""
    job = {"kind": "echo", "dialect": "plain", "port": 1, "connections": 1, "tokens": [], "payload": 50}
    with Loads.start([job], lambda done, of, note: None) as loads, pytest.raises(LoadError, match="ConnectionRefused"):
        loads.ready(30)


def test_a_server_that_ends_at_its_start_is_missing_with_the_reason() -> None:
    """Not an error of the harness: a row of the table."""
    process = Process.start([sys.executable, "-c", "raise SystemExit('no such module')"])
    try:
        with pytest.raises(Missing, match="no such module"):
            servers.listening_on(process)
    finally:
        process.stop()


def test_a_peer_whose_package_is_absent_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the message says how to get it."""
    monkeypatch.setattr(servers, "PYTHON_PEERS", {"x": ("bench.peers.x", ("surely_not_installed",))})
    with pytest.raises(Missing, match=r"surely_not_installed.*pip install"):
        servers.command_of("x")


def test_node_peers_are_missing_without_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No Node, or no npm and no packages: said in words, never tried."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Missing, match="Node is not installed"):
        servers.command_of("ws")
    (tmp_path / "node").touch(mode=0o755)
    with pytest.raises(Missing, match="npm is not installed"):
        servers.node_modules(tmp_path)


def test_a_figure_of_nothing_is_refused() -> None:
    """CPU a delivery where nothing was delivered would be a division by zero, or worse, a flattering one."""
    measured = Measured(1.0, {"server": 0.5}, [{"n": 2}, {"n": 3}])
    assert measured.total("n") == 5
    assert measured.cpu_us("server", 5) == pytest.approx(100_000)
    assert measured.busy("server") == 0.5
    with pytest.raises(LoadError, match="nothing was counted"):
        measured.cpu_us("server", 0)


def test_histograms_of_all_generators_are_merged() -> None:
    """One percentile over all samples."""
    one, other = Histogram(), Histogram()
    one.record_all([1000])
    other.record_all([3000, 5000])
    measured = Measured(1.0, {}, [{"latency": one.to_json()}, {"latency": other.to_json()}])
    assert measured.histogram("latency").count == 3


def test_one_servers_failure_is_its_own_row() -> None:
    """The others go on, and the table says what happened to it."""
    good, bad = Server("ws", 1, 1), Server("picows", 2, 2)
    field = Field([good, bad], {one.peer: Tally(one.peer) for one in (good, bad)}, [])
    seen = []
    for turn in range(2):
        for server, _tally, note in field.each("echo", turn, 2):
            seen.append(note)
            with field.attempt(server):
                if server is bad:
                    raise LoadError("it fell over")
    assert seen == ["echo ws 1/2", "echo picows 1/2", "echo ws 2/2"]
    rows = field.results(["picows", "ws"])
    assert [(one.peer, one.missing) for one in rows] == [("picows", "failed: it fell over"), ("ws", None)]


def test_more_connections_than_open_files_are_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is opened, with the limit and how to see it."""
    monkeypatch.setattr(common, "open_files_max", lambda: 1024)
    with pytest.raises(LoadError, match=r"1000 connections .* 1024 .*ulimit -Hn"):
        common.jobs(Context(), "echo", Server("ws", 1, 1), 1000)


def test_connections_and_principals_are_shared_out() -> None:
    """Every generator has its own connections and tokens; one of them is the first, and the spare token is nobody's."""
    server = Server("readback", 1, 1, tokens=lambda count: [f"t{number}" for number in range(count)])
    one, other = common.jobs(Context(generators=2), "echo", server, 5, payload=9)
    assert (one["connections"], other["connections"]) == (3, 2)
    assert (one["first"], other["first"]) == (True, False)
    assert one["tokens"] + other["tokens"] == ["t0", "t1", "t2", "t3", "t4"]
    assert one["spare_token"] == other["spare_token"] == "t5"
    assert one["payload"] == 9
    assert len(common.jobs(Context(generators=2), "jitter", server, 5, most=1)) == 1


def test_a_tally_spreads_its_rounds() -> None:
    """Figures of several rounds become a median with its range; CPU is told per group of processes."""
    tally = Tally("readback", durable=True)
    for cpu in (0.1, 0.3, 0.2):
        tally.cpu(Measured(1.0, {"server": cpu, "postgres": 0.0}, [], load_cpu_s=0.5), "send", 1000)
    made = tally.result()
    assert made.cpu_us["server per send"].median == pytest.approx(200)
    assert made.cpu_us["server per send"].runs == 3
    assert made.values["generators busy, send (share of a core)"].high == 0.5


def test_a_context_is_silent_by_default() -> None:
    """Progress goes nowhere unless somebody shows it."""
    Context().say("nothing to see")
