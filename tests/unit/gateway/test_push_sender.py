"""Pushes as tasks: one of each alert of ours, every device once, and nothing past the time of arrival."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import trio

from core.flight import times
from core.flight.machine import BY_GATEWAY, Recorded
from core.ports import Unavailable
from core.push.alert import Note
from core.push.rules import SENT, PushLimits, Verdict, later, ref_of, refused
from core.tracks import Push
from core.work import Fenced, Task
from gateway.push.sender import Pusher, PushRows
from gateway.push.services import PushService
from gateway.work.jobs import JobRunner
from gateway.work.ports import Outcome, Place, Seen
from tests.push_servers import Clock, Phones

PLACE = Place("demo", 7, "user:amy", 1)
IPHONE = Push("apns", "00ff", "example.buses", 5)
ANDROID = Push("fcm", "tok", "example.buses", 6)
SENDS = Callable[[Push, Note], Verdict]


def alert(clock: Clock, in_s: float = 600.0, **changed: object) -> dict[str, Any]:
    eta = times.write(clock.now_ms + round(1000 * in_s))
    return {"trip": "trip:9", "stop": "home", "threshold_s": 600, "eta": eta, "push": True, **changed}


def seen(body: dict[str, Any], seq: int = 3, type: str = "trip.alert", by: str = BY_GATEWAY) -> Seen:
    return Seen(11, Recorded(seq, type, by, 1_790_000_000_000, body))


class Service:
    """Says what it is told to, the last word again and again; or waits."""

    def __init__(self, *verdicts: Verdict, gate: trio.Event | None = None) -> None:
        self.verdicts = list(verdicts) or [SENT]
        self.gate = gate
        self.got: list[tuple[str, Note]] = []

    async def send(self, push: Push, note: Note) -> Verdict:
        self.got.append((push.token, note))
        if self.gate is not None:
            await self.gate.wait()
        return self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]


class Held:
    """A claim. ``failing`` is raised instead of keeping what is said."""

    def __init__(self, failing: BaseException | None = None) -> None:
        self.said: list[Mapping[str, Any]] = []
        self.failing = failing

    async def pulse(self, progress: Mapping[str, Any] | None = None) -> bool:
        if self.failing is not None:
            raise self.failing
        assert progress is not None
        self.said.append(progress)
        return False


class Desk:
    """Amy's two phones, the services, and the task of one alert."""

    def __init__(self, *, limits: PushLimits | None = None, **services: PushService) -> None:
        self.clock = Clock()
        self.phones = Phones()
        for push in (IPHONE, ANDROID):
            self.phones.kept[push.service, push.token] = "demo", "user:amy", push
        self.hold = Held()
        limits = limits or PushLimits()
        self.pusher = Pusher(self.phones.tracks, services, self.clock, lambda: 0.0, limits)
        (self.task,) = self.taken(alert(self.clock))

    def taken(self, body: dict[str, Any]) -> list[Task]:
        new = PushRows(self.clock).take(PLACE, [seen(body)]).tasks
        made_ms = self.clock.now_ms
        return [
            Task(1, *one[:3], one.lane, one.due_ms, "claimed", 1, 0, "", one.body, {}, False, made_ms) for one in new
        ]

    async def run(self) -> Outcome:
        outcome = await self.pusher.run(self.task, self.hold)
        if outcome.body is not None:
            self.task = self.task._replace(body=dict(outcome.body))
        return outcome


# The consumer


def test_an_alert_makes_one_task() -> None:
    """Under a key made from stream and seq, in nobody's lane; the same when the event is taken again."""
    clock = Clock()
    (task,) = PushRows(clock).take(PLACE, [seen(alert(clock))]).tasks
    assert (task.kind, task.tenant, task.key, task.lane, task.replace) == ("job", "demo", "7/3/push", "", False)
    assert (task.body["do"], task.body["to"]) == ("push", "user:amy")
    assert PushRows(clock).take(PLACE, [seen(alert(clock))]).tasks == [task]
    assert PushRows(clock).take(PLACE, [seen(alert(clock), 4)]).tasks[0].body["key"] != task.body["key"]


@pytest.mark.parametrize(
    ("type", "by", "changed"),
    [
        ("notice", BY_GATEWAY, {}),
        ("trip.alert", "service:ops", {}),
        ("trip.alert", "user:amy", {}),
        ("trip.alert", BY_GATEWAY, {"push": False}),
        ("trip.alert", BY_GATEWAY, {"push": 1}),
        ("trip.alert", BY_GATEWAY, {"push": None}),
    ],
)
def test_what_is_not_pushed(type: str, by: str, changed: dict[str, Any]) -> None:
    """Other events, what others sent, and alerts that are not to wake anybody."""
    clock = Clock()
    assert PushRows(clock).take(PLACE, [seen(alert(clock, **changed), type=type, by=by)]).tasks == []


def test_history_is_not_pushed() -> None:
    """What was said of vehicles that have arrived since; inboxes are all that is looked at."""
    clock = Clock()
    rows = PushRows(clock)
    assert not rows.take(PLACE, [seen(alert(clock, -1.0))])
    assert rows.history == 1
    assert (rows.concerns("user:amy"), rows.concerns("trip:9")) == (True, False)
    rows.forget(1)


async def test_nothing_is_prepared() -> None:
    """The consumer has no past."""
    await PushRows(Clock()).prepare([(PLACE, 1)])


# What is done


async def test_every_device_once() -> None:
    """Each by its service, at once, with the same note; what became of it is written as it becomes known."""
    apns, fcm = Service(), Service()
    desk = Desk(apns=apns, fcm=fcm)
    outcome = await desk.run()
    assert (outcome.state, outcome.reason) == ("done", "")
    assert outcome.body is not None
    assert outcome.body["did"] == "2 sent"
    assert ([token for token, _ in apns.got], [token for token, _ in fcm.got]) == (["00ff"], ["tok"])
    assert apns.got[0][1] == fcm.got[0][1]
    assert [len(said["pushed"]["done"]) for said in desk.hold.said] == [1, 2]
    assert "00ff" not in str(outcome.body)
    assert desk.pusher.counts == {("apns", "sent"): 1, ("fcm", "sent"): 1}


async def test_only_what_is_not_done_is_repeated() -> None:
    """And not before its service allows: the other's is not touched again."""
    apns, fcm = Service(), Service(later("429 QUOTA_EXCEEDED", 60.0), SENT)
    desk = Desk(apns=apns, fcm=fcm)
    outcome = await desk.run()
    assert (outcome.state, outcome.reason, outcome.after_s) == ("waiting", "429 QUOTA_EXCEEDED", 60.0)
    desk.clock.now_s += 59
    outcome = await desk.run()
    assert (outcome.state, outcome.after_s, len(fcm.got)) == ("waiting", 1.0, 1)
    desk.clock.now_s += 1
    assert (await desk.run()).state == "done"
    assert (len(apns.got), len(fcm.got)) == (1, 2)


async def test_after_a_crash_what_was_written_counts() -> None:
    """The claim's progress alone, where the task was never settled."""
    apns, fcm = Service(), Service()
    desk = Desk(apns=apns, fcm=fcm)
    desk.task = desk.task._replace(progress={"pushed": {"done": {ref_of("apns", "00ff"): "sent"}}})
    assert (await desk.run()).state == "done"
    assert (len(apns.got), len(fcm.got)) == (0, 1)


async def test_nothing_goes_out_too_late() -> None:
    """A wait past the arrival is the end of it, and so is a task that comes then."""
    desk = Desk(apns=Service(later("503 Shutdown", 900.0)), fcm=Service())
    outcome = await desk.run()
    assert (outcome.state, outcome.reason) == ("done", "too_late: 503 Shutdown")
    assert outcome.body is not None
    assert outcome.body["did"] == "1 sent, 1 too_late"
    fcm = Service()
    desk = Desk(apns=Service(), fcm=fcm)
    desk.clock.now_s += 600
    assert (await desk.run()).reason == "too_late"
    assert fcm.got == []


async def test_a_push_lives_four_hours_at_most() -> None:
    """Whatever the alert says of its arrival."""
    fcm = Service()
    desk = Desk(fcm=fcm)
    (desk.task,) = desk.taken(alert(desk.clock, 1e6))
    await desk.run()
    assert fcm.got[0][1].until_ms == desk.clock.now_ms + 14_400_000


async def test_the_dead_are_removed() -> None:
    """Unless they were registered anew since the service says that they died."""
    desk = Desk(
        apns=Service(Verdict("dead", "Unregistered", before_ms=4)), fcm=Service(Verdict("dead", "UNREGISTERED"))
    )
    outcome = await desk.run()
    assert outcome.body is not None
    assert (outcome.state, outcome.reason, outcome.body["did"]) == ("done", "", "2 dead")
    assert list(desk.phones.kept) == [("apns", "00ff")]


async def test_the_dead_are_removed_later_where_the_store_is_away() -> None:
    """They are asked about once more, for nothing, rather than be kept for ever."""
    desk = Desk(fcm=Service(Verdict("dead", "UNREGISTERED")))
    del desk.phones.kept["apns", "00ff"]
    looked = desk.phones.pushes

    async def pushes(tenant: str, principal: str) -> list[Push]:
        found = await looked(tenant, principal)
        desk.phones.failing = Unavailable("away")
        return found

    desk.phones.pushes = pushes  # type: ignore[method-assign]
    outcome = await desk.run()
    assert (outcome.state, outcome.reason) == ("waiting", "a dead token could not be removed")
    desk.phones.failing, desk.phones.pushes = None, looked  # type: ignore[method-assign]
    desk.clock.now_s += 60
    assert (await desk.run()).state == "done"
    assert desk.phones.kept == {}


async def test_a_store_that_is_away_is_the_tasks_trouble() -> None:
    """Whose devices cannot be looked up is tried again as any task."""
    desk = Desk(fcm=Service())
    desk.phones.failing = Unavailable("away")
    with pytest.raises(Unavailable):
        await desk.run()


async def test_a_claim_that_was_lost_ends_it() -> None:
    """At once, and what still goes on is left: whoever has the task now repeats it under the same ids."""
    desk = Desk(apns=Service(gate=trio.Event()), fcm=Service())
    desk.hold = Held(Fenced("another's"))
    with pytest.raises(Fenced):
        await desk.run()


async def test_a_pulse_that_fails_loses_nothing() -> None:
    """The verdicts are in the task's settlement."""
    desk = Desk(apns=Service(), fcm=Service())
    desk.hold = Held(Unavailable("away"))
    outcome = await desk.run()
    assert outcome.body is not None
    assert (outcome.state, len(outcome.body["pushed"]["done"])) == ("done", 2)


async def test_refusals_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """In the task, and once in the log; a service without keys refuses too, and nobody without a phone is refused."""
    desk = Desk(apns=Service(refused("400 BadTopic")))
    for _ in range(3):
        outcome = await desk.run()
        assert outcome.state == "done"
        assert outcome.reason == "refused: 400 BadTopic; refused: there are no keys for fcm in the secrets"
        (desk.task,) = desk.taken(alert(desk.clock))
    assert sorted(record.getMessage() for record in caplog.records) == [
        "apns refuses pushes: 400 BadTopic",
        "fcm refuses pushes: there are no keys for fcm in the secrets",
    ]
    desk.phones.kept.clear()
    outcome = await desk.run()
    assert outcome.body is not None
    assert (outcome.state, outcome.body["did"]) == ("done", "no device is registered")


async def test_a_device_that_takes_too_long(autojump_clock: trio.testing.MockClock) -> None:
    """Is left, and tried later: the claim must not run out over it."""
    desk = Desk(apns=Service(gate=trio.Event()), fcm=Service(), limits=replace(PushLimits(), device_s=25.0))
    outcome = await desk.run()
    assert (outcome.state, outcome.reason) == ("waiting", "apns did not answer within 25 s")


async def test_a_slip_of_ours_is_one_devices(caplog: pytest.LogCaptureFixture) -> None:
    """It is refused and logged, and the other device has its push."""

    class Broken:
        async def send(self, push: Push, note: Note) -> Verdict:
            raise ZeroDivisionError

    desk = Desk(apns=Broken(), fcm=Service())
    outcome = await desk.run()
    assert outcome.body is not None
    assert (outcome.state, outcome.body["did"]) == ("done", "1 refused, 1 sent")
    assert "00ff" not in caplog.text


async def test_an_alert_that_cannot_be_read_is_parked() -> None:
    """With what is wrong, for an operator; it holds up nobody, since it has no lane."""
    desk = Desk(fcm=Service())
    (desk.task,) = desk.taken(alert(desk.clock, eta="soon"))
    outcome = await desk.run()
    assert (outcome.state, "eta is no RFC 3339" in outcome.reason, desk.task.lane) == ("parked", True, "")


async def test_jobs_that_push() -> None:
    """Come to the pusher; where there is none they are parked, saying what is missing."""
    desk = Desk(apns=Service(), fcm=Service())
    runner = JobRunner(None, lambda: 0.0, desk.pusher)  # type: ignore[arg-type]
    assert (await runner.run(desk.task, desk.hold)).state == "done"
    bare = JobRunner(None, lambda: 0.0)  # type: ignore[arg-type]
    outcome = await bare.run(desk.task, desk.hold)
    assert (outcome.state, "no keys for pushes" in outcome.reason) == ("parked", True)
