"""The sagas that there are, each as a table of steps made from its data.

- `cancel_and_rebook`: a flight is cancelled, if it is not yet, and its passengers go to another one: their seats are released,
  they are booked there, leave the manifest here, and are told; the crew is released; for whom there was no room a refund is
  asked for, and they stay on the manifest, for the desk to see to.
- `seat_swap`: two passengers of two flights change places.
- `aircraft_substitution`: another aircraft flies a flight: the cabin is laid out anew, and who lost a seat is told.

A seat that somebody had is looked up before anything is done, so that undoing gives it back. Refusals that are not named here
turn a saga back, or park it where it is going back already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from core.flight.cabin import BACK, read_layout
from core.model import PRINCIPAL_RE, STREAM_RE
from core.sagas import Kind, Learned, Order, Step, Way

PASSENGERS_MAX: Final = 100
"""Of one saga: more are more sagas, which go side by side."""
CREW_MAX: Final = 20
KEY_CHARS_MAX: Final = 48
"""A saga's key names it in the facts of two flights, with a word behind it on the way back."""
_KEY_RE: Final = re.compile(rf"[A-Za-z0-9._~-]{{1,{KEY_CHARS_MAX}}}\Z")

Data = Mapping[str, Any]
Ways = Mapping[str, Way]

_UNCHANGED: Final[Ways] = MappingProxyType({"unchanged": "met"})


def _command(stream: str, type: str, /, **body: Any) -> Order:
    return {"do": "command", "stream": stream, "type": type, "body": body}


def _look(stream: str) -> Order:
    return {"do": "look", "stream": stream}


def _tell(to: str, text: str, key: str, /, **about: Any) -> Order:
    return {"do": "notify", "to": to, "body": {"text": text, "saga": key, **about}}


def _seats(flight: str) -> str:
    return f"flight:{flight}.seats"


def _person(who: str, found: Data) -> dict[str, Any]:
    return {"id": who} | ({"name": found["name"]} if found.get("name") else {})


# -- what data must be ------------------------------------------------------------------------------------------------------


def _bad_names(data: Data, *names: str) -> str:
    """What is wrong with these fields, each the part of a stream's name."""
    for name in names:
        value = data.get(name)
        if not isinstance(value, str) or not STREAM_RE.match(_seats(value)):
            return f"`{name}` is a flight's name, as in flight:<name>"
    return ""


def _stray(data: Data, *names: str) -> str:
    """A field that is not looked at is a slip, and must not be obeyed as if it were not there."""
    wrong = ", ".join(f"`{name}`" for name in sorted(map(str, data.keys() - set(names))))
    return f"there is no {wrong} here; the fields are {', '.join(names)}" if wrong else ""


def _bad_text(data: Data, name: str) -> str:
    value = data.get(name)
    if isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable():
        return ""
    return f"`{name}` must be a line of 1 to 200 characters"


def _is_id(value: object) -> bool:
    return (
        isinstance(value, str) and 0 < len(value) <= 64 and value.isascii() and value.isprintable() and " " not in value
    )


def _is_inbox(value: object) -> bool:
    return isinstance(value, str) and value.startswith("user:") and PRINCIPAL_RE.match(value) is not None


def _bad_passenger(one: object) -> str:
    if not isinstance(one, Mapping) or not _is_id(one.get("id")):
        return "each passenger is an object with an `id`"
    if wrong := _stray(one, "id", "seat", "inbox"):
        return f"{one['id']}: {wrong}"
    if "seat" in one and not _is_id(one["seat"]):
        return f"the `seat` asked for {one['id']} is a seat such as 12A"
    if "inbox" in one and not _is_inbox(one["inbox"]):
        return f"the `inbox` of {one['id']} is a user such as user:amy"
    return ""


# -- cancel and rebook ------------------------------------------------------------------------------------------------------


def _check_rebook(data: Data) -> str:
    passengers, crew = data.get("passengers"), data.get("crew", [])
    wrong = (
        _stray(data, "flight", "to", "why", "passengers", "crew", "refund")
        or _bad_names(data, "flight", "to")
        or _bad_text(data, "why")
    )
    if wrong:
        return wrong
    if data["flight"] == data["to"]:
        return "`to` must be another flight than `flight`"
    if not isinstance(passengers, list) or not 0 < len(passengers) <= PASSENGERS_MAX:
        return f"`passengers` must be a list of 1 to {PASSENGERS_MAX}; start more sagas for more"
    for one in passengers:
        if wrong := _bad_passenger(one):
            return wrong
    if len({one["id"] for one in passengers}) < len(passengers):
        return "`passengers` names somebody twice"
    if not isinstance(crew, list) or len(crew) > CREW_MAX or not all(_is_id(one) for one in crew):
        return f"`crew` must be a list of up to {CREW_MAX} ids of crew members"
    if len(set(crew)) < len(crew) or not all(STREAM_RE.match(f"flight:crew.{one}") for one in crew):
        return "`crew` must be different ids, each as in flight:crew.<id>"
    refund = data.get("refund")
    if refund is not None and not _is_refund(refund):
        return "`refund` must be {to: user:…} or {url: https://…}: who is asked for refunds"
    return ""


def _is_refund(refund: object) -> bool:
    if not isinstance(refund, Mapping) or len(refund) != 1:
        return False
    url = refund.get("url")
    return _is_inbox(refund.get("to")) or (isinstance(url, str) and url.startswith("https://"))


def _found(data: Data, learned: Learned) -> Data:
    """Of the passengers: those who are on the manifest, with their names and seats."""
    known: Data = learned.shown.get("passengers", {})
    found = {one["id"]: dict(known[one["id"]]) for one in data["passengers"] if one["id"] in known}
    return {**data, "found": found}


def _standing(data: Data, learned: Learned) -> Data:
    return {**data, "standing": learned.shown.get("status", "")}


def _duty(crew: str, flight: str) -> Callable[[Data, Learned], Data]:
    """Their duty of this flight, as `assign` takes it."""
    fields = (
        *("flight", "role", "report_at", "release_at", "block_minutes", "crew_of", "sectors", "zone", "from", "to"),
        *("regular", "off_block", "on_block"),
    )

    def learn(data: Data, learned: Learned) -> Data:
        duties = [duty for duty in learned.shown.get("duties", ()) if duty.get("flight") == flight]
        kept = {name: duties[0][name] for name in fields if name in duties[0]} if duties else None
        return {**data, "duties": {**data.get("duties", {}), crew: kept}}

    return learn


def _plan_rebook(key: str, data: Data) -> Sequence[Step]:
    old, new, why = data["flight"], data["to"], data["why"]
    leg = f"flight:{old}"
    steps = [Step("look at the flight", _look(leg), learn=_standing)]
    steps.append(Step("look at the cabin", _look(_seats(old)), learn=_found))
    for crew in data.get("crew", ()):
        steps.append(Step(f"look at {crew}", _look(f"flight:crew.{crew}"), learn=_duty(crew, old)))
    found: Data = data.get("found", {})
    people = [one for one in data["passengers"] if one["id"] in found]
    if data.get("standing", "cancelled") != "cancelled":
        again = _command(leg, "reinstate", reason="the rebooking was undone")
        steps.append(Step("cancel", _command(leg, "cancel", reason=why), again, undo_on={"wrong_state": "met"}))
    steps += [
        _let_go_of_seat(old, one["id"], found[one["id"]]["seat"]) for one in people if found[one["id"]].get("seat")
    ]
    for one in people:
        steps += _book(new, old, one, found[one["id"]])
        steps += _leave(new, old, one["id"], found[one["id"]])
    for one in people:
        if one.get("inbox"):
            steps += _tell_of_rebooking(key, old, new, one)
    for crew in data.get("crew", ()):
        duty = data.get("duties", {}).get(crew)
        if duty is not None:
            steps.append(_release_crew(crew, old, why, duty))
    if data.get("refund"):
        steps += [_ask_for_refund(key, old, one["id"], data["refund"]) for one in people]
    return steps


def _let_go_of_seat(old: str, who: str, seat: str) -> Step:
    return Step(
        f"release {who}",
        _command(_seats(old), "release", passenger=who),
        _command(_seats(old), "assign", passenger=who, seat=seat),
        {"unchanged": "met", "no_such_passenger": "met"},
        {"unchanged": "met", "seated_already": "met", "no_such_passenger": "met"},
    )


def _book(new: str, old: str, one: Data, found: Data) -> list[Step]:
    who = one["id"]
    booked = Step(
        f"book {who}",
        _command(_seats(new), "book", passenger=_person(who, found)),
        _command(_seats(new), "cancel", passenger=who, why=f"the rebooking from {old} was undone"),
        {"duplicate_passenger": "met", "full": "skip"},
        {"no_such_passenger": "met"},
    )
    if not one.get("seat"):
        return [booked]
    # A seat that is gone meanwhile is no reason to leave anybody behind: they get one at check-in.
    ways: Ways = {
        "unchanged": "met",
        "seat_taken": "skip",
        "blocked": "skip",
        "no_such_seat": "skip",
        "seated_already": "skip",
    }
    seated = Step(
        f"seat {who}",
        _command(_seats(new), "assign", passenger=who, seat=one["seat"]),
        _command(_seats(new), "release", passenger=who),
        ways,
        {"unchanged": "met", "no_such_passenger": "met"},
        needs=booked.name,
    )
    return [booked, seated]


def _leave(new: str, old: str, who: str, found: Data) -> list[Step]:
    """Off the manifest here. Undone they are booked here again, and checked in if they were: that stands before it, since
    steps back are taken in the plan's order reversed."""
    booked = f"book {who}"
    left = Step(
        f"take {who} off",
        _command(_seats(old), "cancel", passenger=who, why=f"rebooked on {new}"),
        _command(_seats(old), "book", passenger=_person(who, found)),
        {"no_such_passenger": "met"},
        {"duplicate_passenger": "met"},
        needs=booked,
    )
    if found.get("status") != "checked_in":
        return [left]
    checked_in = Step(
        f"check-in of {who}",
        None,
        _command(_seats(old), "check_in", passenger=who),
        undo_on={"unchanged": "met", "no_such_passenger": "met"},
        needs=booked,
    )
    return [checked_in, left]


def _tell_of_rebooking(key: str, old: str, new: str, one: Data) -> list[Step]:
    who, inbox = one["id"], one["inbox"]
    told = _tell(inbox, f"{old} is cancelled; you are booked on {new}", key, flight=new)
    untold = _tell(inbox, f"Your booking on {new} was taken back; you will hear from us", key, flight=old)
    sorry = _tell(inbox, f"{old} is cancelled, and {new} has no room for you; a refund is on its way", key, flight=old)
    sorry_again = _tell(inbox, f"What was said about a refund for {old} does not hold; you will hear from us", key)
    booked = f"book {who}"
    return [
        Step(f"tell {who}", told, untold, needs=booked, optional=True),
        Step(f"tell {who} of the refund", sorry, sorry_again, unless=booked, optional=True),
    ]


def _release_crew(crew: str, flight: str, why: str, duty: Data) -> Step:
    stream = f"flight:crew.{crew}"
    return Step(
        f"release crew {crew}",
        _command(stream, "release", flight=flight, why=why),
        _command(stream, "assign", **duty),
        {"no_such_duty": "met", "wrong_state": "skip"},
        _UNCHANGED,
    )


def _ask_for_refund(key: str, flight: str, who: str, refund: Data) -> Step:
    def asked(what: str, text: str) -> Order:
        about = {"type": what, "flight": flight, "passenger": who, "saga": key}
        if "url" in refund:
            return {"do": "webhook", "url": refund["url"], "body": about}
        return _tell(refund["to"], text, key, flight=flight, passenger=who, type=what)

    return Step(
        f"refund {who}",
        asked("refund.requested", f"Please refund {who}: {flight} is cancelled, and there was no room elsewhere"),
        asked("refund.withdrawn", f"Please do not refund {who} for {flight}: the rebooking was undone"),
        unless=f"book {who}",
    )


# -- seat swap --------------------------------------------------------------------------------------------------------------


def _check_swap(data: Data) -> str:
    if wrong := _stray(data, "a", "b"):
        return wrong
    for name in ("a", "b"):
        side = data.get(name)
        if not isinstance(side, Mapping) or not _is_id(side.get("passenger")):
            return f"`{name}` must be {{flight, passenger, inbox?}}, the passenger by their id"
        wrong = _stray(side, "flight", "passenger", "inbox") or _bad_names(side, "flight")
        if not wrong and "inbox" in side and not _is_inbox(side["inbox"]):
            wrong = "the `inbox` is a user such as user:amy"
        if wrong:
            return f"`{name}`: {wrong}"
    if data["a"]["flight"] == data["b"]["flight"]:
        return "two passengers of one flight change seats by the command `swap`"
    if data["a"]["passenger"] == data["b"]["passenger"]:
        return "a swap is between two passengers"
    return ""


def _seat_of(name: str) -> Callable[[Data, Learned], Data]:
    def learn(data: Data, learned: Learned) -> Data:
        known: Data = learned.shown.get("passengers", {}).get(data[name]["passenger"], {})
        kept = {field: known[field] for field in ("name", "seat") if known.get(field)}
        return {**data, "found": {**data.get("found", {}), name: kept}}

    return learn


def _plan_swap(key: str, data: Data) -> Sequence[Step]:
    a, b, found = data["a"], data["b"], data.get("found", {})
    steps = [
        Step("look at a", _look(_seats(a["flight"])), learn=_seat_of("a")),
        Step("look at b", _look(_seats(b["flight"])), learn=_seat_of("b")),
    ]
    if {"a", "b"} <= found.keys():
        back = f"{key}{BACK}"
        steps += [
            *_out("a out", key, back, a, b, found["a"]),
            *_out("b out", key, back, b, a, found["b"]),
            _in("b in", key, back, b, a, found["b"], found["a"]),
            _in("a in", key, back, a, b, found["a"], found["b"]),
        ]
        steps += [
            Step(
                f"tell {name}",
                _tell(
                    one["inbox"],
                    f"You fly on {other['flight']} instead of {one['flight']}",
                    key,
                    flight=other["flight"],
                ),
                _tell(one["inbox"], f"You fly on {one['flight']}, as before", key, flight=one["flight"]),
                optional=True,
            )
            for name, one, other in (("a", a, b), ("b", b, a))
            if one.get("inbox")
        ]
    return steps


def _out(name: str, key: str, back: str, one: Data, other: Data, found: Data) -> list[Step]:
    """One passenger leaves their flight, and their seat is kept for the other; which it is no longer before they come back."""
    here, there, who = one["flight"], other["flight"], one["passenger"]
    out = Step(
        name,
        _command(_seats(here), "transfer_out", passenger=who, to=there, saga=key, keep_for=other["passenger"]),
        _returns(here, there, back, _person(who, found), found),
        {"unchanged": "done"},
        {"unchanged": "met", "duplicate_passenger": "met"},
    )
    kept = Step(
        f"{name}, seat kept",
        None,
        _command(_seats(here), "release", passenger=other["passenger"]),
        undo_on={"unchanged": "met", "no_such_passenger": "met"},
        needs=name,
    )
    return [out, kept]


def _in(name: str, key: str, back: str, one: Data, other: Data, found: Data, place: Data) -> Step:
    """One passenger comes to the other's flight, and to the other's seat if there was one."""
    here, there, who = other["flight"], one["flight"], one["passenger"]
    seat = {"seat": place["seat"]} if place.get("seat") else {}
    return Step(
        name,
        _command(_seats(here), "transfer_in", passenger=_person(who, found), saga=key, **{"from": there}, **seat),
        _command(_seats(here), "transfer_out", passenger=who, to=there, saga=back, keep_for=other["passenger"]),
        {"unchanged": "done"},
        {"unchanged": "met", "no_such_passenger": "met"},
    )


def _returns(here: str, there: str, back: str, person: Data, found: Data) -> Order:
    seat = {"seat": found["seat"]} if found.get("seat") else {}
    return _command(_seats(here), "transfer_in", passenger=person, saga=back, **{"from": there}, **seat)


# -- aircraft substitution ----------------------------------------------------------------------------------------------------


def _check_substitution(data: Data) -> str:
    wrong = (
        _stray(data, "flight", "registration", "type", "layout", "inboxes")
        or _bad_names(data, "flight")
        or ("" if _is_id(data.get("registration")) else "`registration` is the aircraft's")
    )
    if wrong:
        return wrong
    if isinstance(layout := read_layout(data.get("layout")), str):
        return layout
    if "type" in data and not _is_id(data["type"]):
        return "`type` must be the aircraft's, such as B738"
    inboxes = data.get("inboxes", {})
    if not isinstance(inboxes, Mapping) or not all(_is_inbox(inbox) for inbox in inboxes.values()):
        return "`inboxes` must name a user, such as user:amy, by a passenger's id"
    return ""


def _plan_substitution(key: str, data: Data) -> Sequence[Step]:
    flight, registration = data["flight"], data["registration"]
    leg, cabin = f"flight:{flight}", _seats(flight)
    steps = [
        Step("look at the leg", _look(leg), learn=_aircraft),
        Step("look at the cabin", _look(cabin), learn=_layout),
    ]
    if "was" not in data or "layout_was" not in data:
        return steps
    was, lost = data["was"], data.get("lost", ())
    again = _command(leg, "equip", **was) if was.get("registration") else None
    new = {"registration": registration} | ({"type": data["type"]} if "type" in data else {})
    steps.append(Step("equip", _command(leg, "equip", **new), again, _UNCHANGED, _UNCHANGED))
    # Undone after the cabin is what it was, and so they stand before it: steps back are taken in the plan's order reversed.
    steps += [_seat_again(cabin, one) for one in lost]
    before = None
    if data["layout_was"].get("rows"):
        before = _command(cabin, "relayout", layout=data["layout_was"], **_registered(was))
    relaid = _command(cabin, "relayout", layout=data["layout"], registration=registration)
    steps.append(Step("lay out", relaid, before, _UNCHANGED, _UNCHANGED, learn=_lost))
    for one in lost:
        inbox = data.get("inboxes", {}).get(one["passenger"])
        if inbox:
            told = f"{flight} flies with another aircraft, which has no seat {one['seat']}: please choose another"
            untold = f"{flight} flies with the aircraft first planned, and {one['seat']} is yours again"
            about = {"flight": flight, "seat": one["seat"]}
            act, undo = _tell(inbox, told, key, **about), _tell(inbox, untold, key, **about)
            steps.append(Step(f"tell {one['passenger']}", act, undo, optional=True))
    says = f"{registration} flies this instead of {was.get('registration') or 'another'}; {len(lost)} lost their seats"
    unsaid = f"{was.get('registration') or 'The first aircraft'} flies this after all"
    steps.append(Step("tell the crew", _say(leg, says, key), _say(leg, unsaid, key)))
    return steps


def _say(stream: str, text: str, key: str) -> Order:
    return {"do": "message", "stream": stream, "body": {"text": text, "saga": key}}


def _registered(was: Data) -> dict[str, Any]:
    return {"registration": was["registration"]} if was.get("registration") else {}


def _seat_again(cabin: str, one: Data) -> Step:
    return Step(
        f"seat of {one['passenger']}",
        None,
        _command(cabin, "assign", passenger=one["passenger"], seat=one["seat"]),
        undo_on={"unchanged": "met", "seated_already": "met", "no_such_passenger": "met", "wrong_state": "met"},
        needs="lay out",
    )


def _aircraft(data: Data, learned: Learned) -> Data:
    kept = {name: learned.shown[name] for name in ("registration", "type") if learned.shown.get(name)}
    return {**data, "was": kept}


def _layout(data: Data, learned: Learned) -> Data:
    return {**data, "layout_was": learned.shown.get("layout", {})}


def _lost(data: Data, learned: Learned) -> Data:
    lost = [one for fact in learned.facts for one in fact.body.get("lost", ())]
    return {**data, "lost": lost}


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind(
                "cancel_and_rebook",
                "A flight is cancelled, its passengers go to another one; crew is released, refunds are asked for.",
                _check_rebook,
                _plan_rebook,
            ),
            Kind("seat_swap", "Two passengers of two flights change places.", _check_swap, _plan_swap),
            Kind(
                "aircraft_substitution",
                "Another aircraft flies a flight; the cabin is laid out anew.",
                _check_substitution,
                _plan_substitution,
            ),
        )
    }
)


def problem(kind: str, key: str, data: object) -> str:
    """What is wrong with a saga that somebody wants to start, or nothing."""
    found = KINDS.get(kind)
    if found is None:
        return f"there is no saga {kind[:64]!r}; there are {', '.join(KINDS)}"
    if not _KEY_RE.match(key):
        return (
            f"`key` must be 1 to {KEY_CHARS_MAX} letters, digits, dots, dashes, underscores and tildes, the saga's own"
        )
    if not isinstance(data, Mapping):
        return "`data` must be an object"
    return found.check(data)
