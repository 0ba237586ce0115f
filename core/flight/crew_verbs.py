"""What each verb makes of a crew member's ledger: facts, or why not. Their table and their theory are in `core.flight.crew`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from core.flight.body import Fields, read_instant
from core.flight.duty import PACKS
from core.flight.duty_time import DAY_MS, HOUR_MS, MINUTE_MS, Breach, Duty, known_zone, with_proposed
from core.flight.ledger import DUTIES_MAX, KEPT_MS, Absence, Entry, Ledger
from core.flight.machine import Command, Decision, Fact, Malformed, Refusal
from core.flight.tabled import Asked
from core.flight.times import write, zone_of

AHEAD_MS: Final = 400 * DAY_MS
"""Rosters are published a season ahead, leave a year."""
LONG_MS: Final = 36 * HOUR_MS
"""No duty is longer, whatever happened: what is, is a slip."""
NAMES_MAX: Final = 20
ABSENCES: Final = ("leave", "sick", "training", "other")


class Ask(Asked):
    """One command being decided: what it says, and the ledger it meets."""

    __slots__ = ("ledger",)

    def __init__(self, ledger: Ledger, command: Command, now_ms: int) -> None:
        super().__init__(command, now_ms)
        self.ledger = ledger

    def wrong(self) -> Malformed | Refusal | None:
        """What is wrong before the verb itself is looked at. Asked once all fields are read."""
        if self.fields.problem:
            return Malformed(self.fields.problem)
        if not self.ledger.pack and self.command.type != "register":
            return Refusal("not_registered", "nobody is registered in this ledger; an owner does with `register`")
        return None

    def zone(self, place: str) -> str:
        """The zone that the body names, or the airport's; a problem where neither is known."""
        named = self.fields.identity("zone", "")
        zone = named or zone_of(place) or ""
        if not known_zone(zone):
            says = (
                f"is no zone that is known: {named}" if named else f"must be given, since {place} is no known airport"
            )
            self.fields.bad("zone", says)
        return zone

    def entry(self, flight: str) -> Entry | Refusal:
        found = self.ledger.find(flight)
        return found or Refusal("no_such_duty", f"there is no duty for {flight} in this ledger; `assign` it first")


def register(ask: Ask) -> Decision:
    fields = ask.fields
    base, name = fields.identity("base"), fields.text("name", "")
    zone = ask.zone(base)
    roles, types = fields.identities("roles", NAMES_MAX), fields.identities("types", NAMES_MAX)
    if not roles:
        fields.bad("roles", "must be a list of what they fly as, such as captain")
    pack = fields.one_of("pack", PACKS)
    valid_until = _valid_until(fields)
    if (wrong := ask.wrong()) is not None:
        return wrong
    body: dict[str, Any] = {"base": base, "zone": zone, "roles": roles, "pack": pack, "types": types}
    body |= {"valid_until": {what: write(at_ms) for what, at_ms in valid_until.items()}} | (
        {"name": name} if name else {}
    )
    ledger = ask.ledger
    was = (
        ledger.name,
        ledger.base,
        ledger.zone,
        ledger.pack,
        list(ledger.roles),
        list(ledger.types),
        ledger.valid_until,
    )
    if was == (name, base, zone, pack, roles, types, valid_until):
        return Refusal("unchanged", "this is what is registered")
    return [Fact("crew.registered", body)]


def _valid_until(fields: Fields) -> dict[str, int]:
    value = fields.raw("valid_until")
    if value is None:
        return {}
    if isinstance(value, Mapping) and len(value) <= NAMES_MAX:
        read = {str(what): read_instant(at) for what, at in value.items()}
        known = {what: at_ms for what, at_ms in read.items() if at_ms is not None and 0 < len(what) <= 64}
        if len(known) == len(value):
            return known
    fields.bad("valid_until", f"must give up to {NAMES_MAX} qualifications the time when each runs out")
    return {}


def pack(ask: Ask) -> Decision:
    name = ask.fields.one_of("pack", PACKS)
    if (wrong := ask.wrong()) is not None:
        return wrong
    if name == ask.ledger.pack:
        return Refusal("unchanged", f"duties are held to {name} already")
    return [Fact("crew.packed", {"pack": name})]


def _duty(ask: Ask) -> tuple[Duty, dict[str, Any]]:
    """The duty that `assign` proposes, and the fact that it would be."""
    fields, ledger = ask.fields, ask.ledger
    flight, role = fields.identity("flight"), fields.identity("role")
    report_ms, release_ms = fields.instant("report_at"), fields.instant("release_at")
    long_ms = release_ms - report_ms
    block = fields.whole("block_minutes", 0, LONG_MS // MINUTE_MS)
    crew_of, sectors = fields.whole("crew_of", 1, 4, 2), fields.whole("sectors", 1, 20, 1)
    origin, dest = fields.identity("from", ledger.base), fields.identity("to", ledger.base)
    zone = ask.zone(origin) if fields.has("zone") or origin != ledger.base else ledger.zone
    regular = fields.flag("regular")
    off_ms, on_ms = fields.instant("off_block", 0), fields.instant("on_block", 0)
    if not 0 < long_ms <= LONG_MS:
        fields.bad("release_at", f"must be after `report_at`, by at most {LONG_MS // HOUR_MS} hours")
    if block * MINUTE_MS > long_ms:
        fields.bad("block_minutes", "must be within the duty")
    if (off_ms or on_ms) and not report_ms <= off_ms < on_ms <= release_ms:
        fields.bad("off_block", "and `on_block` must both be given, in that order and within the duty")
    home = dest == ledger.base
    duty = Duty(
        flight,
        report_ms,
        release_ms,
        block * MINUTE_MS,
        crew_of,
        sectors,
        zone,
        ledger.zone,
        home,
        regular,
        off_ms,
        on_ms,
    )
    body: dict[str, Any] = {
        "flight": flight,
        "role": role,
        "report_at": write(report_ms),
        "release_at": write(release_ms),
        "block_minutes": block,
        "crew_of": crew_of,
        "sectors": sectors,
        "from": origin,
        "to": dest,
        "zone": zone,
        "home": home,
        "pack": ledger.pack,
    }
    if regular:
        body["regular"] = True
    if on_ms:
        body |= {"off_block": write(off_ms), "on_block": write(on_ms)}
    return duty, body


def assign(ask: Ask) -> Decision:
    duty, body = _duty(ask)
    type = ask.fields.identity("type", "")
    if (wrong := ask.wrong()) is not None:
        return wrong
    ledger = ask.ledger
    if ledger.find(duty.flight) is not None:
        return Refusal("unchanged", f"{duty.flight} is assigned already; `release` it first to assign it otherwise")
    if not ask.now_ms - KEPT_MS < duty.report_ms <= ask.now_ms + AHEAD_MS:
        return Refusal("impossible_time", "duties are assigned up to 400 days ahead and recorded up to two years late")
    if len(ledger.by_flight) >= DUTIES_MAX:
        return Refusal("full", f"a ledger has at most {DUTIES_MAX} duties in two years")
    refusal = _qualified(ledger, duty, body["role"], type) or _free(ledger, duty)
    if refusal is not None:
        return refusal
    breaches = PACKS[ledger.pack].check(ledger.duties(), duty, ask.now_ms)
    if breaches:
        return _refused(breaches)
    return [Fact("crew.assigned", body | ({"type": type} if type else {}))]


def _refused(breaches: Sequence[Breach]) -> Refusal:
    """By the first paragraph that would be broken; the message has up to three."""
    says = "; ".join(f"{breach.message} ({breach.cite})" for breach in breaches[:3])
    return Refusal(breaches[0].reason, says, breaches[0].cite)


def _qualified(ledger: Ledger, duty: Duty, role: str, type: str) -> Refusal | None:
    if role not in ledger.roles:
        return Refusal("unqualified", f"they fly as {', '.join(ledger.roles)}, not as {role}")
    if type and type not in ledger.types:
        return Refusal("unqualified", f"they are not rated for {type}")
    for what, at_ms in ledger.valid_until.items():
        if at_ms < duty.release_ms:
            return Refusal("unqualified", f"{what} runs out at {write(at_ms)}, before the duty ends")
    return None


def _free(ledger: Ledger, duty: Duty) -> Refusal | None:
    for absence in ledger.absences:
        if absence.from_ms < duty.release_ms and duty.report_ms < absence.to_ms:
            says = f"they are absent ({absence.kind}) from {write(absence.from_ms)} to {write(absence.to_ms)}"
            return Refusal("absent", says)
    for other in ledger.duties():
        if other.report_ms < duty.release_ms and duty.report_ms < other.release_ms:
            says = f"they are on duty for {other.flight} from {write(other.report_ms)} to {write(other.release_ms)}"
            return Refusal("overlaps", says)
    return None


def release(ask: Ask) -> Decision:
    flight, why = ask.fields.identity("flight"), ask.fields.text("why")
    if (wrong := ask.wrong()) is not None:
        return wrong
    entry = ask.entry(flight)
    if isinstance(entry, Refusal):
        return entry
    if entry.status != "assigned":
        return Refusal("wrong_state", f"they reported for {flight}; `off` ends the duty")
    return [Fact("crew.released", {"flight": flight, "why": why})]


def acknowledge(ask: Ask) -> Decision:
    flight = ask.fields.identity("flight")
    if (wrong := ask.wrong()) is not None:
        return wrong
    entry = ask.entry(flight)
    if isinstance(entry, Refusal):
        return entry
    if entry.acknowledged:
        return Refusal("unchanged", f"{flight} is acknowledged")
    return [Fact("crew.acknowledged", {"flight": flight})]


def report(ask: Ask) -> Decision:
    flight, at_ms = ask.fields.identity("flight"), ask.fields.instant("at", ask.now_ms)
    if (wrong := ask.wrong() or ask.happened(at_ms)) is not None:
        return wrong
    entry = ask.entry(flight)
    if isinstance(entry, Refusal):
        return entry
    if entry.status == "off":
        return Refusal("wrong_state", f"the duty for {flight} is over")
    duty = entry.duty
    if entry.status == "reported" and duty.report_ms == at_ms:
        return Refusal("unchanged", f"they reported for {flight} at {write(at_ms)}")
    if not duty.release_ms - LONG_MS <= at_ms < duty.release_ms:
        return Refusal("impossible_time", f"the duty for {flight} ends at {write(duty.release_ms)}; `extend` it first")
    before = [other for other in ask.ledger.duties(flight) if other.report_ms < at_ms]
    found = PACKS[ask.ledger.pack].check(before, duty._replace(report_ms=at_ms), ask.now_ms)
    tired = [breach for breach in found if breach.reason == "too_little_rest"]
    if tired:
        return _refused(tired)
    return [Fact("crew.reported", {"flight": flight, "at": write(at_ms)})]


def off(ask: Ask) -> Decision:
    flight, at_ms = ask.fields.identity("flight"), ask.fields.instant("at", ask.now_ms)
    block = ask.fields.whole("block_minutes", 0, LONG_MS // MINUTE_MS, -1)
    if (wrong := ask.wrong() or ask.happened(at_ms)) is not None:
        return wrong
    entry = ask.entry(flight)
    if isinstance(entry, Refusal):
        return entry
    duty = entry.duty
    if entry.status == "assigned":
        return Refusal("wrong_state", f"they have not reported for {flight}; `report` first, or `release` them")
    flown_ms = duty.flight_ms if block < 0 else block * MINUTE_MS
    if not flown_ms <= at_ms - duty.report_ms <= LONG_MS or at_ms == duty.report_ms:
        says = (
            f"the duty for {flight} began at {write(duty.report_ms)}: {write(at_ms)} is no end of it with "
            f"{flown_ms // MINUTE_MS} minutes of flight time; `block_minutes` says what that was"
        )
        return Refusal("impossible_time", says)
    if entry.status == "off" and duty.release_ms == at_ms and block in (-1, duty.flight_ms // MINUTE_MS):
        return Refusal("unchanged", f"the duty for {flight} ended at {write(at_ms)}")
    body: dict[str, Any] = {"flight": flight, "at": write(at_ms)}
    return [Fact("crew.off", body if block < 0 else body | {"block_minutes": block})]


def extend(ask: Ask) -> Decision:
    flight, at_ms, why = ask.fields.identity("flight"), ask.fields.instant("release_at"), ask.fields.text("why")
    if (wrong := ask.wrong()) is not None:
        return wrong
    entry = ask.entry(flight)
    if isinstance(entry, Refusal):
        return entry
    duty = entry.duty
    if entry.status == "off":
        return Refusal("wrong_state", f"the duty for {flight} is over; `off` corrects its end")
    if duty.release_ms == at_ms:
        return Refusal("unchanged", f"the duty for {flight} ends at {write(at_ms)}")
    if not duty.release_ms < at_ms <= duty.report_ms + LONG_MS:
        says = f"an extension ends after {write(duty.release_ms)}, and within {LONG_MS // HOUR_MS} hours of the report"
        return Refusal("impossible_time", says)
    longer = duty._replace(release_ms=at_ms)
    others = ask.ledger.duties(flight)
    rules = PACKS[ask.ledger.pack]
    breaches = rules.extend(with_proposed(others, longer), longer, ask.now_ms)
    if breaches:
        return _refused(breaches)
    body: dict[str, Any] = {"flight": flight, "release_at": write(at_ms), "why": why}
    return [Fact("crew.extended", body | {"affects": _affected(ask, others, longer)})]


def _affected(ask: Ask, others: Sequence[Duty], longer: Duty) -> list[dict[str, str]]:
    """Duties still to come that the longer one leaves no time for, so that whoever rosters can look at them."""
    rules = PACKS[ask.ledger.pack]
    found = []
    for later in others:
        if not longer.report_ms < later.report_ms < longer.release_ms + 2 * DAY_MS:
            continue
        if later.report_ms < longer.release_ms:
            found.append({"flight": later.flight, "reason": "overlaps"})
            continue
        before = [other for other in others if other.report_ms < later.report_ms]
        breaches = rules.check(with_proposed(before, longer), later, ask.now_ms)
        if breaches:
            found.append({"flight": later.flight, "reason": breaches[0].reason, "cite": breaches[0].cite})
    return found


def leave(ask: Ask) -> Decision:
    from_ms, to_ms = ask.fields.instant("from"), ask.fields.instant("to")
    kind = ask.fields.one_of("kind", ABSENCES)
    if not 0 < to_ms - from_ms <= AHEAD_MS:
        ask.fields.bad("to", "must be after `from`, by at most 400 days")
    if (wrong := ask.wrong()) is not None:
        return wrong
    if to_ms <= ask.now_ms - KEPT_MS or from_ms > ask.now_ms + AHEAD_MS:
        return Refusal("impossible_time", "absences are recorded up to 400 days ahead and two years late")
    for absence in ask.ledger.absences:
        if absence == Absence(from_ms, to_ms, kind):
            return Refusal("unchanged", "this absence is recorded")
        if absence.from_ms < to_ms and from_ms < absence.to_ms:
            says = f"they are absent ({absence.kind}) from {write(absence.from_ms)} already; `return` ends that"
            return Refusal("overlaps", says)
    inside = [duty.flight for duty in ask.ledger.duties() if duty.report_ms < to_ms and from_ms < duty.release_ms]
    if inside:
        return Refusal("has_duties", f"they are assigned to {', '.join(inside[:5])} then; `release` them first")
    return [Fact("crew.absent", {"from": write(from_ms), "to": write(to_ms), "kind": kind})]


def come_back(ask: Ask) -> Decision:
    at_ms = ask.fields.instant("at", ask.now_ms)
    from_ms = ask.fields.instant("from", 0)
    if (wrong := ask.wrong()) is not None:
        return wrong
    for absence in ask.ledger.absences:
        if absence.from_ms == from_ms or (not from_ms and absence.from_ms <= at_ms < absence.to_ms):
            if at_ms >= absence.to_ms:
                return Refusal("unchanged", f"that absence ends at {write(absence.to_ms)}")
            body = {"from": write(absence.from_ms), "at": write(max(at_ms, absence.from_ms)), "kind": absence.kind}
            return [Fact("crew.returned", body)]
    return Refusal("not_absent", "there is no such absence; `from` names one by when it begins")
