"""Pushes as tasks: the consumer that makes one of each alert in somebody's inbox, and what a worker does with it.

An event ``trip.alert`` of ours with ``push: true`` becomes one job in the commit that moves the cursor past it, under a key
made from stream and seq: there is one, whoever crashed. The job looks up its principal's devices and pushes to each at once.
What became of a device is written under the task's fence as it becomes known, so that whoever goes on after a crash repeats
only what was not answered; such a repetition has the same ids, and shows once. A token that its service calls dead goes.

Nothing is tried past the time of arrival: what is left then is done, as `too_late`. An alert that cannot be read parks its task
and nobody else's.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import trio

from core.commands import derived_key
from core.flight.machine import BY_GATEWAY
from core.ports import Unavailable
from core.push import alert as alerts
from core.push.alert import Alert, Note
from core.push.rules import Progress, PushLimits, Verdict, later, ref_of, refused
from core.tracks import Push, Tracks
from core.work import Effects, Fenced, NewTask, Task
from gateway.push.services import PushService
from gateway.work.jobs import KIND, PUSH
from gateway.work.ports import Hold, Memoryless, Outcome, Place, Seen

log = logging.getLogger("readback.push")

TOLD_MAX: Final = 100
"""Reasons of refusals that were logged, each once: a key that is wrong refuses every push."""


class PushRows(Memoryless):
    """The consumer. What was recorded so long ago that its vehicle has arrived makes no task, as when pushes are new here."""

    name = "pushes"

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self.history = 0

    def concerns(self, stream: str) -> bool:
        return stream.startswith("user:")

    def take(self, place: Place, events: Sequence[Seen]) -> Effects:
        effects = Effects()
        for _, event in events:
            # Of ours alone: who may send into an inbox is not thereby one to wake its owner's phone.
            if event.type != alerts.TYPE or event.by != BY_GATEWAY or event.body.get("push") is not True:
                continue
            alert = alerts.read(event.body)
            if isinstance(alert, Alert) and alert.eta_ms <= 1000 * self._wall():
                self.history += 1
                continue
            key = derived_key("push", place.tenant, place.sid, event.seq)
            body = {"do": PUSH, "to": place.stream, "key": key, "alert": event.body}
            effects.tasks.append(NewTask(KIND, place.tenant, f"{place.sid}/{event.seq}/push", event.at_ms, body))
        return effects


class Pusher:
    """What a worker does with such a task. ``services`` by name, those that there are keys for."""

    def __init__(
        self,
        tracks: Tracks,
        services: Mapping[str, PushService],
        wall: Callable[[], float],
        uniform: Callable[[], float],
        limits: PushLimits,
    ) -> None:
        self._tracks = tracks
        self._services = services
        self._wall = wall
        self._uniform = uniform
        self._limits = limits
        self.counts: Counter[tuple[str, str]] = Counter()
        """Verdicts by (service, what), for metrics."""
        self._told: set[tuple[str, str]] = set()

    def _now_ms(self) -> int:
        return int(1000 * self._wall())

    async def run(self, task: Task, hold: Hold) -> Outcome:
        body = task.body
        alert = alerts.read(body.get("alert", {}))
        if isinstance(alert, str):
            return Outcome("parked", f"the alert cannot be pushed: {alert}")
        until_ms = min(alert.eta_ms, task.made_ms + round(1000 * self._limits.ttl_max_s))
        note = Note(alert, body["key"], alerts.collapse_id(task.tenant, alert), until_ms)
        progress = Progress.of(body, task.progress)
        pushes = {ref_of(push.service, push.token): push for push in await self._tracks.pushes(task.tenant, body["to"])}
        if self._now_ms() < until_ms:
            due = [ref for ref in pushes if progress.is_due(ref, self._now_ms())]
            await self._send(due, pushes, note, progress, hold)
        return self._outcome(body, list(pushes), progress, until_ms)

    async def _send(
        self, due: Sequence[str], pushes: Mapping[str, Push], note: Note, progress: Progress, hold: Hold
    ) -> None:
        """To all at once: a service that hangs holds up no other. What each became is written before the next is looked at."""
        fenced: Fenced | None = None
        tell, told = trio.open_memory_channel[tuple[str, Verdict]](len(due))
        async with trio.open_nursery() as nursery:
            for ref in due:
                nursery.start_soon(self._send_one, ref, pushes[ref], note, tell)
            for _ in due:
                ref, verdict = await told.receive()
                if verdict.what == "dead":
                    verdict = await self._bury(pushes[ref], verdict)
                progress.note(ref, verdict, self._now_ms(), self._uniform(), self._limits)
                try:
                    await hold.pulse(progress.document())
                except Unavailable:
                    pass  # it may be written with the next one's, or when the task is settled
                except Fenced as error:
                    fenced = error  # not from in here, where it would come out within a group
                    nursery.cancel_scope.cancel()
                    break
        if fenced is not None:
            raise fenced

    async def _send_one(
        self, ref: str, push: Push, note: Note, tell: trio.MemorySendChannel[tuple[str, Verdict]]
    ) -> None:
        service = self._services.get(push.service)
        verdict = later(f"{push.service} did not answer within {self._limits.device_s:g} s")
        if service is None:
            verdict = refused(f"there are no keys for {push.service} in the secrets")
        else:
            with trio.move_on_after(self._limits.device_s):
                try:
                    verdict = await service.send(push, note)
                except Exception as error:  # a slip of ours: this device's alone, and not retried without end
                    log.exception("a push to %s by %s failed", ref, push.service)
                    verdict = refused(f"{type(error).__name__} on our side")
        self._count(push.service, verdict)
        tell.send_nowait((ref, verdict))

    async def _bury(self, push: Push, verdict: Verdict) -> Verdict:
        """Registered anew since we looked, it lives."""
        before_ms = push.at_ms if verdict.before_ms is None else verdict.before_ms
        try:
            await self._tracks.drop_push(push.service, push.token, before_ms)
        except Unavailable:
            return later("a dead token could not be removed")
        return verdict

    def _count(self, service: str, verdict: Verdict) -> None:
        self.counts[service, verdict.what] += 1
        what = (service, verdict.reason)
        if verdict.what == "refused" and what not in self._told and len(self._told) < TOLD_MAX:
            self._told.add(what)
            log.warning("%s refuses pushes: %s", *what)

    def _outcome(self, body: Mapping[str, Any], refs: list[str], progress: Progress, until_ms: int) -> Outcome:
        """Those left are tried while there is time."""
        next_ms, now_ms = progress.next_ms(refs), self._now_ms()
        reason = "; ".join(sorted({progress.why[ref] for ref in refs if ref in progress.why}))
        if next_ms is not None and max(next_ms, now_ms) < until_ms:
            wait_s = max(0, next_ms - now_ms) / 1000
            return Outcome("waiting", reason, wait_s, body={**body, **progress.document()})
        if next_ms is not None:
            progress.give_up(refs, "too_late")
        bad = sorted({what for what in progress.done.values() if what.partition(":")[0] in ("refused", "too_late")})
        return Outcome("done", "; ".join(bad)[:300], body={**body, **progress.document(), "did": progress.says()})
