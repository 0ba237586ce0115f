"""The other edges: the scheduler, the log and its weather, the bus and its weather, meters, swarms, the command."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import get_args

import pytest
import trio
from trio.testing import MockClock
from typer.testing import CliRunner

from core.ports import Unavailable
from proof import history
from proof.guarantees import check
from proof.sim.cli import app
from proof.sim.many import Task, live_task
from proof.sim.meters import MUST, Meters
from proof.sim.net import Host
from proof.sim.recorder import Recorder
from proof.sim.scheduler import NODE, Scheduler, Steps, deterministic, fits
from proof.sim.store import NodeLog, TruthLog, Way, Weather
from proof.sim.swarm import TROUBLES, Size, draw, reduced
from proof.sim.timers import Timers
from proof.sim.troubles import Troubles


def test_this_trio_can_be_made_deterministic() -> None:
    """The version of constraints.txt; another one is refused in words."""
    assert fits() is None


def test_the_order_of_tasks_is_the_seeds() -> None:
    """The same for the same seed, another for another."""

    async def main() -> str:
        order = []

        async def task(name: str) -> None:
            for _ in range(3):
                await trio.lowlevel.checkpoint()
                order.append(name)

        async with trio.open_nursery() as nursery:
            for name in "abcdef":
                nursery.start_soon(task, name)
        return "".join(order)

    def order(seed: int) -> str:
        with deterministic(seed):
            return trio.run(main)

    assert order(1) == order(1)
    assert len({order(seed) for seed in range(6)}) > 3


async def test_a_paused_node_stands_still_and_its_timers_run_out(autojump_clock: MockClock) -> None:
    """No step of its tasks is taken; when it goes on, all of them are late."""
    scheduler = Scheduler()
    seen: list[tuple[str, float]] = []
    began_s = trio.current_time()

    async def tick(node: str) -> None:
        NODE.set(node)
        for _ in range(4):
            await trio.sleep(1)
            seen.append((node, round(trio.current_time() - began_s, 3)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick, "a1")
        nursery.start_soon(tick, "b1")
        await trio.sleep(1.5)
        scheduler.pause("a1")
        assert scheduler.is_paused("a1")
        await trio.sleep(10)
        scheduler.go_on("a1")
    assert [at for node, at in seen if node == "b1"] == [1, 2, 3, 4]
    assert [at for node, at in seen if node == "a1"] == [1, 11.5, 12.5, 13.5]


async def test_steps_are_those_of_one_node_and_the_chosen_one_is_called() -> None:
    """Before it is taken."""
    called = []
    steps = Steps("a1", 3, lambda: called.append(steps.count))
    trio.lowlevel.add_instrument(steps)

    async def work(node: str) -> None:
        NODE.set(node)
        for _ in range(5):
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, "a1")
        nursery.start_soon(work, "b1")
    trio.lowlevel.remove_instrument(steps)
    assert called == [3]
    assert steps.count == 5  # the first step sets whose task it is


def a_log() -> tuple[TruthLog, Recorder]:
    recorder = Recorder()
    keys = iter(f"00000000-0000-4000-8000-{number:012x}" for number in range(99))
    return TruthLog(recorder, Meters(), now_ms=lambda: 0, new_key=lambda: next(keys), partitions=2), recorder


async def test_a_restored_log_is_its_backup_under_another_epoch() -> None:
    """With its members, heads and keys; what came after is undone, and the history says so."""
    log, recorder = a_log()
    await log.create_stream("amber", "chat:crew", open=False, members=[], by="service:sim")
    await log.put_member("amber", "chat:crew", "user:amy", "member", "service:sim")
    backup, epoch = log.backup(), await log.epoch()
    await log.remove_member("amber", "chat:crew", "user:amy", "service:sim")
    log.restore(backup)
    assert (await log.epoch()).log != epoch.log
    assert log.role_in("amber", "chat:crew", "user:amy") == "member"
    assert log.head_of("amber", "chat:crew") == 1
    assert await log.heads() == [len(partition) for partition in backup.partitions]
    assert [record.heads for record in recorder.records if isinstance(record, history.Restored)] == [
        {"amber/chat:crew": 1}
    ]


@pytest.mark.parametrize(
    ("weather", "lands"),
    [
        (Weather(down="away"), False),
        (Weather(refused=1.0), False),
        (Weather(lost_before=1.0), False),
        (Weather(lost_after=1.0), True),
        (Weather(late=1.0), True),
    ],
    ids=["down", "refused", "lost before", "lost after", "late"],
)
async def test_bad_weather_on_the_way_to_the_log(weather: Weather, lands: bool, autojump_clock: MockClock) -> None:
    """Each is `Unavailable` to the node; whether the effect is there is what the weather says."""
    log, recorder = a_log()
    await log.create_stream("amber", "chat:ops", open=True, members=[], by="service:sim")
    (facts,) = await log.open_streams([("amber", "chat:ops", "user:amy")])
    assert facts is not None
    timers = Timers()
    host = Host("a1", random.Random(1))
    node = NodeLog(log, Way("log", "commit", host, timers, Meters(), recorder, lambda: weather, 1.0))
    from core.model import Entry

    entry = Entry("amber", facts.sid, "00000000-0000-4000-8000-00000000beef", "message", "user:amy", b"{}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        with pytest.raises(Unavailable):
            await node.append([entry])
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert (log.head_of("amber", "chat:ops") == 1) is lands


def test_each_trouble_that_a_seed_can_draw_is_made() -> None:
    """And nothing is made that no seed draws."""

    class Nobody:
        class swarm:
            seed = 0

    assert set(Troubles(Nobody())._kinds) == set(TROUBLES)  # type: ignore[arg-type]


def test_the_same_seed_draws_the_same_swarm_and_seeds_leave_most_troubles_out() -> None:
    """Swarm testing: a few kinds of trouble a run."""
    assert draw(7) == draw(7)
    drawn = [draw(seed).troubles for seed in range(200)]
    assert {trouble for troubles in drawn for trouble in troubles} == set(TROUBLES)
    assert sum(map(len, drawn)) / len(drawn) < len(TROUBLES) / 3


def test_reducing_takes_away_what_is_named() -> None:
    """And says which names there are where there is none of that name."""
    swarm = next(drawn for drawn in map(draw, range(50)) if "cut" in drawn.troubles)
    less = reduced(swarm, {"without": ("cut",), "clients": 2})
    assert less.clients == 2
    assert less.troubles == tuple(name for name in swarm.troubles if name != "cut")
    with pytest.raises(ValueError, match="weather: one of"):
        reduced(swarm, {"weather": 1})
    with pytest.raises(ValueError, match="locusts: one of"):
        reduced(swarm, {"without": ("locusts",)})


def test_meters_say_what_was_never_met() -> None:
    """A path that must be met and was not is named."""
    meters = Meters()
    for path in MUST[1:]:
        meters.seen(path)
    assert meters.missing() == [MUST[0]]
    assert len(set(MUST)) == len(MUST)


def test_what_is_taken_from_a_run_is_missed(tmp_path: Path) -> None:
    """A history of a run goes to a file and back unharmed, and without one event of it a guarantee is broken."""
    lived = live_task(Task(3))
    path = tmp_path / "run.jsonl"
    history.write(path, lived.records)
    records = list(history.read(path))
    assert check(records).holds
    took = [(at, record) for at, record in enumerate(records) if isinstance(record, history.Took)]
    later = {(record.conn, record.stream): at for at, record in took}
    between = [at for at, record in took if at < later[record.conn, record.stream]]
    del records[between[len(between) // 2]]
    assert not check(records).holds


run = CliRunner().invoke


def test_one_seed_is_told_with_its_trace_and_history(tmp_path: Path) -> None:
    """--trace prints what happens, --history keeps it, and the outcome is said."""
    path = tmp_path / "h.jsonl"
    result = run(app, ["--seed", "2", "--trace", "--history", str(path)])
    assert result.exit_code == 0, result.output
    assert "all guarantees hold" in result.output
    assert "HTTP/1.1 101 Switching Protocols" in result.output
    assert f"readback check --history {path}" in result.output
    assert check(list(history.read(path))).holds


def test_many_seeds_are_told_in_one_line_and_as_json() -> None:
    """With how many failed and what was never met."""
    result = run(app, ["--seeds", "0-3", "--jobs", "1"])
    assert result.exit_code == 0, result.output
    assert "4 runs, 0 failed" in result.output
    result = run(app, ["--seeds", "0-1", "--jobs", "1", "--json", "--all-paths"])
    told = json.loads(result.stdout)
    assert (told["runs"], told["failed"]) == (2, [])
    assert result.exit_code == 1, "two seeds do not meet every rare path, and that was asked for"


def test_a_failing_seed_is_told_with_the_command_that_repeats_it() -> None:
    """Status 1; the command names the mutant and what was changed."""
    result = run(app, ["--seeds", "0-1", "--jobs", "1", "--mutant", "resume-at-head", "--set", "clients=6"])
    assert result.exit_code == 1
    assert "to see it again: readback sim --seed 0 --mutant resume-at-head --set clients=6" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "huge"], "short, small, large"),
        (["--seeds", "9-3"], "two numbers, such as 0-1999"),
        (["--mutant", "none-such"], "--mutant list names them"),
        (["--set", "clients"], "a name, =, and a number"),
        (["--set", "colour=3"], "colour: one of"),
        (["--without", "locusts"], "locusts: one of"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In one sentence that names what may be given."""
    result = run(app, arguments)
    assert result.exit_code == 2, result.output
    assert said in " ".join((result.output + capsys.readouterr().err).split())


def test_sizes_are_what_the_help_names() -> None:
    """Each size draws."""
    for size in get_args(Size):
        assert draw(1, size).size == size
