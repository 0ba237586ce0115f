"""gateway.work.rules: events through the engine, and what it answers in one commit; folders of rules, read whole or not."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
from trio.testing import MockClock

from core.flight.machine import BY_GATEWAY
from core.model import Decided
from core.rules import engine
from core.rules.load import Problem
from core.rules.model import RuleSet
from core.work import Firing
from gateway.work import rules as rules_module
from gateway.work.rules import ACTS_WITHIN_MS, Rules, read_rules
from gateway.work.worker import Worker
from tests.working import World, happens, wall

HELLO = """
[[rule]]
id = "hello"
version = "{version}"
says = "Greets"
tenants = ["*"]
streams = ["chat:*", "flight:*"]
{more}
[rule.when]
event = "message"
where = "event.body.text == 'hello'"
[[rule.do]]
message.text = "{answer}"
"""
EVERYTHING = """
[[rule]]
id = "all"
version = "1"
says = "Does one of each"
tenants = ["*"]
streams = "flight:*"
[rule.when]
event = "message"
where = "event.body.text == 'x'"
[[rule.do]]
message.text = "seen"
[[rule.do]]
notify.to = ["user:amy", "user:ben"]
notify.text = "seen"
[[rule.do]]
command = { type = "gate", body = { departure = { gate = "4" } } }
[[rule.do]]
webhook.url = "https://hooks.example/in"
"""


def rules_in(folder: Path, **texts: str) -> RuleSet:
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    found = read_rules(folder)
    assert isinstance(found, RuleSet), [str(problem) for problem in found]
    return found


def hello(folder: Path, answer: str = "hi", version: str = "1", more: str = "") -> RuleSet:
    return rules_in(folder, hello=HELLO.format(answer=answer, version=version, more=more))


async def done(world: World, rules: Rules, events: int) -> tuple[list[Firing], list[dict[str, Any]]]:
    """What came of it once so many events were taken: firings, oldest first, and the bodies of jobs."""
    worker: Worker = world.worker([rules])

    async def taken() -> bool:
        cursors = await world.work.cursors("rules")
        return sum(cursor.pos for cursor in cursors) >= events

    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await happens(taken)
        nursery.cancel_scope.cancel()
    firings = await world.work.firings("demo", limit=1_000)
    return firings[::-1], [task.body for task in await world.work.tasks("job", limit=1_000)]


def consumer(world: World, rules: RuleSet, **more: Any) -> Rules:
    return Rules(world.log, world.work, rules, wall, **more)


async def test_a_firing_is_kept_with_its_job(tmp_path: Path, autojump_clock: MockClock) -> None:
    """An event that fits fires: the firing says by which rule, and the job says the answer under a key of its own."""
    world = World()
    rules = consumer(world, hello(tmp_path))
    await world.event("chat:a", text="nothing")
    await world.event("chat:a", text="hello")
    firings, jobs = await done(world, rules, 2)
    assert [(one.rule, one.version, one.stream, one.seq, one.verdict) for one in firings] == [
        ("hello", "1", "chat:a", 2, "fired")
    ]
    (job,) = jobs
    assert (job["do"], job["stream"], job["body"]["text"], job["body"]["via"]) == ("message", "chat:a", "hi", ["hello"])
    (task,) = await world.work.tasks("job")
    assert (task.key, task.lane) == (job["key"], str(world.sids["chat:a"]))
    assert rules.fired == 1


async def test_each_kind_of_action_becomes_its_job(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Messages, notes, commands and webhooks, in their order; what goes outside has a lane of its own."""
    world = World()
    await world.event("flight:QX1", text="x")
    _, jobs = await done(world, consumer(world, rules_in(tmp_path, all=EVERYTHING)), 1)
    assert [job["do"] for job in jobs] == ["message", "notify", "notify", "command", "webhook"]
    assert [job.get("to") for job in jobs[1:3]] == ["user:amy", "user:ben"]
    assert (jobs[3]["type"], jobs[3]["via"]) == ("gate", ["all"])
    assert (jobs[4]["url"], jobs[4]["body"]["rule"]) == ("https://hooks.example/in", "all")
    assert len({job["key"] for job in jobs}) == 5
    lanes = [task.lane.partition(" ")[2] for task in await world.work.tasks("job")]
    assert lanes == ["", "user:amy", "user:ben", "", "hooks.example"]


@pytest.mark.parametrize("kind", ["unavailable", "unknown"])
async def test_an_event_that_is_taken_again_fires_once(kind: Any, tmp_path: Path, autojump_clock: MockClock) -> None:
    """Whatever was lost on the way, there is one firing and one job, and a rule that fires once does so."""
    world = World(1)
    once = consumer(world, hello(tmp_path, more="once = true"))
    await world.event("chat:a", text="hello")
    world.log.fail_next(kind, "commit")
    await done(world, once, 1)
    await world.event("chat:a", text="hello")
    firings, jobs = await done(world, consumer(world, hello(tmp_path, more="once = true")), 2)
    assert [one.verdict for one in firings] == ["fired", "suppressed"]
    assert len(jobs) == 1


async def test_memories_outlive_their_place(tmp_path: Path, autojump_clock: MockClock) -> None:
    """With room for one stream only, each is learned anew whenever it goes on, and rules know what they knew."""
    world = World(1)
    few = consumer(world, hello(tmp_path, more="once = true"), streams_max=1)
    for _ in range(3):
        for n in range(4):
            await world.event(f"chat:{n}", text="hello")
    worker = world.worker([few], limits=rules_limits())
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await happens(lambda: _taken(world, 12))
        nursery.cancel_scope.cancel()
    firings = await world.work.firings("demo")
    assert sorted(one.stream for one in firings if one.verdict == "fired") == [f"chat:{n}" for n in range(4)]
    assert len(few) == 1


def rules_limits() -> Any:
    from dataclasses import replace

    from tests.working import LIMITS

    return replace(LIMITS, batch_events=1)


async def _taken(world: World, events: int) -> bool:
    return sum(cursor.pos for cursor in await world.work.cursors("rules")) >= events


async def test_history_is_folded_and_nobody_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    """An event of days ago fires nothing: the firing says `held` and why, and no job is made."""
    world = World()
    await world.event("chat:a", text="hello")
    await trio.sleep(ACTS_WITHIN_MS / 1000 + 60)
    await world.event("chat:a", text="hello")
    rules = consumer(world, hello(tmp_path))
    firings, jobs = await done(world, rules, 2)
    assert [(one.seq, one.verdict) for one in firings] == [(1, "held"), (2, "fired")]
    assert (firings[0].inputs["reason"].split(" too long ago")[0], firings[0].actions) == ("the event was recorded", [])
    assert len(jobs) == 1
    assert (rules.fired, rules.history) == (1, 1)


async def test_other_rules_from_the_next_event_on(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Rules that are changed while workers run hold for what comes, and what was remembered stays."""
    world = World(1)
    rules = consumer(world, hello(tmp_path, more="once = true"))
    await world.event("chat:a", text="hello")
    await done(world, rules, 1)
    rules.use(hello(tmp_path, answer="good day", version="2", more="once = true"))
    await world.event("chat:a", text="hello")
    await world.event("chat:b", text="hello")
    firings, jobs = await done(world, rules, 3)
    assert [(one.stream, one.version, one.verdict) for one in firings] == [
        ("chat:a", "1", "fired"),
        ("chat:a", "2", "suppressed"),
        ("chat:b", "2", "fired"),
    ]
    assert jobs[-1]["body"]["text"] == "good day"


async def test_inboxes_and_audit_are_none_of_its_business(tmp_path: Path, autojump_clock: MockClock) -> None:
    """What is said to one person is no rule's."""
    rules = consumer(World(), hello(tmp_path))
    wanted = ("flight:QX1", "trip:t", "chat:a", "user:amy", "audit:log")
    assert [rules.concerns(stream) for stream in wanted] == [True, True, True, False, False]


async def test_a_stream_that_cannot_be_folded_is_parked_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """An event that the machine stumbles over parks its stream, and the others' rules go on."""
    world = World(1)
    real = engine.step

    def step(rules: RuleSet, memory: Any, tenant: str, stream: str, event: Any, state: Any) -> Any:
        if stream == "chat:bad":
            raise ZeroDivisionError("a fault of ours")
        return real(rules, memory, tenant, stream, event, state)

    monkeypatch.setattr(rules_module, "step", step)
    await world.event("chat:bad", text="hello")
    await world.event("chat:a", text="hello")
    firings, _ = await done(world, consumer(world, hello(tmp_path)), 2)
    assert [one.stream for one in firings] == ["chat:a"]
    (parked,) = await world.work.parked()
    assert (parked.stream, parked.reason) == ("chat:bad", "ZeroDivisionError: a fault of ours")


def test_a_folder_of_rules_is_read_whole_or_not(tmp_path: Path) -> None:
    """Files that are no TOML are left alone; a problem in one names it, and nothing is taken."""
    (tmp_path / "notes.txt").write_text("not a rule")
    assert len(hello(tmp_path).rules) == 1
    (tmp_path / "other.toml").write_text("[[rule]]\n")
    found = read_rules(tmp_path)
    assert isinstance(found, list)
    assert {problem.file for problem in found} == {"other.toml"}


def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not there, no text, or too many files: a sentence, never a traceback."""
    (problem,) = _problems(tmp_path / "nowhere")
    assert "cannot be read: No such file" in str(problem)
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe")
    (problem,) = _problems(tmp_path)
    assert "no UTF-8 text" in str(problem)
    monkeypatch.setattr(rules_module, "FILES_MAX", 0)
    (problem,) = _problems(tmp_path)
    assert "1 files of rules, at most 0 are read" in str(problem)


def _problems(folder: Path) -> list[Problem]:
    found = read_rules(folder)
    assert isinstance(found, list)
    return found


FLIGHT = """
[[rule]]
id = "gate"
version = "1"
says = "Answers with the state of the flight"
tenants = ["*"]
streams = "flight:*"
[rule.when]
event = "message"
where = "event.body.text == 'gate?'"
[[rule.do]]
message.text = "${flight.flight} at ${flight.gates.departure.gate}"
"""


async def decided(world: World, stream: str, type: str, body: dict[str, Any]) -> None:
    """A fact, as a command of the stream would have become it."""
    sid, log = world.sids[stream], world.log
    ruled = await log.ruled("demo", sid, 0, 1_000)
    key, raw = str(uuid.uuid4()), orjson.dumps(body)
    state = ruled[-1].seq if ruled else 0
    kept = Decided("demo", sid, key, type, BY_GATEWAY, state, [(key, f"flight.{type}", raw)], privileged=True)
    (judged,) = await log.command([kept])
    assert judged.outcome == 0, judged


async def a_flight(world: World, gates: int) -> None:
    await world.event("flight:QX1", text="x")
    scheduled = {"flight": "QX1", "operator": "QX", "from": "SYD", "to": "MEL"}
    times = {"out": "2026-11-21T08:00:00.000Z", "in": "2026-11-21T09:30:00.000Z"}
    await decided(world, "flight:QX1", "scheduled", scheduled | times)
    for n in range(gates):
        await decided(world, "flight:QX1", "gate", {"departure": {"gate": str(n)}})


async def test_a_streams_state_is_folded_anew_where_it_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """A worker that follows another folds the stream's past, in pages, up to the event and not past it."""
    monkeypatch.setattr("gateway.work.folding.FOLDED_AT_ONCE", 3)
    world = World(1)
    await a_flight(world, 7)
    await done(world, consumer(world, rules_in(tmp_path, gate=FLIGHT)), 9)
    await world.event("flight:QX1", text="gate?")
    await decided(world, "flight:QX1", "gate", {"departure": {"gate": "99"}})
    world.log.fail_next("unavailable", "ruled")
    firings, jobs = await done(world, consumer(world, rules_in(tmp_path, gate=FLIGHT)), 11)
    assert [firing.verdict for firing in firings] == ["fired"]
    assert [job["body"]["text"] for job in jobs] == ["QX1 at 6"]


async def test_a_past_that_cannot_be_folded_parks_its_stream_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """What the machine stumbles over in a stream's past is its own trouble, and said."""
    world = World(1)
    await a_flight(world, 2)
    await world.event("flight:QX2", text="x")
    await done(world, consumer(world, rules_in(tmp_path, gate=FLIGHT)), 5)

    def stumbles(self: Any, event: Any) -> None:
        if event.type == "flight.gate":
            raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(rules_module._Known, "evolve", stumbles)
    await world.event("flight:QX1", text="gate?")
    await world.event("flight:QX2", text="x")
    await done(world, consumer(world, rules_in(tmp_path, gate=FLIGHT)), 7)
    (parked,) = await world.work.parked()
    assert (parked.stream, parked.seq, parked.reason) == ("flight:QX1", 5, "ZeroDivisionError: a fault of ours")
