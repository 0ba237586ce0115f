"""Workers beside a real node, over a log in memory: rules answer in the chat, timers fire once, sagas end, whoever dies."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
import trio

from core.commands import Answer
from core.flight import times
from core.model import Event
from core.work import Work
from core.work_limits import WorkLimits
from gateway.config import ConfigError
from gateway.work.make import make_worker, reload_rules
from gateway.work.orders import Orders
from gateway.work.sagas import abort, find, new_saga, resume
from gateway.work.worker import Worker
from store.memory import MemoryLog
from store.memory_work import MemoryWork
from tests.nodes import TestNode, serving_node

LIMITS = replace(WorkLimits(), beat_s=0.05, lease_s=0.4, poll_s=0.02, task_look_s=0.02, retry_first_s=0.01, task_s=0.5)
LAYOUT = {"rows": [{"row": row, "seats": "ABC", "class": "Y"} for row in (1, 2)]}
RULES = """
[[rule]]
id = "fog"
version = "1"
says = "Fog is answered"
tenants = ["*"]
streams = "flight:*"
[rule.when]
event = "message"
where = "event.body.text == 'fog?'"
[[rule.do]]
message.text = "There is fog at ${flight.from}"
[[rule.do]]
notify.to = ["user:desk"]
notify.text = "Somebody asks for fog"

[[rule]]
id = "delayed"
version = "1"
says = "A delay is told in the flight's chat, and followed by a timer"
tenants = ["*"]
streams = "flight:*"
[rule.when]
event = "flight.delayed"
[[rule.do]]
message.text = "${flight.flight} is late"
[[rule.do]]
command = { type = "timer.set", body = { name = "ask-again", due = "2020-01-01T00:00:00Z" } }
"""


class Airport:
    """A node, the work on its log, and workers that come and go."""

    def __init__(self, node: TestNode, work: Work, nursery: trio.Nursery, rules: Path | None) -> None:
        self.node = node
        self.work = work
        self.rules = rules
        self.orders = Orders(node.node)
        self._nursery = nursery
        self._workers = 0

    async def worker(self) -> tuple[Worker, trio.CancelScope]:
        self._workers += 1
        worker = make_worker(
            self.node.node,
            self.work,
            rules_folder=self.rules,
            webhook_keys={},
            limits=LIMITS,
            holder=f"w{self._workers}",
            rng=Random(self._workers),
            measured=self._workers == 1,
        )
        scope = trio.CancelScope()

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await worker.run(task_status)

        await self._nursery.start(run)
        return worker, scope

    async def give(self, stream: str, type: str, body: dict[str, Any] | None = None) -> Answer:
        answer = await self.orders.command("demo", stream, type, body or {}, str(uuid.uuid4()))
        assert answer.refusal is None, answer.refusal
        return answer

    async def flight(self, name: str) -> None:
        for stream in (f"flight:{name}", f"flight:{name}.seats"):
            await self.node.stream(stream)
        schedule = {
            "flight": name, "operator": "QX", "from": "SYD", "to": "MEL", "registration": "VH-QXA",
            "out": "2026-11-21T08:00:00.000Z", "in": "2026-11-21T09:30:00.000Z",
        }  # fmt: skip
        await self.give(f"flight:{name}", "schedule", schedule)
        await self.give(f"flight:{name}.seats", "open", {"flight": name, "layout": LAYOUT})

    async def sit(self, flight: str, who: str, seat: str) -> None:
        await self.give(f"flight:{flight}.seats", "book", {"passenger": who})
        await self.give(f"flight:{flight}.seats", "assign", {"passenger": who, "seat": seat})

    async def seats(self, flight: str) -> dict[str, str]:
        shown = await self.orders.state("demo", f"flight:{flight}.seats")
        return {who: one.get("seat", "") for who, one in shown["passengers"].items()}

    async def events(self, stream: str, type: str) -> list[Event]:
        log = self.node.log
        who = stream if stream.startswith("user:") else "service:test"
        facts = (await log.open_streams([("demo", stream, who)]))[0]
        if facts is None:
            return []
        return [event for event in await log.read("demo", facts.sid, 0, 1_000) if event.type == type]

    async def texts(self, stream: str, type: str = "message") -> list[str]:
        return [orjson.loads(event.body or b"{}").get("text", "") for event in await self.events(stream, type)]

    async def comes(self, stream: str, count: int, type: str = "message") -> list[str]:
        with trio.fail_after(20):
            while len(texts := await self.texts(stream, type)) < count:  # noqa: ASYNC110  # there is no event for it
                await trio.sleep(0.005)
        return texts

    async def ends(self, key: str) -> Any:
        """The saga, once a worker will do no more with it."""
        with trio.fail_after(20):
            while True:
                task = await find(self.work, "demo", key)
                if task is not None and task.state in ("done", "parked"):
                    return task
                await trio.sleep(0.005)


@asynccontextmanager
async def airport(tmp_path: Path | None = None) -> AsyncIterator[Airport]:
    rules = None
    if tmp_path is not None:
        rules = tmp_path / "rules"
        rules.mkdir()
        (rules / "test.toml").write_text(RULES)
    async with serving_node() as node, trio.open_nursery() as nursery:
        log = node.log
        assert isinstance(log, MemoryLog)
        work = MemoryWork(log, lambda: int(1000 * node.node.wall()))
        yield Airport(node, work, nursery, rules)
        nursery.cancel_scope.cancel()


async def test_a_command_leads_to_a_rule_and_to_words_in_the_flights_chat(tmp_path: Path) -> None:
    """A delay is told where the flight is talked about, and the firing is kept with its rule, version and verdict."""
    async with airport(tmp_path) as here:
        await here.flight("QX1")
        await here.worker()
        reasons = [{"code": "41", "minutes": 30}]
        await here.give("flight:QX1", "delay", {"reasons": reasons})
        assert await here.comes("flight:QX1", 1) == ["QX1 is late"]
        await here.comes("flight:QX1", 1, "timer.fired")
        (firing,) = await here.work.firings("demo")
        assert (firing.rule, firing.version, firing.verdict, firing.stream) == ("delayed", "1", "fired", "flight:QX1")
        (fact,) = await here.events("flight:QX1", "timer.set")
        assert orjson.loads(fact.body or b"")["via"] == ["delayed"]


async def test_chat_matters_to_rules_and_is_answered_once(tmp_path: Path) -> None:
    """A question in a flight's chat is answered there, the desk is told in its inbox, and the answer answers nothing."""
    async with airport(tmp_path) as here:
        await here.flight("QX1")
        await here.worker()
        await here.orders.send("demo", "flight:QX1", "message", {"text": "fog?"}, str(uuid.uuid4()))
        assert await here.comes("flight:QX1", 2) == ["fog?", "There is fog at SYD"]
        assert await here.comes("user:desk", 1, "notice") == ["Somebody asks for fog"]


async def test_a_timer_fires_once_with_two_workers() -> None:
    """However many workers there are, each timer's event is there once, and what it is to do was done once."""
    async with airport() as here:
        await here.flight("QX1")
        await here.worker()
        await here.worker()
        for n in range(20):
            body = {"name": f"t{n}", "due": times.write(int(1000 * here.node.node.wall()) + 20 * (n % 5))}
            await here.give("flight:QX1", "timer.set", body)
        await here.comes("flight:QX1", 20, "timer.fired")
        await trio.sleep(0.1)
        names = [orjson.loads(event.body or b"")["name"] for event in await here.events("flight:QX1", "timer.fired")]
        assert sorted(names) == sorted(f"t{n}" for n in range(20))


async def test_what_a_timer_is_to_do_is_done() -> None:
    """A timer with a command gives it once it has fired; one that was cancelled does nothing."""
    async with airport() as here:
        await here.flight("QX1")
        await here.worker()
        due = times.write(int(1000 * here.node.node.wall()) + 30)
        later = times.write(int(1000 * here.node.node.wall()) + 86_400_000)
        do = {"type": "gate", "body": {"departure": {"gate": "A7"}}}
        await here.give("flight:QX1", "timer.set", {"name": "late", "due": later})
        await here.give("flight:QX1", "timer.set", {"name": "gate", "due": due, "do": do})
        await here.give("flight:QX1", "timer.cancel", {"name": "late"})
        await here.comes("flight:QX1", 1, "flight.gate")
        assert len(await here.events("flight:QX1", "timer.fired")) == 1
        states = {task.key.split("/")[1]: task.state for task in await here.work.tasks("timer")}
        assert states.get("late", "dropped") == "dropped", "set and cancelled in one batch it never was a task"


async def test_a_saga_from_end_to_end() -> None:
    """Passengers of a cancelled flight sit in the other one and find a note in their inbox."""
    async with airport() as here:
        await here.flight("QX1")
        await here.flight("QX2")
        await here.sit("QX1", "p1", "1A")
        await here.sit("QX1", "p2", "1B")
        data = {
            "flight": "QX1", "to": "QX2", "why": "fog",
            "passengers": [{"id": "p1", "seat": "2A", "inbox": "user:amy"}, {"id": "p2"}],
        }  # fmt: skip
        await here.work.add([new_saga("demo", "cancel_and_rebook", "s1", data, 0, 4e9)])
        await here.worker()
        task = await here.ends("s1")
        assert (task.state, task.body["ended"]) == ("done", "done")
        assert await here.seats("QX2") == {"p1": "2A", "p2": ""}
        assert await here.comes("user:amy", 1, "notice") == ["QX1 is cancelled; you are booked on QX2"]


async def test_a_saga_parks_and_an_operator_resumes_or_aborts_it() -> None:
    """Without the other flight's cabin it stands still with the reason; resumed it goes on, aborted all is as before."""
    async with airport() as here:
        await here.flight("QX1")
        await here.sit("QX1", "p1", "1A")
        await here.worker()
        data = {"flight": "QX1", "to": "QX2", "why": "fog", "passengers": [{"id": "p1"}]}
        for key in ("s1", "s2"):
            await here.work.add([new_saga("demo", "cancel_and_rebook", key, data, 0, 4e9)])
            task = await here.ends(key)
            assert (task.state, task.reason) == ("parked", "step 'book p1': there is no stream flight:QX2.seats")
            assert await here.seats("QX1") == {"p1": ""}
            if key == "s1":
                assert await abort(here.work, task, 0) == "said"
                task = await here.ends(key)
                assert (task.state, task.reason) == ("done", "undone: aborted by an operator")
                assert await here.seats("QX1") == {"p1": "1A"}
                assert await abort(here.work, task, 0) == "ended"
            else:
                await here.flight("QX2")
                assert await resume(here.work, task, int(1000 * here.node.node.wall())) == "said"
                task = await here.ends(key)
                assert (task.state, task.body["ended"]) == ("done", "done")
                assert await here.seats("QX2") == {"p1": ""}


@pytest.mark.parametrize("seed", range(6))
async def test_whoever_dies_amid_everything_is_followed_without_a_hand(tmp_path: Path, seed: int) -> None:
    """Workers are cut down again and again while rules, timers and sagas are under way: all of it is done, and once."""
    rng = Random(seed)
    async with airport(tmp_path) as here:
        flights = [f"QX{n}" for n in range(4)]
        for flight in flights:
            await here.flight(flight)
            await here.sit(flight, f"p{flight}", "1A")
        _, scope = await here.worker()
        for n, flight in enumerate(flights):
            await here.give(f"flight:{flight}", "delay", {"reasons": [{"code": "41", "minutes": 30}]})
            data = {"a": {"flight": flight, "passenger": f"p{flight}"}, "b": {}}
            other = flights[n ^ 1]
            data["b"] = {"flight": other, "passenger": f"p{other}"}
            if n % 2 == 0:
                await here.work.add([new_saga("demo", "seat_swap", f"s{n}", data, 0, 4e9)])
            await trio.sleep(rng.random() * 0.02)
            scope.cancel()
            _, scope = await here.worker()
        for n in (0, 2):
            task = await here.ends(f"s{n}")
            assert (task.state, task.body.get("ended")) == ("done", "done"), task
        for n, flight in enumerate(flights):
            await here.comes(f"flight:{flight}", 1)
            await here.comes(f"flight:{flight}", 1, "timer.fired")
            assert await here.seats(flight) == {f"p{flights[n ^ 1]}": "1A"}
        await trio.sleep(0.1)
        for flight in flights:
            assert await here.texts(f"flight:{flight}") == [f"{flight} is late"]
            assert len(await here.events(f"flight:{flight}", "timer.fired")) == 1
        assert await here.work.parked() == []
        assert [task for task in await here.work.tasks("job") if task.state == "parked"] == []


async def test_leaving_beside_a_drain() -> None:
    """A worker that leaves gives everything back, and the one that follows has it at once."""
    async with airport() as here:
        worker, _ = await here.worker()
        with trio.fail_after(10):
            while not worker.lags():  # noqa: ASYNC110  # there is no event for it
                await trio.sleep(0.005)
        await worker.leave()
        assert {cursor.holder for cursor in await here.work.cursors()} == {""}
        text = here.node.node.measures.registry.text().decode()
        assert 'readback_work_behind{consumer="rules"} 0' in text


async def test_rules_that_cannot_be_used_are_said_at_the_start_and_on_a_reload(tmp_path: Path) -> None:
    """A start is refused with the problems; a reload keeps the old rules and says them."""
    async with airport(tmp_path) as here:
        worker, _ = await here.worker()
        assert here.rules is not None
        (here.rules / "bad.toml").write_text("[[rule]]\nid = 7\n")
        (problem, *_) = reload_rules(worker, here.rules)
        assert problem.file == "bad.toml"
        with pytest.raises(ConfigError, match=r"cannot be used: bad\.toml"):
            await here.worker()
        (here.rules / "bad.toml").unlink()
        assert reload_rules(worker, here.rules) == []
        here.rules = tmp_path / "nowhere"
        with pytest.raises(ConfigError, match="No such file"):
            await here.worker()
