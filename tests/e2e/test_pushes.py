"""From an alert in Amy's inbox to her phone, with a real node, real workers and stand-ins that enforce the services' rules.

However workers die and answers are lost, an alert is one task, and each device is pushed to until its service has answered. A
push whose answer was lost goes out again: the service may take it twice, with the same ids, and the phone shows one.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import orjson
import pytest
import trio

from core.flight import times
from core.flight.machine import BY_GATEWAY
from core.model import Entry
from core.push.rules import PushLimits
from core.tracks import Push, Tracks
from core.work import Task, Work
from core.work_limits import WorkLimits
from gateway.push.make import Pushing
from gateway.work.make import make_worker
from gateway.work.worker import Worker
from store.memory import MemoryLog
from store.memory_tracks import MemoryTracks
from store.memory_work import MemoryWork
from store.postgres import open_postgres_log
from tests.nodes import TestNode, serving_node, until
from tests.push_servers import APP, CUT, HANG, Answer, Stand, standing
from tests.servers import Database, database, postgres_server  # noqa: F401

LIMITS = replace(WorkLimits(), beat_s=0.05, lease_s=0.4, poll_s=0.02, task_look_s=0.02, retry_first_s=0.01, task_s=0.5)
LASTING = replace(LIMITS, lease_s=30.0, task_s=30.0)
"""Where pushes are counted: when a claim runs out because the machine stood still, one goes out again, with the same ids."""
PUSH_LIMITS = replace(PushLimits(), retry_first_s=0.02, call_s=20.0)
IPHONE = Push("apns", "00fc13adff785122b4ad28809a342098", APP, 5)
ANDROID = Push("fcm", "fGci0123456789:APA91b-17", APP, 6)


class Amy:
    """Her inbox and her phones, the services that reach them, and workers that come and go."""

    def __init__(self, node: TestNode, work: Work, tracks: Tracks, stand: Stand, nursery: trio.Nursery) -> None:
        self.node = node
        self.work = work
        self.tracks = tracks
        self.stand = stand
        self._nursery = nursery
        self._workers = 0

    async def worker(self, limits: WorkLimits = LIMITS) -> tuple[Worker, trio.CancelScope]:
        self._workers += 1
        services = self.stand.services(PUSH_LIMITS)
        worker = make_worker(
            self.node.node,
            self.work,
            rules_folder=None,
            webhook_keys={},
            limits=limits,
            holder=f"w{self._workers}",
            rng=Random(self._workers),
            measured=self._workers == 1,
            pushing=Pushing(self.tracks, services),
        )
        scope = trio.CancelScope()

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await worker.run(task_status)

        await self._nursery.start(run)
        return worker, scope

    async def alert(self, stop: str = "home", threshold_s: int = 600, **changed: object) -> None:
        (facts,) = await self.node.log.open_streams([("demo", "user:amy", "user:amy")])
        assert facts is not None
        eta = times.write(int(1000 * (time.time() + threshold_s)))
        body = {"trip": "trip:9", "stop": stop, "threshold_s": threshold_s, "eta": eta, "push": True, **changed}
        key = str(uuid.uuid4())
        entry = Entry("demo", facts.sid, key, "trip.alert", BY_GATEWAY, orjson.dumps(body), privileged=True)
        (verdict,) = await self.node.log.append([entry])
        assert verdict.seq

    async def tasks(self) -> list[Task]:
        return [task for task in await self.work.tasks("job") if task.body["do"] == "push"]

    async def ended(self, count: int = 1) -> list[Task]:
        with trio.fail_after(20):
            while True:
                tasks = await self.tasks()
                if len(tasks) == count and all(task.state in ("done", "parked") for task in tasks):
                    return tasks
                await trio.sleep(0.005)

    async def progress(self) -> None:
        """Until a task says what became of a device."""
        with trio.fail_after(20):
            while not any(task.progress for task in await self.tasks()):  # noqa: ASYNC110  # there is no event for it
                await trio.sleep(0.005)

    @property
    def apple_ids(self) -> list[str]:
        return [got.headers["apns-id"] for got in self.stand.apple.got]


@asynccontextmanager
async def amy(folder: Path, *pushes: Push) -> AsyncIterator[Amy]:
    async with standing(folder, time.time) as stand, serving_node() as node, trio.open_nursery() as nursery:
        log = node.log
        assert isinstance(log, MemoryLog)
        tracks = MemoryTracks(log)
        for push in pushes:
            await tracks.add_push("demo", "user:amy", push)
            (stand.apple if push.service == "apns" else stand.google).apps[push.token] = APP
        yield Amy(node, MemoryWork(log, lambda: int(1000 * node.node.wall())), tracks, stand, nursery)
        assert stand.broke == []
        nursery.cancel_scope.cancel()


async def test_an_alert_is_pushed_to_every_phone_once(tmp_path: Path) -> None:
    """By three workers beside each other; what is not for phones makes no task."""
    async with amy(tmp_path, IPHONE, ANDROID) as her:
        for _ in range(3):
            await her.worker(LASTING)
        for minutes in (10, 5):
            await her.alert(threshold_s=60 * minutes)
        await her.alert(push=False)
        for task in await her.ended(2):
            assert (task.state, task.body["did"], task.reason) == ("done", "2 sent", "")
        apple, google = her.stand.apple, her.stand.google
        assert (len(apple.got), len(google.got)) == (2, 2)
        assert len(set(her.apple_ids)) == 2
        # Both of the same stop: the later takes the place of the earlier.
        assert (len(apple.shown), len(google.shown)) == (1, 1)
        assert apple.got[0].body.keys() == {"aps", "type", "trip", "stop", "threshold_s", "eta"}
        metrics = her.node.node.measures.registry.text()
        assert b'readback_pushes_total{service="apns",verdict="sent"}' in metrics


async def test_a_burst_is_pushed_whole(tmp_path: Path) -> None:
    """More alerts at once than calls to a service may be: who finds no room comes again, and nothing is lost or doubled."""
    async with amy(tmp_path, IPHONE, ANDROID) as her:
        for n in range(80):
            await her.alert(f"stop-{n}")
        await her.worker(LASTING)
        assert {task.body["did"] for task in await her.ended(80)} == {"2 sent"}
        for stand_in in (her.stand.apple, her.stand.google):
            assert (len(stand_in.got), len(stand_in.shown), stand_in.connections <= 2) == (80, 80, True)


@pytest.mark.parametrize("fate", [HANG, CUT])
async def test_a_worker_dies_with_its_push_under_way(tmp_path: Path, fate: str) -> None:
    """Another goes on when the claim runs out: the phone that answered is not pushed to again, the other with the same id."""
    async with amy(tmp_path, IPHONE, ANDROID) as her:
        apple, google = her.stand.apple, her.stand.google
        apple.answers.append(fate)  # type: ignore[arg-type]
        if fate == CUT:
            apple.answers += [HANG]
        _, scope = await her.worker()
        await her.alert()
        await until(lambda: len(apple.got) == (1 if fate == HANG else 2) and google.got)
        await her.progress()
        scope.cancel()
        await her.worker(LASTING)
        (task,) = await her.ended()
        assert (task.state, task.body["did"]) == ("done", "2 sent")
        assert len(google.got) == 1
        assert len(apple.got) == (2 if fate == HANG else 3)
        assert (len(set(her.apple_ids)), len(apple.shown)) == (1, 1)


async def test_a_worker_that_stood_still_does_no_harm(tmp_path: Path) -> None:
    """Its claim ran out while its push had no answer, and another has done it: what it learns at last changes nothing."""
    async with amy(tmp_path, IPHONE) as her:
        apple = her.stand.apple
        apple.answers.append(HANG)
        first, _ = await her.worker()
        await her.alert()
        await until(lambda: apple.got)
        await her.worker()
        (task,) = await her.ended()
        assert (task.state, task.body["did"], task.fence > 1) == ("done", "1 sent", True)
        assert (len(set(her.apple_ids)), len(apple.shown)) == (1, 1)
        await first.leave()
        assert (await her.ended())[0] == task


async def test_an_answer_that_was_lost(tmp_path: Path) -> None:
    """The push is repeated under the same id, as it must be, and the phone shows one."""
    async with amy(tmp_path, IPHONE) as her:
        her.stand.apple.answers.append(CUT)
        await her.worker(LASTING)
        await her.alert()
        (task,) = await her.ended()
        assert (task.state, task.body["did"]) == ("done", "1 sent")
        assert (len(her.apple_ids), len(set(her.apple_ids)), len(her.stand.apple.shown)) == (2, 1, 1)


async def test_a_lease_that_changes_hands_makes_one_task(tmp_path: Path) -> None:
    """Workers die right after each alert, with the event taken or not: each alert is one task and one push."""
    async with amy(tmp_path, IPHONE) as her:
        for n in range(8):
            _, scope = await her.worker()
            await her.alert(f"stop-{n}")
            for _ in range(7 * n):
                await trio.lowlevel.checkpoint()
            scope.cancel()
        await her.worker()
        assert [task.body["did"] for task in await her.ended(8)] == ["1 sent"] * 8
        assert (len(set(her.apple_ids)), len(her.stand.apple.shown)) == (8, 8)


async def test_dead_phones_are_forgotten(tmp_path: Path) -> None:
    """The service's word on a token ends its registration, but not one that was made since."""
    async with amy(tmp_path, IPHONE, ANDROID) as her:
        her.stand.apple.gone[IPHONE.token] = IPHONE.at_ms + 1
        her.stand.google.gone.add(ANDROID.token)
        await her.worker()
        await her.alert()
        (task,) = await her.ended()
        assert (task.state, task.body["did"]) == ("done", "2 dead")
        assert await her.tracks.pushes("demo", "user:amy") == []
        again = IPHONE._replace(at_ms=IPHONE.at_ms + 2)
        await her.tracks.add_push("demo", "user:amy", again)
        await her.alert("work")
        await her.ended(2)
        assert await her.tracks.pushes("demo", "user:amy") == [again]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(429, {"reason": "TooManyRequests"}, {"retry-after": "0"}), "1 sent"),
        (Answer(429, {"reason": "TooManyRequests"}, {"retry-after": "700"}), "1 too_late"),
        (Answer(503, {"reason": "Shutdown"}), "1 too_late"),
        (Answer(403, {"reason": "InvalidProviderToken"}), "1 refused"),
    ],
)
async def test_what_apple_asks_for(tmp_path: Path, answer: Answer, says: str) -> None:
    """A wait that ends in time is waited, one past the arrival is the end of it, and what would be refused again is done."""
    async with amy(tmp_path, IPHONE) as her:
        her.stand.apple.answers.append(answer)
        await her.worker()
        await her.alert()
        (task,) = await her.ended()
        assert (task.state, task.body["did"]) == ("done", says)


async def test_a_night_of_history_is_not_pushed(tmp_path: Path) -> None:
    """A worker that is new here takes the past without waking anybody."""
    async with amy(tmp_path, IPHONE) as her:
        for n in range(20):
            await her.alert(f"stop-{n}", eta=times.write(int(1000 * time.time()) - 60_000))
        await her.alert()
        await her.worker(LASTING)
        (task,) = await her.ended()
        assert (task.body["alert"]["stop"], len(her.stand.apple.got)) == ("home", 1)


async def test_somebodys_phone_that_hangs_holds_up_nobody_else(tmp_path: Path) -> None:
    """Google does not answer for Amy; Bob's iPhone has its push all the same."""
    async with amy(tmp_path, ANDROID) as her:
        bobs = IPHONE._replace(token="bb" * 16)
        await her.tracks.add_push("demo", "user:bob", bobs)
        her.stand.apple.apps[bobs.token] = APP
        her.stand.google.answers += [HANG] * 3
        await her.worker(replace(LIMITS, task_s=30.0))
        for n in range(3):
            await her.alert(f"stop-{n}")
        await until(lambda: len(her.stand.google.got) == 3)
        (facts,) = await her.node.log.open_streams([("demo", "user:bob", "user:bob")])
        assert facts is not None
        eta = times.write(int(1000 * (time.time() + 600)))
        body = {"trip": "trip:9", "stop": "bob", "threshold_s": 600, "eta": eta, "push": True}
        key = str(uuid.uuid4())
        await her.node.log.append(
            [Entry("demo", facts.sid, key, "trip.alert", BY_GATEWAY, orjson.dumps(body), privileged=True)]
        )
        await until(lambda: her.stand.apple.got)


async def test_in_postgres(tmp_path: Path, database: Database) -> None:  # noqa: F811
    """Registrations, the outbox and its progress are rows: pushed once to each phone, and the dead one is gone."""
    async with (
        open_postgres_log(database.url) as log,
        standing(tmp_path, time.time) as stand,
        serving_node(log) as node,
        trio.open_nursery() as nursery,
    ):
        for push in (IPHONE, ANDROID):
            await log.tracks.add_push("demo", "user:amy", push)
        stand.apple.apps[IPHONE.token] = APP
        stand.google.gone.add(ANDROID.token)
        her = Amy(node, log.work, log.tracks, stand, nursery)
        stand.apple.answers.append(CUT)
        await her.worker()
        await her.alert()
        (task,) = await her.ended()
        assert (task.state, task.body["did"]) == ("done", "1 dead, 1 sent")
        assert (len(set(her.apple_ids)), len(stand.apple.shown)) == (1, 1)
        assert [push.token for push in await log.tracks.pushes("demo", "user:amy")] == [IPHONE.token]
        nursery.cancel_scope.cancel()
