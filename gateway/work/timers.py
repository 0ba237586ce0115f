"""Timers: facts of a stream become rows that fall due, and rows that fall due become commands of that stream.

Exactly once in effect: the command that fires a timer has a key made from the fact that set it, and the stream's machine
takes it only while that fact's timer stands (`core.flight.timers`). Whoever fires twice, or too late for a change, is told so
and nothing happens. How late a timer fired is in its event.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.commands import derived_key
from core.flight import times
from core.flight.machine import Recorded
from core.work import Effects, NewTask, Task
from gateway.work.orders import Orders
from gateway.work.ports import DONE, Hold, Memoryless, Outcome, Place, Seen

KIND = "timer"


class TimerRows(Memoryless):
    """The consumer."""

    name = "timers"

    def concerns(self, stream: str) -> bool:
        return stream.startswith(("flight:", "trip:"))

    def take(self, place: Place, events: Sequence[Seen]) -> Effects:
        effects = Effects()
        for _pos, event in events:
            if not event.type.startswith("timer."):
                continue
            key = f"{place.sid}/{event.body['name']}"
            # The last word of a batch on a timer is all of it; what those that fired are to do stays.
            effects.tasks = [task for task in effects.tasks if task.key != key]
            effects.untasks = [other for other in effects.untasks if other[2] != key]
            if event.type == "timer.set":
                due_ms = times.read(event.body["due"]).ms
                body = {
                    "stream": place.stream,
                    "sid": place.sid,
                    "name": event.body["name"],
                    "fence": event.seq,
                    "due_ms": due_ms,
                }
                effects.tasks.append(NewTask(KIND, place.tenant, key, due_ms, body, replace=True))
                continue
            effects.untasks.append((KIND, place.tenant, key))
            if event.type == "timer.fired" and event.body.get("do"):
                effects.tasks.append(follow_up(place, event))
        return effects


def follow_up(place: Place, event: Recorded) -> NewTask:
    """The command that a timer which fired is to give, decided as of when it was due at the earliest: a node whose clock is
    behind would else find that it is not time yet, and whoever sets the timer anew then sets it anew without end."""
    do = event.body["do"]
    body = {
        "do": "command",
        "stream": place.stream,
        "type": do["type"],
        "body": do.get("body", {}),
        "key": derived_key("timer.do", place.tenant, place.sid, event.seq),
        "via": event.body.get("via", []),
        "not_before_ms": times.read(event.body["due"]).ms,
    }
    return NewTask("job", place.tenant, f"{place.sid}/{event.seq}/do", event.at_ms, body, lane=str(place.sid))


class TimerRunner:
    kind = KIND

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    async def run(self, task: Task, hold: Hold) -> Outcome:
        body = task.body
        key = derived_key("timer", task.tenant, body["sid"], body["name"], body["fence"])
        fire = {"name": body["name"], "fence": body["fence"]}
        # It was claimed, so that it is due by the store's clock, which is everybody's. Ours may be behind, and a refusal for
        # that would be kept under the key.
        await self._orders.command(task.tenant, body["stream"], "timer.fire", fire, key, not_before_ms=body["due_ms"])
        return DONE  # refused: it was cancelled or moved, and whoever did that has seen to its row
