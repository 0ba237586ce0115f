"""What each verb makes of a flight's cabin: facts, or why not. Their table and their theory are in `core.flight.seats`."""

from __future__ import annotations

from typing import Any, Final

from core.flight.cabin import BACK, SEATS_MAX, Layout, read_layout
from core.flight.machine import BY_GATEWAY, Decision, Fact, Refusal
from core.flight.seat_asks import Ask, boarded
from core.flight.times import write

HOLD_S_MAX: Final = 7 * 86_400
"""A hold is for while somebody decides; a seat kept for good is assigned or blocked."""
OVERBOOKING_MAX: Final = 200
HOLDS_TIMER: Final = "holds"
"""The one timer of a cabin: due when the first hold may run out, it gives `expire`, which sets it for the next."""
EXPIRED_AT_ONCE: Final = 48
"""Holds that one `expire` records as over: a command becomes few events (`core.model.FACTS_MAX`), and all of a cabin may be
over at once."""


def _named(name: str) -> dict[str, Any]:
    return {"name": name} if name else {}


def _layout(ask: Ask) -> Layout:
    layout = read_layout(ask.fields.raw("layout"))
    if isinstance(layout, Layout):
        return layout
    ask.fields.problem = ask.fields.problem or layout
    return Layout()


def open_cabin(ask: Ask) -> Decision:
    flight = ask.fields.identity("flight")
    overbooking = ask.fields.whole("overbooking", 0, OVERBOOKING_MAX, 0)
    layout = _layout(ask)
    if (wrong := ask.wrong()) is not None:
        return wrong
    if ask.cabin.flight:
        return Refusal("unchanged", "this cabin is open already; `relayout` changes its seats")
    body = {"flight": flight, "layout": {"rows": list(layout.rows)}, "overbooking": overbooking}
    return [Fact("seat.opened", body)]


def relayout(ask: Ask) -> Decision:
    layout = _layout(ask)
    registration = ask.fields.identity("registration", "")
    if (wrong := ask.wrong()) is not None:
        return wrong
    cabin = ask.cabin
    if layout.rows == cabin.layout.rows:
        return Refusal("unchanged", "the cabin has these very seats")
    lost = [(who, seat) for seat, who in cabin.taken.items() if seat not in layout.seats]
    aboard = [who for who, _ in lost if cabin.passengers[who].status == "boarded"]
    if aboard:
        says = f"{', '.join(aboard[:5])} would lose the seat they sit on; `deboard` those on board first"
        return Refusal("boarded_already", says)
    body: dict[str, Any] = {
        "layout": {"rows": list(layout.rows)},
        "lost": [{"passenger": who, "seat": seat} for who, seat in lost],
        "unheld": [seat for seat in cabin.holds if seat not in layout.seats],
    }
    if registration:
        body["registration"] = registration
    return [Fact("seat.relaid", body)]


def block(ask: Ask) -> Decision:
    seats = ask.fields.seats("seats", SEATS_MAX)
    why = ask.fields.text("why")
    if (wrong := ask.wrong()) is not None:
        return wrong
    facts: list[Fact] = []
    fresh = [seat for seat in seats if seat not in ask.cabin.blocked]
    for seat in fresh:
        free = ask.free(seat, "")
        if isinstance(free, Refusal):
            return free
        facts += free
    if not fresh:
        return Refusal("unchanged", f"{', '.join(seats)} blocked already")
    facts = facts[:EXPIRED_AT_ONCE]  # of more the timer sees to the others
    return [*facts, Fact("seat.blocked", {"seats": fresh, "why": why})]


def unblock(ask: Ask) -> Decision:
    seats = ask.fields.seats("seats", SEATS_MAX)
    if (wrong := ask.wrong()) is not None:
        return wrong
    blocked = [seat for seat in seats if seat in ask.cabin.blocked]
    if not blocked:
        return Refusal("unchanged", f"{', '.join(seats)} not blocked")
    return [Fact("seat.unblocked", {"seats": blocked})]


def book(ask: Ask) -> Decision:
    who, name = ask.person()
    if (wrong := ask.wrong()) is not None:
        return wrong
    refusal = ask.newcomer(who)
    return refusal if refusal is not None else [Fact("seat.booked", {"passenger": who, **_named(name)})]


def _watch(until_ms: int) -> Fact:
    return Fact("timer.set", {"name": HOLDS_TIMER, "due": write(until_ms), "do": {"type": "expire"}})


def _held(ask: Ask, seat: str, who: str, until_ms: int) -> list[Fact] | Refusal:
    """The fact of a hold, and the timer moved where no hold that is known runs out sooner."""
    facts: list[Fact] = []
    other = ask.cabin.hold_of(who)
    if other and other != seat:
        if ask.cabin.live(other, ask.now_ms) is not None:
            return Refusal("holding_already", f"{who} holds {other}; `release` it first")
        facts = ask.expired(other)
    facts.append(Fact("seat.held", {"seat": seat, "passenger": who, "until": write(until_ms)}))
    if all(hold.until_ms > until_ms for hold in ask.cabin.holds.values()):
        facts.append(_watch(until_ms))
    return facts


def hold(ask: Ask) -> Decision:
    seat, (who, _) = ask.fields.seat("seat"), ask.person()
    if ask.fields.has("until"):
        until_ms = ask.fields.instant("until")
    else:
        until_ms = ask.now_ms + 1000 * ask.fields.whole("for_s", 1, HOLD_S_MAX)
    if (wrong := ask.wrong()) is not None:
        return wrong
    if not ask.now_ms < until_ms <= ask.now_ms + 1000 * HOLD_S_MAX:
        says = f"a hold ends after now and within {HOLD_S_MAX // 86_400} days, not at {write(until_ms)}"
        return Refusal("impossible_time", says)
    facts = ask.free(seat, who)
    if isinstance(facts, Refusal):
        return facts
    held = _held(ask, seat, who, until_ms)
    return held if isinstance(held, Refusal) else [*facts, *held]


def assign(ask: Ask) -> Decision:
    seat, (who, _) = ask.fields.seat("seat", ""), ask.person()
    if (wrong := ask.wrong()) is not None:
        return wrong
    known = ask.someone(who)
    if isinstance(known, Refusal):
        return known
    if known.status == "offloaded":
        return Refusal("wrong_state", f"{who} was offloaded; `book` them again first")
    if not seat:
        seat = ask.cabin.hold_of(who)
        if not seat:
            return Refusal("no_hold", f"{who} holds no seat; name the `seat`")
        if ask.cabin.live(seat, ask.now_ms) is None:
            return Refusal("hold_expired", f"the hold of {seat} has run out; name the `seat` to take it if it is free")
    if known.seat == seat:
        return Refusal("unchanged", f"{who} has {seat}")
    if known.seat:
        return Refusal("seated_already", f"{who} has {known.seat}; `change` gives another")
    facts = ask.free(seat, who)
    if isinstance(facts, Refusal):
        return facts
    return [*facts, Fact("seat.assigned", {"seat": seat, "passenger": who})]


def change(ask: Ask) -> Decision:
    seat, (who, _) = ask.fields.seat("seat"), ask.person()
    if (wrong := ask.wrong()) is not None:
        return wrong
    known = ask.seated(who)
    if isinstance(known, Refusal):
        return known
    if known.seat == seat:
        return Refusal("unchanged", f"{who} has {seat}")
    facts = ask.free(seat, who)
    if isinstance(facts, Refusal):
        return facts
    return [*facts, Fact("seat.assigned", {"seat": seat, "passenger": who, "from": known.seat})]


def swap(ask: Ask) -> Decision:
    a, b = ask.fields.identity("a"), ask.fields.identity("b")
    if (wrong := ask.wrong()) is not None:
        return wrong
    if a == b:
        return Refusal("unchanged", "a swap is between two passengers")
    one, other = ask.seated(a), ask.seated(b)
    if isinstance(one, Refusal):
        return one
    if isinstance(other, Refusal):
        return other
    body = {"a": {"passenger": a, "seat": other.seat}, "b": {"passenger": b, "seat": one.seat}}
    return [Fact("seat.swapped", body)]


def release(ask: Ask) -> Decision:
    who, _ = ask.person()
    if (wrong := ask.wrong()) is not None:
        return wrong
    cabin = ask.cabin
    known, held = cabin.passengers.get(who), cabin.hold_of(who)
    if known is None and not held:
        return Refusal("no_such_passenger", f"{who} is not on the manifest and holds no seat")
    if known is not None and known.status == "boarded":
        return boarded(who)
    facts = ask.expired(held)
    if held and not facts:
        facts = [Fact("seat.released", {"seat": held, "passenger": who, "why": "given up"})]
    if known is not None and known.seat:
        facts.append(Fact("seat.released", {"seat": known.seat, "passenger": who, "why": "given up"}))
    return facts or Refusal("unchanged", f"{who} has no seat and holds none")


def expire(ask: Ask) -> Decision:
    if (wrong := ask.wrong()) is not None:
        return wrong
    over = [fact for seat in ask.cabin.holds for fact in ask.expired(seat)]
    facts = over[:EXPIRED_AT_ONCE]
    later = [hold.until_ms for hold in ask.cabin.holds.values() if hold.until_ms > ask.now_ms]
    if len(over) > len(facts):
        later.append(ask.now_ms)  # a timer that is due at once sees to the others
    if later and (facts or ask.command.by == BY_GATEWAY):
        facts.append(_watch(min(later)))  # also where the hold that the timer was set for was taken or given up
    return facts or Refusal("unchanged", "no hold has run out")


def cancel(ask: Ask) -> Decision:
    who, _ = ask.person()
    why = ask.fields.text("why", "")
    if (wrong := ask.wrong()) is not None:
        return wrong
    known = ask.someone(who)
    if isinstance(known, Refusal):
        return known
    if known.status == "boarded":
        return boarded(who)
    body: dict[str, Any] = {
        "passenger": who,
        **({"seat": known.seat} if known.seat else {}),
        **({"why": why} if why else {}),
    }
    return [Fact("seat.cancelled", body)]


def check_in(ask: Ask) -> Decision:
    (who, _), at_ms = ask.person(), ask.at()
    if (wrong := ask.wrong() or ask.happened(at_ms)) is not None:
        return wrong
    known = ask.someone(who)
    if isinstance(known, Refusal):
        return known
    if known.status == "boarded":
        return boarded(who)
    if known.status == "checked_in":
        return Refusal("unchanged", f"{who} is checked in")
    if known.status == "offloaded":
        return Refusal("wrong_state", f"{who} was offloaded; `book` them again first")
    return [Fact("seat.checked_in", {"passenger": who, "at": write(at_ms)})]


def board(ask: Ask) -> Decision:
    (who, _), at_ms = ask.person(), ask.at()
    if (wrong := ask.wrong() or ask.happened(at_ms)) is not None:
        return wrong
    known = ask.seated(who)
    if isinstance(known, Refusal):
        return known
    if known.status != "checked_in":
        return Refusal("not_checked_in", f"{who} is not checked in; `check_in` first")
    return [Fact("seat.boarded", {"passenger": who, "seat": known.seat, "at": write(at_ms)})]


def deboard(ask: Ask) -> Decision:
    (who, _), at_ms, why = ask.person(), ask.at(), ask.fields.text("why")
    if (wrong := ask.wrong() or ask.happened(at_ms)) is not None:
        return wrong
    known = ask.someone(who)
    if isinstance(known, Refusal):
        return known
    if known.status != "boarded":
        return Refusal("not_boarded", f"{who} is not on board")
    body = {"passenger": who, "seat": known.seat, "why": why, "at": write(at_ms)}
    return [Fact("seat.deboarded", body)]


def offload(ask: Ask) -> Decision:
    (who, _), at_ms, why = ask.person(), ask.at(), ask.fields.text("why")
    if (wrong := ask.wrong() or ask.happened(at_ms)) is not None:
        return wrong
    known = ask.someone(who)
    if isinstance(known, Refusal):
        return known
    if known.status == "offloaded":
        return Refusal("unchanged", f"{who} is offloaded")
    body = {"passenger": who, "why": why, "at": write(at_ms), **({"seat": known.seat} if known.seat else {})}
    return [Fact("seat.offloaded", body)]


def transfer_out(ask: Ask) -> Decision:
    (who, _), to, saga = ask.person(), ask.fields.identity("to"), ask.fields.identity("saga")
    keep_for, until_ms = ask.fields.identity("keep_for", ""), ask.fields.instant("until", ask.now_ms + 3_600_000)
    if (wrong := ask.wrong()) is not None:
        return wrong
    cabin = ask.cabin
    if (saga, "out", who) in cabin.transfers:
        return Refusal("unchanged", f"{who} went to {cabin.transfers[(saga, 'out', who)]} by {saga} already")
    known = ask.someone(who)
    if isinstance(known, Refusal):
        return known
    if known.status == "boarded":
        return boarded(who)
    if not ask.now_ms < until_ms <= ask.now_ms + 1000 * HOLD_S_MAX:
        return Refusal("impossible_time", f"a seat is kept until after now, within {HOLD_S_MAX // 86_400} days")
    body: dict[str, Any] = {"passenger": who, **_named(known.name), "to": to, "saga": saga}
    if not known.seat:
        return [Fact("seat.transferred_out", body)]
    held = _held(ask, known.seat, keep_for, until_ms) if keep_for else []
    if isinstance(held, Refusal):
        return held
    return [Fact("seat.transferred_out", {**body, "seat": known.seat}), *held]


def transfer_in(ask: Ask) -> Decision:
    (who, name), origin, saga = ask.person(), ask.fields.identity("from"), ask.fields.identity("saga")
    seat = ask.fields.seat("seat", "")
    if (wrong := ask.wrong()) is not None:
        return wrong
    if (saga, "in", who) in ask.cabin.transfers:
        return Refusal("unchanged", f"{who} came from {ask.cabin.transfers[(saga, 'in', who)]} by {saga} already")
    refusal = ask.newcomer(who)
    comes_back = saga.endswith(BACK) and (saga[: -len(BACK)], "out", who) in ask.cabin.transfers
    if refusal is not None and not (comes_back and refusal.reason == "full"):
        return refusal  # there was room for who comes back, whatever is booked
    facts: list[Fact] | Refusal = ask.free(seat, who) if seat else []
    if isinstance(facts, Refusal):
        return facts
    body = {"passenger": who, **_named(name), "from": origin, "saga": saga, **({"seat": seat} if seat else {})}
    return [*facts, Fact("seat.transferred_in", body)]


def close(ask: Ask) -> Decision:
    if (wrong := ask.wrong()) is not None:
        return wrong
    if ask.cabin.closed:
        return Refusal("unchanged", "the manifest is closed")
    return [Fact("seat.closed", {"passengers": ask.cabin.expected()})]


def reopen(ask: Ask) -> Decision:
    why = ask.fields.text("why", "")
    if (wrong := ask.wrong()) is not None:
        return wrong
    if not ask.cabin.closed:
        return Refusal("unchanged", "the manifest is open")
    return [Fact("seat.reopened", {"why": why} if why else {})]
