"""The engine of rules: a fold over one stream's events that says, at each of them, what the rules do.

Theory of operation. `step` takes the memory that the last one gave, an event, and the state that the stream's machine is in
after it, and gives the next memory, what was kept of each rule that had something to say (firings), and actions. It knows no
clock: time passes by events. A rule that waits sets a timer of the stream (`core.flight.timers`, ``rule:<id>``), and the
event `timer.fired` of that name ends the wait. So whether something happened meanwhile is a question about the order of one
stream's events, which has one answer for ever: live, in a replay, and in a dry run.

* A timer that fires counts only if it is due when the rule's wait is. An older one, set before the wait was moved and fired
  before that was seen, says nothing.
* Whoever cancels that timer, or sets it to another time, has called off what it was for, and that is said.
* What a rule waits with is called off as soon as ``unless`` holds; ``held`` says so.
* Timers are not set where things begin or end, but from the difference between what the memory waits by before and after.
* An event bears the names of the rules that led to it. The eighth rule of a chain does not act, nor one that is in it twice.
* One rule's failure is that rule's. What would make the memory too large, or the timers too many, is not begun, and said.

Does not: take actions, or see another stream than the event's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from core.cron import next_after
from core.flight import times
from core.flight.machine import BY_GATEWAY, Recorded
from core.flight.registry import machine_of
from core.model import FACT_TYPES
from core.rules.expr import Failed, State, time_text
from core.rules.limits import LATE_MAX_MS, MOVED_LEAST_MS
from core.rules.model import (
    Absent,
    Action,
    OnEvent,
    Pattern,
    Relative,
    Rule,
    RuleSet,
    Schedule,
    Step,
    Threshold,
    timer_name,
    timer_of,
)
from core.rules.turn import Seen, Turn, remembered
from core.rules.waits import due_of, fitting, retired, timers
from core.work import Firing

Memory = Mapping[str, Any]
"""By rule, what `core.rules.turn` describes."""

_UNLESS: Final = "its `unless` holds"


def step(rules: RuleSet, memory: Memory, tenant: str, stream: str, event: Recorded, state: State) -> Step:
    """What the rules make of a stream's next event. ``state`` is the machine's `show()` after it, or gives that when called
    (it is not always wanted); an empty object where the stream has no machine. ``memory`` is empty before the first event."""
    versions = rules.of(tenant, stream, timed=machine_of(stream) is not None)
    if not versions and not memory:
        return Step({}, [], [])
    own = timer_of(event.body.get("name")) if event.type.startswith("timer.") else None
    if own is not None and event.type == "timer.set" and event.by == BY_GATEWAY:
        return Step(dict(memory), [], [])
    seen, show = Seen(tenant, stream, event), _once(state)
    after = dict(memory)
    firings: list[Firing] = []
    actions: list[Action] = []
    for id in [own[0]] if own is not None else sorted({*versions, *memory}):
        rule = next((one for one in versions.get(id, ()) if one.effective(event.at_ms)), None)
        before = memory.get(id, {})
        if rule is None:
            after.pop(id, None)
            ended = retired(id, before, tenant, stream, event)
            firings += ended.firings
            actions += ended.actions
            continue
        if own is None and "wait" not in before and "steps" not in before and not _concerns(rule, event):
            continue
        turn = Turn(rule, before if before.get("k") == rule.when.kind else {}, seen, show)
        fired = ""
        if own is None:
            _event(turn)
        elif event.type == "timer.fired":
            fired = timer_name(*own) if _timer(turn, own[1]) else ""
        elif event.by == BY_GATEWAY or (due := due_of(before, own[1])) is None:
            pass
        elif event.type == "timer.set":
            if times.read(event.body.get("due")).ms != due:
                _call_off(turn, f"its timer was set anew by {event.by}")
        else:
            fired = timer_name(*own)
            _call_off(turn, f"its timer was cancelled by {event.by}")
        kept = fitting(turn, after, before)
        if kept != before:
            after[id] = kept
        firings += turn.firings
        actions += turn.actions
        actions += timers(rule.id, before, kept, fired, turn)
    return Step(after, firings, actions)


def _once(state: State) -> State:
    """The state, asked for once for all rules."""
    known: list[Mapping[str, Any]] = []

    def show() -> Mapping[str, Any]:
        if not known:
            known.append(state if isinstance(state, Mapping) else state())
        return known[0]

    return show


def _concerns(rule: Rule, event: Recorded) -> bool:
    """Whether a rule that waits for nothing may have something to do."""
    when = rule.when
    if isinstance(when, OnEvent):
        return when.pattern.types.match(event.type)
    if isinstance(when, Absent):
        return when.after.types.match(event.type) or (when.lookback_ms > 0 and when.no.types.match(event.type))
    if isinstance(when, Relative):  # what is said in a stream changes no time of the flight
        return event.type.startswith(FACT_TYPES)
    return when.types.match(event.type) if isinstance(when, Threshold) else True


# What rules do at events


def _event(turn: Turn) -> None:
    waiting = turn.memory.get("wait") or turn.memory.get("steps")
    if waiting and turn.holds(turn.rule.unless, False, waiting["trigger"]):
        _call_off(turn, _UNLESS)
    when = turn.rule.when
    if isinstance(when, OnEvent):
        if _matches(turn, when.pattern):
            _fire_unless(turn, turn.shown, turn.via)
    elif isinstance(when, Absent):
        _absent(turn, when)
    elif isinstance(when, Threshold):
        _threshold(turn, when)
    elif isinstance(when, Relative):
        _relative(turn, when)
    else:
        _scheduled(turn, when, turn.event.at_ms)


def _matches(turn: Turn, pattern: Pattern, trigger: Mapping[str, Any] | None = None) -> bool:
    return pattern.types.match(turn.event.type) and turn.holds(pattern.where, True, trigger) is True


def _fire_unless(
    turn: Turn, trigger: Mapping[str, Any], via: tuple[str, ...], *, later: bool = True, **inputs: Any
) -> None:
    held = turn.holds(turn.rule.unless, False, trigger)
    if held:
        turn.note("held", _UNLESS, trigger, **inputs)
    elif held is False:
        turn.fire(trigger, via, later=later, **inputs)


def _call_off(turn: Turn, reason: str) -> None:
    wait, steps = turn.memory.pop("wait", None), turn.memory.pop("steps", None)
    if wait:
        turn.note("held", reason, wait["trigger"], due=time_text(wait["due"]))
    else:
        turn.note("held", reason, steps["trigger"])


def _begin(turn: Turn, due_ms: int) -> None:
    turn.memory["wait"] = {"due": due_ms, "trigger": remembered(turn.shown), "via": list(turn.via)}


def _absent(turn: Turn, when: Absent) -> None:
    memory, at_ms = turn.memory, turn.event.at_ms
    wait, steps, before = memory.get("wait"), memory.get("steps"), memory.get("seen")
    waiting = wait or steps
    came = False
    own = turn.via[-1:] == (turn.rule.id,)  # what it said itself is not what it waits for
    if (waiting or when.lookback_ms) and not own:
        came = _matches(turn, when.no, waiting["trigger"] if waiting else None)
    if came and when.lookback_ms:
        memory["seen"] = {"seq": turn.event.seq, "at": at_ms}
    in_time = came and bool(waiting) and (wait is None or at_ms <= wait["due"])
    if came and wait and not in_time:  # its timer is on the way; what it would do later is not needed any more
        memory["wait"] = {**wait, "late": True}
    ended = (memory.pop("wait", None), memory.pop("steps", None)) if in_time else ()
    if _matches(turn, when.after):
        if "wait" in memory:
            if when.again == "restart" and not came:
                _begin(turn, at_ms + when.within_ms)
        elif not in_time and before is not None and before["at"] >= at_ms - when.lookback_ms:
            turn.note("held", f"what it would wait for came just before, at seq {before['seq']}")
        elif turn.holds(turn.rule.unless, False) is False:
            _begin(turn, at_ms + when.within_ms)
            ended = ()  # a beat: the next wait took the last one's place
    if ended and (ended[0] or ended[1]):
        turn.note("held", "what it waited for came in time", (ended[0] or ended[1])["trigger"])


def _threshold(turn: Turn, when: Threshold) -> None:
    if not when.types.match(turn.event.type):
        return
    memory = turn.memory
    value = when.value.value(turn.scope)
    if isinstance(value, Failed):
        if not value.missing:  # what is not there yet is no reading
            turn.error(value.message)
        return
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        turn.error(f"{when.value.text!r} is no number, and a threshold's value is one")
        return
    changed, memory["value"] = memory.get("value") != value, value
    past = value > when.limit if when.rising else value < when.limit
    clear = value < when.clear if when.rising else value > when.clear
    if when.clear == when.limit:
        clear = not past
    if memory.get("past"):
        if clear:
            memory["past"] = False
            if "steps" in memory:
                _call_off(turn, f"the value is {value} and clear again")
        elif past and changed:
            turn.note("suppressed", f"the value has been past {when.limit} since it last fired", value=value)
    elif past:
        held = turn.holds(turn.rule.unless, False)
        if held is False:
            memory["past"] = True
            turn.fire(turn.shown, turn.via, value=value)
        elif held and changed:
            turn.note("held", _UNLESS, value=value)


def _relative(turn: Turn, when: Relative) -> None:
    memory, at_ms = turn.memory, turn.event.at_ms
    time_ms = _time(turn, when)
    wait, done = memory.get("wait"), memory.get("done")
    if time_ms is None:
        if wait:
            _call_off(turn, "the time that it waits for is not known any more")
        return
    due = time_ms + when.offset_ms
    if done is not None and abs(due - done) < MOVED_LEAST_MS:
        if wait:
            _call_off(turn, "the time is again the one that it fired for")
        return
    if wait and abs(due - wait["due"]) < MOVED_LEAST_MS:
        return
    if due > at_ms:
        if turn.holds(turn.rule.unless, False) is False:
            if "steps" in memory:
                _call_off(turn, f"the time that it fired for has moved, and is due at {time_text(due)}")
            _begin(turn, due)
        return
    if wait:
        _call_off(turn, f"the time has moved and is past: {time_text(due)}")
    if done is not None:
        return  # it has fired; that it should have fired at another time is no news
    if at_ms - due > LATE_MAX_MS:
        memory["done"] = due
        turn.note("held", f"it was due at {time_text(due)}, too long ago to be news")
    elif (
        turn.holds(turn.rule.unless, False) is False
    ):  # it was past when it became known, or when `unless` ceased to hold
        memory["done"] = due
        turn.due(due)
        turn.fire(turn.shown, turn.via)


def _time(turn: Turn, when: Relative) -> int | None:
    """The time that a rule is relative to, ``None`` where there is none (yet)."""
    if when.at is not None:
        value = when.at.value(turn.scope)
        if isinstance(value, Failed):
            if not value.missing:
                turn.error(value.message)
            return None
    else:
        shown = turn.scope.flight.get("times")
        of = shown.get(when.milestone) if isinstance(shown, Mapping) else None
        value = of.get(when.time_kind) if isinstance(of, Mapping) else None
    if value is None:
        return None
    found = times.read(value)
    if found.why:
        turn.error(f"the time that it is relative to {found.message}")
        return None
    return found.ms


def _scheduled(turn: Turn, when: Schedule, after_ms: int) -> None:
    if "wait" in turn.memory or turn.holds(turn.rule.unless, False) is not False:
        return
    due = next_after(when.cron, when.zone, after_ms, skipped=when.skipped, doubled=when.doubled)
    if due is not None:
        _begin(turn, due)


# What rules do when a timer fires


def _timer(turn: Turn, step: int) -> bool:
    """False where the timer is not one that the rule waits by (any more)."""
    memory, rule = turn.memory, turn.rule
    due = due_of(memory, step)
    if due is None or times.read(turn.event.body.get("due")).ms != due:
        return False
    if step:
        _later(turn, step)
        return True
    wait = memory.pop("wait")
    if isinstance(rule.when, Relative):
        memory["done"] = due
    if isinstance(rule.when, Schedule):
        _scheduled(turn, rule.when, max(due, turn.event.at_ms))  # those missed meanwhile are this one
    turn.due(due)
    if turn.event.at_ms - due > LATE_MAX_MS and not isinstance(rule.when, Schedule):
        turn.note("held", "its timer fired too late for it to be news", wait["trigger"])
    else:
        _fire_unless(turn, wait["trigger"], tuple(wait["via"]), later=not wait.get("late"))
    return True


def _later(turn: Turn, step: int) -> None:
    memory = turn.memory
    steps = memory["steps"]
    rest = {name: due for name, due in steps["due"].items() if name != str(step)}
    memory.pop("steps")
    turn.due(steps["due"][str(step)])
    held = turn.holds(turn.rule.unless, False, steps["trigger"])
    if held:
        turn.note("held", _UNLESS, steps["trigger"], step=step)
        return
    if rest:
        memory["steps"] = {**steps, "due": rest}
    if step > len(turn.rule.delays):
        turn.note("held", "this version of the rule has no such step", steps["trigger"], step=step)
    elif held is False:
        turn.later(step, steps["trigger"], tuple(steps["via"]))
