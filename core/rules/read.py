"""One rule out of its TOML table: every field read, checked, and told about where it is wrong.

For: `core.rules.load`. docs/rules.md has every field; what is not read here is unknown, and refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from core.cron import DOUBLED, SKIPPED, BadCron, next_after, parse, zone_of
from core.model import TYPE_RE
from core.rules.expr import Expr, Looks, Template, joined
from core.rules.fields import Fields
from core.rules.limits import ACTIONS_MAX, ID_CHARS_MAX, WAIT_MAX_MS
from core.rules.model import (
    MILESTONES,
    SEVERITIES,
    TIME_KINDS,
    Absent,
    Do,
    OnEvent,
    Pattern,
    Relative,
    Rule,
    Schedule,
    Threshold,
    When,
    globs,
)

_ID_RE: Final = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{ID_CHARS_MAX - 1}}}\Z")
_VERSION_RE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")
_FIRST_MS: Final = 946_684_800_000  # 2000-01-01: where the search for a first time of a schedule begins

_RULE_KEYS: Final = (
    "id", "version", "says", "severity", "effective_from", "effective_until", "tenants", "streams", "when", "lookback",
    "once", "quiet", "do",
)  # fmt: skip
_TRIGGERS: Final = ("event", "absent", "relative", "threshold", "schedule")
_DO_KEYS: Final = {
    "command": ("type", "body", "stream"),
    "message": ("text", "stream"),
    "notify": ("to", "text"),
    "webhook": ("url", "body"),
}


class Reader(Fields):
    """Reads one table."""

    def __init__(self, table: dict[str, Any]) -> None:
        super().__init__()
        self.given = table

    def rule(self, file: str, line: int) -> Rule | None:
        """The rule, or ``None`` where there is a problem."""
        table = self.given
        self.known(table, _RULE_KEYS, "")
        rule_id = self.matched(table, "id", "", _ID_RE, f"1 to {ID_CHARS_MAX} of a-z, 0-9, _ and -, such as overdue")
        version = self.matched(table, "version", "", _VERSION_RE, 'a text such as "2026-11-01"')
        says = self.text(table.get("says", ""), "says")
        severity = self.one_of(table, "severity", "", SEVERITIES, "info")
        from_ms = self.instant(table, "effective_from")
        until_ms = self.instant(table, "effective_until")
        if from_ms is not None and until_ms is not None and until_ms <= from_ms:
            self.bad("effective_until", "is not after effective_from: the rule would never be in force")
        tenants = self.listed(table.get("tenants"), "tenants", self.tenant, 'names of tenants, or ["*"] for all')
        streams = self.listed(
            table.get("streams", "flight:*"), "streams", self.stream, 'a stream or a pattern, such as "flight:*"'
        )
        lookback_ms = self.wait(table, "lookback", "", least=0) or 0
        once = self.flag(table, "once")
        quiet_ms = self.wait(table, "quiet", "") or 0
        when, unless = self._when(lookback_ms)
        do = self._actions()
        if self.problems or when is None:
            return None
        rule = Rule(
            id=rule_id,
            version=version,
            file=file,
            line=line,
            says=says,
            severity=severity,
            tenants=tuple(tenants),
            streams=globs(streams),
            from_ms=from_ms or 0,
            until_ms=until_ms,
            when=when,
            unless=unless,
            once=once,
            quiet_ms=quiet_ms,
            do=do,
            looks=_looks(self.exprs),
        )
        self._fits(rule, streams)
        return None if self.problems else rule

    def _fits(self, rule: Rule, streams: Sequence[str]) -> None:
        """What can only be said of the whole."""
        if rule.waits and not all(name[:1] in "*?" or name.startswith("flight:") for name in streams):
            self.bad("streams", "this rule waits, and only flight: streams have timers to wait by")
        if isinstance(rule.when, Schedule) and rule.unless is None and any(set(name) & {"*", "?"} for name in streams):
            self.bad(
                "when.unless",
                "a schedule over a pattern of streams goes on for ever in each of them: say when it ends, such as "
                "unless = \"flight.status in ['completed', 'cancelled']\", or name the streams",
            )

    # -- the trigger --------------------------------------------------------------------------------------------------

    def _when(self, lookback_ms: int) -> tuple[When | None, Expr | None]:
        table = self.table(self.given.get("when"), "when", "say when it fires: [rule.when]")
        if table is None:
            return None, None
        kinds = [kind for kind in _TRIGGERS if kind in table]
        if len(kinds) != 1:
            found = " and ".join(kinds) if kinds else "none"
            self.bad("when", f"has one of {', '.join(_TRIGGERS)}; found {found}")
            return None, None
        kind = kinds[0]
        self.known(table, (kind, "unless", "where") if kind == "event" else (kind, "unless"), "when.")
        if "lookback" in self.given and kind != "absent":
            self.bad("lookback", "is of rules that wait for an event's absence (when.absent)")
        unless = self.expr(table["unless"], "when.unless") if "unless" in table else None
        if kind == "event":
            where = self.expr(table["where"], "when.where") if "where" in table else None
            return OnEvent(Pattern(self.types(table["event"], "when.event"), where)), unless
        inner = self.table(table[kind], f"when.{kind}", "is a table")
        if inner is None:
            return None, None
        read: dict[str, Callable[[dict[str, Any]], When | None]] = {
            "absent": lambda one: self._absent(one, lookback_ms),
            "relative": self._relative,
            "threshold": self._threshold,
            "schedule": self._schedule,
        }
        return read[kind](inner), unless

    def _absent(self, table: dict[str, Any], lookback_ms: int) -> Absent | None:
        place = "when.absent."
        self.known(table, ("after", "no", "within", "again"), place)
        after = self._pattern(table, "after")
        no = self._pattern(table, "no")
        within_ms = self.wait(table, "within", place, needed=True)
        again = self.one_of(table, "again", place, ("keep", "restart"), "keep")
        if after is not None and after.where is not None and "trigger" in after.where.looks:
            self.bad(
                place + "after.where", "nothing has begun the wait yet: this is the event that does; look at `event`"
            )
        if lookback_ms and no is not None and no.where is not None and "trigger" in no.where.looks:
            self.bad(place + "no.where", "with a lookback it also judges events that came before there was a trigger")
        if after is None or no is None or within_ms is None:
            return None
        return Absent(after, no, within_ms, lookback_ms, "restart" if again == "restart" else "keep")

    def _pattern(self, table: dict[str, Any], name: str) -> Pattern | None:
        place = f"when.absent.{name}"
        value = table.get(name)
        if not isinstance(value, dict):
            return Pattern(self.types(value, place), None)
        self.known(value, ("event", "where"), place + ".")
        where = self.expr(value["where"], place + ".where") if "where" in value else None
        return Pattern(self.types(value.get("event"), place + ".event"), where)

    def _relative(self, table: dict[str, Any]) -> Relative | None:
        place = "when.relative."
        self.known(table, ("milestone", "kind", "at", "offset"), place)
        offset_ms = self.wait(table, "offset", place, least=-WAIT_MAX_MS) or 0
        if "at" in table:
            for name in ("milestone", "kind"):
                if name in table:
                    self.bad(place + name, "is not for a time that `at` says; leave one of them out")
            at = self.expr(table["at"], place + "at")
            return None if at is None else Relative("", "", at, offset_ms)
        milestone = self.one_of(table, "milestone", place, MILESTONES)
        kind = self.one_of(table, "kind", place, TIME_KINDS, "best")
        return Relative(milestone, kind, None, offset_ms)

    def _threshold(self, table: dict[str, Any]) -> Threshold | None:
        place = "when.threshold."
        self.known(table, ("value", "above", "clear_below", "below", "clear_above", "on"), place)
        value = self.expr(table.get("value"), place + "value")
        types = self.types(table.get("on", "*"), place + "on")
        sides = [name for name in ("above", "below") if name in table]
        if len(sides) != 1:
            self.bad(place + "above", "a threshold has one of above and below")
            return None
        rising = sides == ["above"]
        limit = self.number(table[sides[0]], place + sides[0])
        name, other = ("clear_below", "clear_above") if rising else ("clear_above", "clear_below")
        if other in table:
            self.bad(
                place + other, f"a threshold that is {sides[0]} a limit is clear again {name.replace('_', ' ')} one"
            )
        clear = self.number(table.get(name, limit), place + name)
        if (clear > limit) if rising else (clear < limit):
            self.bad(place + name, f"is on the wrong side of {sides[0]}: it would be clear and past at once")
        return None if value is None else Threshold(types, value, limit, clear, rising)

    def _schedule(self, table: dict[str, Any]) -> Schedule | None:
        place = "when.schedule."
        self.known(table, ("cron", "zone", "skipped", "doubled"), place)
        given = table.get("cron")
        cron = parse(given) if isinstance(given, str) else BadCron('a text with five fields, such as "0 6 * * *"')
        zone = self.text(table.get("zone", ""), place + "zone")
        named = zone_of(zone) if zone else BadCron('say in which zone, such as "Australia/Sydney" or "UTC"')
        skipped = self.one_of(table, "skipped", place, SKIPPED, "run_after")
        doubled = self.one_of(table, "doubled", place, DOUBLED, "first")
        if isinstance(named, BadCron):
            self.bad(place + "zone", named.message)
        if isinstance(cron, BadCron):
            self.bad(place + "cron", cron.message)
            return None
        if next_after(cron, "UTC", _FIRST_MS) is None:
            self.bad(place + "cron", f"{given!r} never comes: no month has such a day")
        return Schedule(
            cron,
            zone,
            "skip" if skipped == "skip" else "run_after",
            "both" if doubled == "both" else "first",
        )

    # -- actions ------------------------------------------------------------------------------------------------------

    def _actions(self) -> tuple[Do, ...]:
        given = self.given.get("do")
        if not isinstance(given, list) or not given or not all(isinstance(one, dict) for one in given):
            self.bad("do", "say what it does: one or more tables headed [[rule.do]]")
            return ()
        actions = [self._action(table, f"do[{at}]") for at, table in enumerate(given, 1)]
        if sum(max(1, len(one.to)) for one in actions if one is not None) > ACTIONS_MAX:
            self.bad("do", f"at most {ACTIONS_MAX} actions, each recipient of a notification counted")
        return tuple(one for one in actions if one is not None)

    def _action(self, table: dict[str, Any], place: str) -> Do | None:
        kinds = [kind for kind in _DO_KEYS if kind in table]
        if len(kinds) != 1:
            self.bad(place, f"has one of {', '.join(_DO_KEYS)}; found {' and '.join(kinds) if kinds else 'none'}")
            return None
        kind = kinds[0]
        self.known(table, (kind, "after"), place + ".")
        after_ms = self.wait(table, "after", place + ".") or 0
        inner = self.table(table[kind], f"{place}.{kind}", "is a table")
        if inner is None:
            return None
        place = f"{place}.{kind}."
        self.known(inner, _DO_KEYS[kind], place)
        stream = self.template(inner["stream"], place + "stream") if "stream" in inner else None
        if kind == "command":
            verb = self.matched(inner, "type", place, TYPE_RE, "a command's type, such as delay")
            return Do("command", after_ms, stream, verb, self._body(inner, place, {}))
        if kind == "webhook":
            url = self.url(inner.get("url"), place + "url")
            return Do("webhook", after_ms, None, "", self._body(inner, place, None), url=url)
        text = self.template(inner.get("text"), place + "text")
        if kind == "message":
            return Do("message", after_ms, stream, "message", text)
        to = self.listed(inner.get("to"), place + "to", lambda name, field: None, 'such as "user:amy"')
        recipients = [self.template(name, place + "to") for name in to]
        for name in to:
            if "$" not in name and not name.startswith("user:"):
                self.bad(place + "to", f"{name!r} has no inbox: only users have, such as user:amy")
        return Do(
            "notify", after_ms, None, "notification", text, to=tuple(one for one in recipients if one is not None)
        )

    def _body(self, table: dict[str, Any], place: str, default: dict[str, Any] | None) -> Template:
        given = table.get("body", default)
        if given is None:
            return None
        if not isinstance(given, dict):
            self.bad(place + "body", "is a table")
            return None
        return self.templates(given, place + "body")


def _looks(exprs: Iterable[Expr]) -> Looks:
    """What any of them looks at of the flight."""
    looks: Looks = {}
    for expr in exprs:
        looks = joined(looks, expr.looks.get("flight", {}))
    return looks
