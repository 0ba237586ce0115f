"""One rule at one event: what it remembers, what it notes, what it gives to do.

For: `core.rules.engine`, which decides when; here is how. A rule's memory of a stream is an object of JSON:

- ``v``, ``k``: the version that last saw the stream, and its kind of trigger
- ``n``, ``at``: how often it fired, and when last
- ``wait``: what it waits by: ``due``, the event that began it (``trigger``), the rules that led to that (``via``), and
  ``late`` where what it waits for came, but after ``due``
- ``steps``: later actions of a firing: ``due`` by step, ``trigger``, ``via``
- ``seen``: the last event that would have ended a wait, for a lookback
- ``past``, ``value``: of a threshold; ``done``: of a time relative to a milestone, the one it has fired for
- ``error``: what last failed, noted once until it is another

Nested objects are replaced, never changed, so that the memory that was handed in stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from core.flight.machine import BY_GATEWAY, Recorded
from core.flight.registry import SEATS_SUFFIX
from core.model import PRINCIPAL_RE, STREAM_RE
from core.rules.expr import Expr, Failed, Scope, State, render, time_text
from core.rules.limits import (
    AGAIN_MAX,
    BODY_BYTES_MAX,
    FIRING_BYTES_MAX,
    TEXT_CHARS_MAX,
    TRIGGER_BYTES_MAX,
    VIA_MAX,
)
from core.rules.model import Action, Do, Rule, Verdict, action_key
from core.work import Firing

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EVENTS: Final = ("flight:", "trip:")
"""Kinds of streams in which commands are given."""


class Seen:
    """An event as all rules see it."""

    __slots__ = ("event", "now", "shown", "stream", "tenant", "via")

    def __init__(self, tenant: str, stream: str, event: Recorded) -> None:
        self.tenant = tenant
        self.stream = stream
        self.event = event
        self.via = via_of(event)
        self.now = _EPOCH + timedelta(milliseconds=event.at_ms)
        self.shown = {
            "tenant": tenant,
            "stream": stream,
            "seq": event.seq,
            "type": event.type,
            "by": event.by,
            "at": time_text(event.at_ms),
            "body": event.body,
        }


class Turn:
    """See the module. ``memory`` is what the rule remembers now; `firings` and `actions` what came of the event."""

    __slots__ = (
        "actions", "event", "firings", "memory", "rule", "scope", "shown", "stream", "tenant", "via",
    )  # fmt: skip

    def __init__(self, rule: Rule, memory: Mapping[str, Any], seen: Seen, state: State) -> None:
        self.rule = rule
        self.memory: dict[str, Any] = {**memory, "v": rule.version, "k": rule.when.kind}
        self.tenant = seen.tenant
        self.stream = seen.stream
        self.event = seen.event
        self.via = seen.via
        self.shown = seen.shown
        last = memory.get("at")
        remembers = {
            "fired": memory.get("n", 0),
            "fired_at": None if last is None else time_text(last),
            "past": memory.get("past", False),
            "value": memory.get("value"),
        }
        names = {
            "event": seen.shown,
            "trigger": seen.shown,
            "memory": remembers,
            "rule": {"id": rule.id, "version": rule.version, "severity": rule.severity},
            "due": None,
            "now": seen.now,
        }
        self.scope = Scope(names, state)
        self.firings: list[Firing] = []
        self.actions: list[Action] = []

    def due(self, due_ms: int) -> None:
        """What comes now was waited for until then."""
        self.scope.names["due"] = time_text(due_ms)

    # -- conditions -----------------------------------------------------------------------------------------------------

    def holds(self, expr: Expr | None, default: bool, trigger: Mapping[str, Any] | None = None) -> bool | None:
        """Whether a condition holds, ``default`` where there is none; ``None`` where it failed, which is noted."""
        if expr is None:
            return default
        found = expr.holds(self.scope if trigger is None else self.scope.also(trigger=trigger))
        if isinstance(found, Failed):
            self.error(found.message)
            return None
        return found

    # -- what comes of it -----------------------------------------------------------------------------------------------

    def note(
        self,
        verdict: Verdict,
        reason: str = "",
        trigger: Mapping[str, Any] | None = None,
        actions: Iterable[Action] = (),
        **inputs: Any,
    ) -> None:
        """Keep what became of the rule here, with what it was judged by."""
        kept: dict[str, Any] = {"severity": self.rule.severity} | ({"reason": reason} if reason else {}) | inputs
        if self.scope.names["due"] is not None:
            kept["due"] = self.scope.names["due"]
        kept["event"] = self.shown
        if trigger is not None and trigger is not self.shown:
            kept["trigger"] = trigger
        if self.rule.looks != {}:
            kept["flight"] = self.scope.cut("flight", self.rule.looks)
        self.firings.append(
            Firing(
                self.tenant,
                self.rule.id,
                self.rule.version,
                self.stream,
                self.event.seq,
                self.event.at_ms,
                verdict,
                _bounded(kept),
                [action.json() for action in actions],
            )
        )

    def error(self, message: str) -> None:
        """An expression failed. The same failure again and again is one note."""
        if self.memory.get("error") != message:
            self.note("error", message)
            self.memory["error"] = message

    def fire(self, trigger: Mapping[str, Any], via: tuple[str, ...], *, later: bool = True, **inputs: Any) -> None:
        """The trigger is there: act, unless this rule has acted enough. ``later``: its steps are to follow."""
        rule, memory, at_ms = self.rule, self.memory, self.event.at_ms
        if rule.once and memory.get("n"):
            self.note("suppressed", "it fires once in a stream, and has", trigger, **inputs)
            return
        if rule.quiet_ms and "at" in memory and at_ms - memory["at"] < rule.quiet_ms:
            until = time_text(memory["at"] + rule.quiet_ms)
            self.note(
                "suppressed", f"it fired at {time_text(memory['at'])} and is quiet until {until}", trigger, **inputs
            )
            return
        if not self._act([do for do in rule.do if not do.after_ms], trigger, via, inputs):
            return
        memory["n"], memory["at"] = memory.get("n", 0) + 1, at_ms
        if later and rule.delays and "steps" not in memory:
            due = {str(step): at_ms + after for step, after in enumerate(rule.delays, 1)}
            memory["steps"] = {"due": due, "trigger": remembered(trigger), "via": list(via)}

    def later(self, step: int, trigger: Mapping[str, Any], via: tuple[str, ...]) -> None:
        """The time of a later step has come."""
        after_ms = self.rule.delays[step - 1]
        self._act([do for do in self.rule.do if do.after_ms == after_ms], trigger, via, {"step": step})

    def _act(self, listed: list[Do], trigger: Mapping[str, Any], via: tuple[str, ...], inputs: dict[str, Any]) -> bool:
        """Give the actions and note it; all of them or none. False where none could be."""
        rule = self.rule
        if len(via) >= VIA_MAX or via.count(rule.id) > AGAIN_MAX:
            chain = " -> ".join((*via, rule.id))
            self.note("loop", f"rules led to each other, and this one acts no more: {chain}", trigger, **inputs)
            return False
        scope = self.scope.also(trigger=trigger)
        given: list[Action] = []
        for do in listed:
            made = self._actions(do, scope, (*via, rule.id), len(self.actions) + len(given))
            if isinstance(made, Failed):
                self.note("error", made.message, trigger, **inputs)
                return False
            given += made
        self.memory.pop("error", None)
        self.note("fired", "", trigger, given, **inputs)
        self.actions += given
        return True

    def _actions(self, do: Do, scope: Scope, via: tuple[str, ...], n: int) -> list[Action] | Failed:
        rule = self.rule
        stream = self._stream(do, scope)
        if isinstance(stream, Failed):
            return stream
        about = {"rule": rule.id, "version": rule.version, "severity": rule.severity}
        if do.kind in ("message", "notify"):
            text = render(do.body, scope)
            if isinstance(text, Failed):
                return text
            text = text if isinstance(text, str) else orjson.dumps(text).decode()
            if len(text) > TEXT_CHARS_MAX:
                return Failed(f"the text has {len(text)} characters, and at most {TEXT_CHARS_MAX} are sent")
            body: Any = {"text": text, **about, "via": list(via)}
            if do.kind == "message":
                return [self._action(do, stream, body, via, n)]
            body |= {"stream": self.stream, "seq": self.event.seq}
            made: list[Action] = []
            for recipient in do.to:
                to = recipient.render(scope)
                if isinstance(to, Failed):
                    return to
                if not isinstance(to, str) or not to.startswith("user:") or not PRINCIPAL_RE.match(to):
                    return Failed(f"a notification is to a user such as user:amy, not {to!r:.100}")
                made.append(self._action(do, to, body, via, n + len(made)))
            return made
        if do.body is None:
            told = {key: self.shown[key] for key in ("tenant", "stream", "seq", "type", "at")}
            body = {**about, "says": rule.says, **told}
        else:
            body = render(do.body, scope)
        if isinstance(body, Failed):
            return body
        if len(orjson.dumps(body)) > BODY_BYTES_MAX:
            return Failed(f"the body of its {do.kind} would have more than {BODY_BYTES_MAX} bytes")
        return [self._action(do, stream, body, via, n)]

    def _action(self, do: Do, stream: str, body: dict[str, Any], via: tuple[str, ...], n: int) -> Action:
        return Action(do.kind, stream, do.type, body, self.key(n), via, do.url)

    def _stream(self, do: Do, scope: Scope) -> str | Failed:
        """Where an action goes: the event's own stream; of what is said about seats, the flight's."""
        if do.stream is None:
            return self.stream.removesuffix(SEATS_SUFFIX) if do.kind == "message" else self.stream
        found = do.stream.render(scope)
        if isinstance(found, Failed):
            return found
        kinds = _EVENTS if do.kind == "command" else (*_EVENTS, "chat:")
        if not isinstance(found, str) or not found.startswith(kinds) or not STREAM_RE.match(found):
            return Failed(f"a {do.kind} goes into a stream of {', '.join(kinds)}, not {found!r:.100}")
        return found

    def key(self, n: int) -> str:
        return action_key(self.tenant, self.rule.id, self.rule.version, self.stream, self.event.seq, n)


def via_of(event: Recorded) -> tuple[str, ...]:
    """The rules that led to an event, as the gateway says; nobody else's word for it counts."""
    via = event.body.get("via")
    if event.by != BY_GATEWAY or not isinstance(via, list):
        return ()
    return tuple(str(name) for name in via[:VIA_MAX])


def remembered(shown: Mapping[str, Any]) -> dict[str, Any]:
    """An event as it is remembered: whole, or without a body that is too large."""
    if len(orjson.dumps(shown["body"], default=dict)) <= TRIGGER_BYTES_MAX:
        return dict(shown)
    return {**shown, "body": {}, "truncated": True}


def _bounded(inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs as plain JSON, without what is too large; ``truncated`` says what that was."""
    kept: dict[str, Any]
    for name in ("flight", "trigger", "event"):
        raw = orjson.dumps(inputs, default=dict)
        if len(raw) <= FIRING_BYTES_MAX:
            kept = orjson.loads(raw)
            return kept
        if name in inputs:
            inputs["truncated"] = [*inputs.get("truncated", []), name]
            del inputs[name]
    kept = orjson.loads(orjson.dumps(inputs, default=dict))
    return kept
