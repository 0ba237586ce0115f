"""What a rule is once it is loaded, and what the engine answers. Values only; `core.rules.load` makes them.

A rule has one trigger (`When`) and actions (`Do`). Times are Unix milliseconds, durations milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

from core.cron import Cron, Doubled, Skipped
from core.rules.expr import Expr, Looks, Template, Text
from core.work import Firing

SEVERITIES: Final = ("info", "warning", "critical")
MILESTONES: Final = ("OUT", "OFF", "ON", "IN")
TIME_KINDS: Final = ("scheduled", "estimated", "target", "actual", "best")

Verdict = Literal["fired", "suppressed", "held", "not_effective", "error", "loop"]
VERDICTS: Final = ("fired", "suppressed", "held", "not_effective", "error", "loop")
"""fired: its actions are given · suppressed: it had fired already (``once``, ``quiet``, a threshold not yet clear) · held: what
it waited with was called off, or ``unless`` held · not_effective: it waited, and is not in force any more · error: an
expression of it failed · loop: rules led to each other."""

TIMER_PREFIX: Final = "rule:"

ActionKind = Literal["command", "message", "notify", "webhook"]


@dataclass(frozen=True, slots=True)
class Globs:
    """Patterns in which ``*`` is any characters and ``?`` is one."""

    patterns: tuple[str, ...]
    _match: re.Pattern[str] = field(compare=False, repr=False)

    def match(self, text: str) -> bool:
        return self._match.match(text) is not None


def globs(patterns: Iterable[str]) -> Globs:
    listed = tuple(patterns)
    sources = [re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".") for pattern in listed]
    return Globs(listed, re.compile(rf"(?:{'|'.join(sources)})\Z", re.DOTALL))


@dataclass(frozen=True, slots=True)
class Pattern:
    """Events of these types of which ``where`` holds."""

    types: Globs
    where: Expr | None


@dataclass(frozen=True, slots=True)
class OnEvent:
    kind = "event"
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Absent:
    """After an event ``after``, none ``no`` within the window; one up to ``lookback_ms`` before it counts too."""

    kind = "absent"
    after: Pattern
    no: Pattern
    within_ms: int
    lookback_ms: int
    again: Literal["keep", "restart"]


@dataclass(frozen=True, slots=True)
class Relative:
    """At a time of the flight's and an offset: a milestone's of a kind, or what ``at`` says."""

    kind = "relative"
    milestone: str
    time_kind: str
    at: Expr | None
    offset_ms: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """When ``value`` goes past ``limit``, once until it is back past ``clear``. ``rising``: past is above."""

    kind = "threshold"
    types: Globs
    value: Expr
    limit: float
    clear: float
    rising: bool


@dataclass(frozen=True, slots=True)
class Schedule:
    kind = "schedule"
    cron: Cron
    zone: str
    skipped: Skipped
    doubled: Doubled


When = OnEvent | Absent | Relative | Threshold | Schedule


@dataclass(frozen=True, slots=True)
class Do:
    """One action as it is written. ``stream`` is ``None`` for the event's own; ``to`` are a notification's recipients."""

    kind: ActionKind
    after_ms: int
    stream: Text | None
    type: str
    body: Template
    to: tuple[Text, ...] = ()
    url: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """``file`` and ``line`` say where it is written. In force from ``from_ms`` and before ``until_ms`` (``None``: for ever)."""

    id: str
    version: str
    file: str
    line: int
    says: str
    severity: str
    tenants: tuple[str, ...]
    streams: Globs
    from_ms: int
    until_ms: int | None
    when: When
    unless: Expr | None
    once: bool
    quiet_ms: int
    do: tuple[Do, ...]
    looks: Looks
    """What any of its expressions looks at of ``flight``: that is kept of a firing."""

    @property
    def delays(self) -> tuple[int, ...]:
        """The ``after`` of its later steps, ascending; step 1 is the first of them."""
        return tuple(sorted({do.after_ms for do in self.do if do.after_ms}))

    @property
    def waits(self) -> bool:
        """Whether it needs timers, which only streams with a machine have."""
        return isinstance(self.when, Absent | Relative | Schedule) or bool(self.delays)

    def effective(self, at_ms: int) -> bool:
        return self.from_ms <= at_ms and (self.until_ms is None or at_ms < self.until_ms)

    def for_tenant(self, tenant: str) -> bool:
        return "*" in self.tenants or tenant in self.tenants

    def always(self) -> Rule:
        return replace(self, from_ms=0, until_ms=None)


@dataclass(frozen=True, slots=True)
class Action:
    """What is to be done. ``key`` is the same whenever the same event is folded, so that doing it twice does it once.

    command: give ``type`` with ``body`` in ``stream`` · message: say ``body`` there (type ``message``) · notify: put ``body``
    into the inbox ``stream`` · webhook: post ``body`` to ``url``; ``stream`` is then where it came of. ``via`` are the rules
    that led to it, this one last; the bodies of messages and notifications bear it already.
    """

    kind: ActionKind
    stream: str
    type: str
    body: dict[str, Any]
    key: str
    via: tuple[str, ...]
    url: str = ""

    def json(self) -> dict[str, Any]:
        shown = {"kind": self.kind, "stream": self.stream, "type": self.type, "body": self.body, "key": self.key}
        return shown | {"via": list(self.via)} | ({"url": self.url} if self.url else {})


class Step(NamedTuple):
    """What one event led to. ``memory`` is to be handed in with the stream's next event; what was handed in is as it was."""

    memory: dict[str, Any]
    firings: list[Firing]
    actions: list[Action]


def action_key(tenant: str, rule: str, version: str, stream: str, seq: int, n: int) -> str:
    """The key of the nth action of a rule's firing: a canonical UUID (version 8, RFC 9562) made of a hash of all of these."""
    parts = (tenant, rule, version, stream, str(seq), str(n))
    digest = sha256(b"".join(b"%d:%s," % (len(part.encode()), part.encode()) for part in parts)).digest()
    raw = bytearray(digest[:16])
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def timer_name(rule: str, step: int) -> str:
    """The stream's timer by which a rule waits (step 0), or by which its later actions do."""
    return f"{TIMER_PREFIX}{rule}:{step}" if step else TIMER_PREFIX + rule


def timer_of(name: object) -> tuple[str, int] | None:
    """The rule and step that a timer's name says, ``None`` for other timers."""
    if not isinstance(name, str) or not name.startswith(TIMER_PREFIX):
        return None
    rule, _, step = name[len(TIMER_PREFIX) :].partition(":")
    return (rule, int(step)) if step.isdecimal() and len(step) <= 2 else (rule, 0)


class RuleSet:
    """Rules that were loaded, by what they apply to."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self.rules = tuple(rules)
        self._of: dict[tuple[str, str], dict[str, tuple[Rule, ...]]] = {}

    def of(self, tenant: str, stream: str, *, timed: bool) -> dict[str, tuple[Rule, ...]]:
        """Rules for a tenant's stream, all versions of each by its id. ``timed``: the stream can have timers."""
        found = self._of.get((tenant, stream))
        if found is None:
            if len(self._of) >= _STREAMS_MAX:
                self._of.clear()
            found = {}
            for rule in self.rules:
                if rule.for_tenant(tenant) and rule.streams.match(stream) and (timed or not rule.waits):
                    found[rule.id] = (*found.get(rule.id, ()), rule)
            self._of[tenant, stream] = found
        return found

    def newest(self) -> RuleSet:
        """The latest version of each rule, in force at all times: for asking what it would have done in the past."""
        latest: dict[tuple[str, tuple[str, ...]], Rule] = {}
        for rule in sorted(self.rules, key=lambda rule: rule.from_ms):
            latest[rule.id, rule.tenants] = rule.always()
        return RuleSet(list(latest.values()))


_STREAMS_MAX: Final = 10_000
"""Streams whose rules are remembered at once; past that they are found anew."""
