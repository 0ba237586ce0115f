"""What rules wait by: the timers that a stream's memory stands for, the commands that make them so, and their bounds.

For: `core.rules.engine`. A rule's memory is described in `core.rules.turn`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from core.flight.machine import Recorded
from core.rules.expr import time_text
from core.rules.limits import MEMORY_BYTES_MAX, WAITS_MAX
from core.rules.model import Action, Step, action_key, timer_name
from core.rules.turn import Turn, via_of
from core.work import Firing

_NONE: Final[Mapping[str, Any]] = {"due": {}}


def pending(memory: Mapping[str, Any]) -> dict[str, int]:
    """Timers that the rules wait by: when each is due, by name."""
    return {name: due for id, entry in memory.items() for name, due in _waits(id, entry).items()}


def _waits(id: str, entry: Mapping[str, Any]) -> dict[str, int]:
    found = {timer_name(id, int(step)): due for step, due in entry.get("steps", _NONE)["due"].items()}
    if "wait" in entry:
        found[timer_name(id, 0)] = entry["wait"]["due"]
    return found


def due_of(entry: Mapping[str, Any], step: int) -> int | None:
    """When this step of the rule is due, if it waits."""
    if step:
        due: int | None = entry.get("steps", _NONE)["due"].get(str(step))
    else:
        due = entry.get("wait", {}).get("due")
    return due


def retired(id: str, before: Mapping[str, Any], tenant: str, stream: str, event: Recorded) -> Step:
    """A rule that is not in force (any more): it is forgotten, and what it waited with is called off."""
    waits = _waits(id, before)
    if not waits:
        return Step({}, [], [])
    version = str(before.get("v", ""))
    via = (*via_of(event), id)
    names = [name for name in sorted(waits) if not (event.type == "timer.fired" and event.body.get("name") == name)]
    actions = [
        Action(
            "command",
            stream,
            "timer.cancel",
            {"name": name},
            action_key(tenant, id, version, stream, event.seq, n),
            via,
        )
        for n, name in enumerate(names)
    ]
    inputs = {"reason": "it waited, and this rule is not in force any more", "waited": sorted(waits)}
    firing = Firing(tenant, id, version, stream, event.seq, event.at_ms, "not_effective", inputs, [])
    return Step({}, [firing], actions)


def fitting(turn: Turn, all: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What the rule may remember: all of it, or what it waited by before where there is no room for more."""
    now, id = turn.memory, turn.rule.id
    if now.keys() <= {"v", "k"} and not before:
        return {}  # nothing happened that needs remembering
    if now == before:
        return now
    waits = _waits(id, now)
    full = ""
    if len(waits) > len(_waits(id, before)):
        others = sum(len(_waits(name, entry)) for name, entry in all.items() if name != id)
        if others + len(waits) > WAITS_MAX:
            full = f"{others} timers of rules wait in this stream already, at most {WAITS_MAX} may: it does not wait"
    if not full:
        size = sum(len(orjson.dumps(entry, default=dict)) for name, entry in all.items() if name != id)
        if size + len(orjson.dumps(now, default=dict)) > MEMORY_BYTES_MAX:
            full = f"rules remember {MEMORY_BYTES_MAX} bytes of this stream, and no more: it does not wait"
    if not full:
        return now
    turn.error(full)
    kept = {key: value for key, value in now.items() if key not in ("wait", "steps", "seen", "value")}
    return kept | {key: before[key] for key in ("wait", "steps") if key in before and key in now}


def timers(id: str, before: Mapping[str, Any], after: Mapping[str, Any], fired: str, turn: Turn) -> list[Action]:
    """Commands that make the stream's timers what the memory waits by. ``fired`` is gone by itself."""
    if all(after.get(key) is before.get(key) for key in ("wait", "steps")):
        return []
    was, now = _waits(id, before), _waits(id, after)
    was.pop(fired, None)
    given: list[Action] = []
    for name in sorted({*was, *now}):
        if was.get(name) == now.get(name):
            continue
        due = now.get(name)
        verb, body = (
            ("timer.cancel", {"name": name})
            if due is None
            else (
                "timer.set",
                {"name": name, "due": time_text(due)},
            )
        )
        key = turn.key(len(turn.actions) + len(given))
        given.append(Action("command", turn.stream, verb, body, key, (*turn.via, id)))
    return given
