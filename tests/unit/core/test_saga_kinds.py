"""core.saga_kinds: each saga does what it says on the real machines, and gives everything back wherever it turns back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from core.flight import times
from core.flight.machine import BY_GATEWAY, Command, Fact, Recorded, Refusal
from core.flight.registry import machine_of
from core.saga_kinds import KINDS, PASSENGERS_MAX, problem
from core.sagas import Got, Learned, Move, Never, Obeyed, Saga, ended, next_move, take, turned, turned_at_once

NOW_MS = times.read("2026-11-21T06:00:00.000Z").ms
LAYOUT = {"rows": [{"row": row, "seats": "ABC", "class": "Y"} for row in (1, 2)]}
SMALL = {"rows": [{"row": 1, "seats": "ABC", "class": "Y"}]}
REBOOK = {
    "flight": "QX1",
    "to": "QX2",
    "why": "fog",
    "passengers": [
        {"id": "p1", "seat": "1A", "inbox": "user:amy"},
        {"id": "p2", "inbox": "user:ben"},
        {"id": "p3"},
        {"id": "stranger"},
    ],
    "crew": ["c1", "c2"],
    "refund": {"to": "user:desk"},
}
SWAP = {
    "a": {"flight": "QX1", "passenger": "p1", "inbox": "user:amy"},
    "b": {"flight": "QX2", "passenger": "q1", "inbox": "user:eve"},
}
SUBSTITUTE = {
    "flight": "QX1",
    "registration": "VH-QXB",
    "type": "DH8C",
    "layout": SMALL,
    "inboxes": {"p2": "user:ben"},
}


class Airline:
    """Streams with their machines, and what was told to whom."""

    def __init__(self) -> None:
        self.states: dict[str, Any] = {}
        self.seqs: dict[str, int] = {}
        self.told: list[tuple[str, str]] = []
        for flight in ("QX1", "QX2"):
            scheduled = {
                "flight": flight, "operator": "QX", "from": "SYD", "to": "MEL", "registration": "VH-QXA",
                "type": "B738", "out": "2026-11-21T08:00:00.000Z", "in": "2026-11-21T09:30:00.000Z",
            }  # fmt: skip
            self.give(f"flight:{flight}", "schedule", scheduled)
            self.give(f"flight:{flight}.seats", "open", {"flight": flight, "layout": LAYOUT})
        for who, seat in (("p1", "1B"), ("p2", "2C"), ("p3", "")):
            self.sit("QX1", who, seat)
        self.give("flight:QX1.seats", "check_in", {"passenger": "p2"})
        self.sit("QX2", "q1", "2A")
        register = {"base": "SYD", "zone": "Australia/Sydney", "roles": ["captain"], "pack": "FAA-135"}
        for crew in ("c1", "c2"):
            self.give(f"flight:crew.{crew}", "register", register | {"pack": _pack()})
        duty = {
            "flight": "QX1", "role": "captain", "block_minutes": 90, "from": "SYD", "to": "MEL",
            "report_at": "2026-11-21T07:00:00.000Z", "release_at": "2026-11-21T10:00:00.000Z",
        }  # fmt: skip
        self.give("flight:crew.c1", "assign", duty)

    def sit(self, flight: str, who: str, seat: str) -> None:
        self.give(f"flight:{flight}.seats", "book", {"passenger": {"id": who, "name": who.upper()}})
        if seat:
            self.give(f"flight:{flight}.seats", "assign", {"passenger": who, "seat": seat})

    def give(self, stream: str, type: str, body: Mapping[str, Any]) -> list[Recorded]:
        facts = self.decide(stream, type, body)
        assert not isinstance(facts, Refusal), facts
        return facts

    def decide(self, stream: str, type: str, body: Mapping[str, Any]) -> list[Recorded] | Refusal:
        machine = machine_of(stream)
        assert machine is not None
        state = self.states.get(stream, machine.initial())
        decision = machine.decide(state, Command(type, body, BY_GATEWAY, "owner"), NOW_MS)
        if isinstance(decision, Refusal):
            return decision
        assert isinstance(decision, list), f"{stream} {type}: {decision}"
        return [self._record(stream, state, fact) for fact in decision]

    def _record(self, stream: str, state: Any, fact: Fact) -> Recorded:
        machine = machine_of(stream)
        assert machine is not None
        self.seqs[stream] = seq = self.seqs.get(stream, 0) + 1
        event = Recorded(seq, fact.type, BY_GATEWAY, NOW_MS, fact.body)
        self.states[stream] = machine.evolve(self.states.get(stream, state), event)
        return event

    def show(self, stream: str) -> dict[str, Any]:
        machine = machine_of(stream)
        assert machine is not None
        return machine.show(self.states.get(stream, machine.initial()))

    def make(self, move: Move) -> Got:
        order = move.order
        if order["do"] == "look":
            return Obeyed(Learned(shown=self.show(order["stream"])))
        if order["do"] == "command":
            found = self.decide(order["stream"], order["type"], order["body"])
            return found if isinstance(found, Refusal) else Obeyed(Learned(facts=found))
        to = order.get("to") or order.get("stream") or order["url"]
        self.told.append((to, order["body"].get("text", order["body"].get("type", ""))))
        return Obeyed()

    def who_sits(self) -> dict[str, Any]:
        """What passengers and crew would notice."""
        shown: dict[str, Any] = {}
        for flight in ("QX1", "QX2"):
            cabin, leg = self.show(f"flight:{flight}.seats"), self.show(f"flight:{flight}")
            shown[flight] = (cabin["passengers"], cabin["layout"], leg["registration"], leg["type"], leg["status"])
        for crew in ("c1", "c2"):
            shown[crew] = [
                (duty["flight"], duty["role"], duty["report_at"], duty["release_at"])
                for duty in self.show(f"flight:crew.{crew}")["duties"]
            ]
        return shown

    def seat(self, flight: str, who: str) -> str | None:
        one = self.show(f"flight:{flight}.seats")["passengers"].get(who)
        return None if one is None else one.get("seat", "")


def _pack() -> str:
    from core.flight.duty import PACKS

    return next(iter(PACKS))


def run(airline: Airline, kind: str, data: Mapping[str, Any], turn_at: int | None = None) -> tuple[Saga, int]:
    """To its end; ``turn_at``: it is called off before the move of that number. Answers how many moves it made, too."""
    assert problem(kind, "s1", data) == ""
    saga, moves = Saga(kind, "s1", data, NOW_MS + 1), 0
    while True:
        saga, move = next_move(KINDS[kind], "demo", saga)
        if move is None:
            return saga, moves
        wanted = "called off" if moves == turn_at else ""
        moves += 1
        at_once = turned_at_once(saga, move, wanted)
        if at_once is not None:
            saga = at_once
            continue
        saga, then = take(saga, move, airline.make(move), wanted)
        assert then.what == "next", then


def test_cancel_and_rebook() -> None:
    """Everybody named is on the other flight and was told, the crew is free, and nobody is asked for refunds."""
    airline = Airline()
    saga, _ = run(airline, "cancel_and_rebook", REBOOK)
    assert ended(saga) == "done"
    assert [airline.seat("QX2", who) for who in ("p1", "p2", "p3", "stranger")] == ["1A", "", "", None]
    assert airline.show("flight:QX1.seats")["passengers"] == {}, "nobody is on two manifests"
    assert airline.show("flight:QX1")["status"] == "cancelled"
    assert airline.show("flight:QX2.seats")["passengers"]["p1"]["name"] == "P1"
    assert airline.show("flight:crew.c1")["duties"] == []
    told = "QX1 is cancelled; you are booked on QX2"
    assert airline.told == [("user:amy", told), ("user:ben", told)]


def test_for_whom_there_is_no_room_a_refund_is_asked() -> None:
    """A full flight turns nothing back: who finds no room is told so, and the desk is asked for the refund."""
    airline = Airline()
    for n in range(4):
        airline.sit("QX2", f"x{n}", "")
    saga, _ = run(airline, "cancel_and_rebook", REBOOK)
    assert ended(saga) == "done"
    assert [airline.seat("QX2", who) for who in ("p1", "p2", "p3")] == ["1A", None, None]
    assert [airline.seat("QX1", who) for who in ("p1", "p2", "p3")] == [None, "", ""]
    assert airline.told == [
        ("user:amy", "QX1 is cancelled; you are booked on QX2"),
        ("user:ben", "QX1 is cancelled, and QX2 has no room for you; a refund is on its way"),
        ("user:desk", "Please refund p2: QX1 is cancelled, and there was no room elsewhere"),
        ("user:desk", "Please refund p3: QX1 is cancelled, and there was no room elsewhere"),
    ]


def test_a_refund_can_be_asked_for_outside() -> None:
    """With an address the request is a webhook."""
    airline = Airline()
    for n in range(6 - 1):
        airline.sit("QX2", f"x{n}", "")
    run(airline, "cancel_and_rebook", {**REBOOK, "refund": {"url": "https://refunds.example/ask"}})
    assert airline.told[-1] == ("https://refunds.example/ask", "refund.requested")


def test_nobody_is_asked_for_refunds_where_nobody_is_named() -> None:
    """Who finds no room stays on the manifest of the flight that is cancelled, for the desk to see to."""
    airline = Airline()
    for n in range(5):
        airline.sit("QX2", f"x{n}", "")
    saga, _ = run(airline, "cancel_and_rebook", {name: value for name, value in REBOOK.items() if name != "refund"})
    assert (ended(saga), airline.seat("QX1", "p3")) == ("done", "")
    assert "user:desk" not in [to for to, _ in airline.told]


def test_a_flight_that_is_cancelled_already_stays_so() -> None:
    """It is not cancelled again, and not reinstated where the saga turns back."""
    airline = Airline()
    airline.give("flight:QX1", "cancel", {"reason": "fog"})
    saga, moves = run(airline, "cancel_and_rebook", REBOOK)
    assert (ended(saga), "cancel" in saga.marks) == ("done", False)
    airline = Airline()
    airline.give("flight:QX1", "cancel", {"reason": "fog"})
    saga, _ = run(airline, "cancel_and_rebook", REBOOK, moves - 1)
    assert (ended(saga), airline.show("flight:QX1")["status"]) == ("undone", "cancelled")


def test_a_flight_that_has_left_is_not_cancelled() -> None:
    """The saga turns back before anybody loses a seat, and says why."""
    airline = Airline()
    airline.give("flight:QX1", "depart", {"at": "2026-11-21T05:59:00.000Z"})
    before = airline.who_sits()
    saga, _ = run(airline, "cancel_and_rebook", REBOOK)
    assert (ended(saga), saga.why.split(":")[0]) == ("undone", "step 'cancel'")
    assert airline.who_sits() == before


def test_a_seat_that_is_gone_leaves_nobody_behind() -> None:
    """Who asked for a seat that somebody has flies without one."""
    airline = Airline()
    airline.sit("QX2", "x", "1A")
    saga, _ = run(airline, "cancel_and_rebook", REBOOK)
    assert (ended(saga), airline.seat("QX2", "p1")) == ("done", "")


def test_a_cabin_that_is_not_open_turns_it_back() -> None:
    """Where nobody can be booked everybody keeps the seat that they had."""
    airline = Airline()
    before = airline.who_sits()
    saga, _ = run(airline, "cancel_and_rebook", {**REBOOK, "to": "QX3"})
    assert (ended(saga), saga.why.split(":")[0]) == ("undone", "step 'book p1'")
    assert airline.who_sits() == before


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("kind", "data"),
    [("cancel_and_rebook", REBOOK), ("seat_swap", SWAP), ("aircraft_substitution", SUBSTITUTE)],
)
def test_wherever_it_turns_back_all_is_as_it_was(kind: str, data: Mapping[str, Any], full: bool) -> None:
    """Called off before any of its moves, seats, aircraft and crew are as before, and who was told is told again."""

    def airline() -> Airline:
        made = Airline()
        for n in range(4 if full else 0):
            made.sit("QX2", f"x{n}", "")
        return made

    _, moves = run(airline(), kind, data)
    for turn_at in range(moves):
        here = airline()
        before = here.who_sits()
        saga, _ = run(here, kind, data, turn_at)
        assert ended(saga) == "undone"
        assert here.who_sits() == before, f"called off before move {turn_at}"
        told = [to for to, _ in here.told]
        odd = [to for to in dict.fromkeys(told) if told.count(to) % 2]
        assert len(odd) <= 1, (
            "of one nobody could know whether they were told, and they hear only that it does not hold"
        )


def test_seat_swap() -> None:
    """Each of the two has the other's seat on the other's flight, and was told."""
    airline = Airline()
    saga, _ = run(airline, "seat_swap", SWAP)
    assert ended(saga) == "done"
    assert (airline.seat("QX2", "p1"), airline.seat("QX1", "q1")) == ("2A", "1B")
    assert (airline.seat("QX1", "p1"), airline.seat("QX2", "q1")) == (None, None)
    assert airline.show("flight:QX2.seats")["passengers"]["p1"]["name"] == "P1"
    assert airline.told == [
        ("user:amy", "You fly on QX2 instead of QX1"),
        ("user:eve", "You fly on QX1 instead of QX2"),
    ]


def test_a_swap_of_passengers_without_seats() -> None:
    """Who had no seat leaves none, and the other is booked without one."""
    airline = Airline()
    saga, _ = run(airline, "seat_swap", {"a": {"flight": "QX1", "passenger": "p3"}, "b": SWAP["b"]})
    assert ended(saga) == "done"
    assert (airline.seat("QX2", "p3"), airline.seat("QX1", "q1")) == ("2A", "")


def test_a_swap_with_somebody_who_is_not_there_changes_nothing() -> None:
    """The one who left comes back to their seat."""
    airline = Airline()
    before = airline.who_sits()
    saga, _ = run(airline, "seat_swap", {**SWAP, "b": {"flight": "QX2", "passenger": "nobody"}})
    assert ended(saga) == "undone"
    assert "no_such_passenger" in saga.why
    assert airline.who_sits() == before


def test_aircraft_substitution() -> None:
    """The other aircraft flies, its cabin is the flight's, and who lost a seat was told."""
    airline = Airline()
    saga, _ = run(airline, "aircraft_substitution", SUBSTITUTE)
    assert ended(saga) == "done"
    assert airline.show("flight:QX1")["registration"] == "VH-QXB"
    assert [airline.seat("QX1", who) for who in ("p1", "p2")] == ["1B", ""]
    assert airline.told == [
        ("user:ben", "QX1 flies with another aircraft, which has no seat 2C: please choose another"),
        ("flight:QX1", "VH-QXB flies this instead of VH-QXA; 1 lost their seats"),
    ]


def test_an_aircraft_for_a_flight_that_had_none() -> None:
    """What was not there before is not given back: an aircraft stays, and a cabin that was never open refuses."""
    airline = Airline()
    saga = Saga("aircraft_substitution", "s1", {**SUBSTITUTE, "was": {}, "layout_was": {}}, NOW_MS)
    plan = {step.name: step for step in KINDS["aircraft_substitution"].plan("s1", saga.data)}
    assert plan["equip"].undo is None
    assert plan["lay out"].undo is None
    assert "flies this instead of another" in plan["tell the crew"].act["body"]["text"]  # type: ignore[index]  # it has one
    quiet = {**SUBSTITUTE, "inboxes": {}}
    assert ended(run(Airline(), "aircraft_substitution", quiet)[0]) == "done"
    saga, _ = run(airline, "aircraft_substitution", {"flight": "QX9", "registration": "VH-QXB", "layout": SMALL})
    assert ended(saga) == "undone"


def test_undoing_a_layout_without_an_aircraft_names_none() -> None:
    """The cabin before is given back as it was known."""
    data = {**SUBSTITUTE, "was": {}, "layout_was": LAYOUT}
    plan = {step.name: step for step in KINDS["aircraft_substitution"].plan("s1", data)}
    assert plan["lay out"].undo == {
        "do": "command", "stream": "flight:QX1.seats", "type": "relayout", "body": {"layout": LAYOUT},
    }  # fmt: skip


def test_what_can_never_be_told_is_left_out() -> None:
    """A passenger without an inbox, or with one that is none, keeps no saga from its end."""
    saga = Saga("seat_swap", "s1", {**SWAP, "found": {"a": {}, "b": {}}}, NOW_MS + 1)
    marks = dict.fromkeys(("look at a", "look at b", "a out", "b out", "b in", "a in"), "done")
    saga, move = next_move(KINDS["seat_swap"], "demo", Saga("seat_swap", "s1", saga.data, NOW_MS + 1, marks))  # type: ignore[arg-type]  # marks
    assert move is not None
    saga, then = take(saga, move, Never("no inbox"))
    assert (then.what, saga.marks["tell a"]) == ("next", "skipped")


def test_steps_have_names_of_their_own() -> None:
    """No two steps of a saga share a name, so that a mark says of one step what became of it."""
    for kind, data in (("cancel_and_rebook", REBOOK), ("seat_swap", SWAP), ("aircraft_substitution", SUBSTITUTE)):
        saga, _ = run(Airline(), kind, data)
        names = [step.name for step in KINDS[kind].plan("s1", saga.data)]
        assert len(names) == len(set(names))


def test_turned_sagas_say_why() -> None:
    """The reason is kept, shortened where it is long."""
    assert len(turned(Saga("seat_swap", "s1", SWAP, 0), "x" * 1_000).why) == 300


P = [{"id": "p1"}]


@pytest.mark.parametrize(
    ("kind", "key", "data", "says"),
    [
        ("dance", "k", {}, "there is no saga 'dance'; there are cancel_and_rebook"),
        ("seat_swap", "two words", SWAP, "`key` must be"),
        ("seat_swap", "k" * 49, SWAP, "`key` must be"),
        ("seat_swap", "k", [], "`data` must be an object"),
        ("cancel_and_rebook", "k", {"flight": "no/name", "to": "QX2"}, "`flight` is a flight's name"),
        ("cancel_and_rebook", "k", {"flight": "QX1"}, "`to` is a flight's name"),
        ("cancel_and_rebook", "k", {"flight": "QX1", "to": "QX2", "passengers": P}, "`why` must be a line"),
        ("cancel_and_rebook", "k", {**REBOOK, "to": "QX1"}, "`to` must be another flight"),
        ("cancel_and_rebook", "k", {**REBOOK, "passengers": []}, "`passengers` must be a list"),
        ("cancel_and_rebook", "k", {**REBOOK, "passengers": P * (PASSENGERS_MAX + 1)}, "start more sagas"),
        ("cancel_and_rebook", "k", {**REBOOK, "passengers": P * 2}, "names somebody twice"),
        ("cancel_and_rebook", "k", {**REBOOK, "passengers": ["p1"]}, "each passenger is an object"),
        ("cancel_and_rebook", "k", {**REBOOK, "passengers": [{"id": "p1", "seat": 1}]}, "the `seat` asked for p1"),
        ("cancel_and_rebook", "k", {**REBOOK, "passengers": [{"id": "p1", "inbox": "chat:a"}]}, "the `inbox` of p1"),
        ("cancel_and_rebook", "k", {**REBOOK, "crew": "c1"}, "`crew` must be a list"),
        ("cancel_and_rebook", "k", {**REBOOK, "crew": ["c1", "c1"]}, "`crew` must be different ids"),
        ("cancel_and_rebook", "k", {**REBOOK, "refund": "user:desk"}, "`refund` must be"),
        ("cancel_and_rebook", "k", {**REBOOK, "refund": {"url": "http://plain"}}, "`refund` must be"),
        ("cancel_and_rebook", "k", {**REBOOK, "refunds": {}}, "there is no `refunds` here; the fields are flight, to"),
        ("cancel_and_rebook", "k", {**REBOOK, "passengers": [{"id": "p1", "set": "1A"}]}, "p1: there is no `set` here"),
        ("seat_swap", "k", {"a": SWAP["a"]}, "`b` must be {flight, passenger, inbox?}"),
        ("seat_swap", "k", {**SWAP, "b": {"flight": "QX2"}}, "`b` must be {flight, passenger, inbox?}"),
        ("seat_swap", "k", {**SWAP, "b": {**SWAP["b"], "flight": "no/name"}}, "`b`: `flight` is a flight's name"),
        ("seat_swap", "k", {**SWAP, "b": {**SWAP["b"], "seat": "1A"}}, "`b`: there is no `seat` here"),
        ("seat_swap", "k", {**SWAP, "b": {**SWAP["b"], "inbox": "bob"}}, "`b`: the `inbox` is a user"),
        ("seat_swap", "k", {**SWAP, "found": {}}, "there is no `found` here; the fields are a, b"),
        ("seat_swap", "k", {**SWAP, "b": {**SWAP["b"], "flight": "QX1"}}, "by the command `swap`"),
        ("seat_swap", "k", {**SWAP, "b": {**SWAP["b"], "passenger": "p1"}}, "between two passengers"),
        ("aircraft_substitution", "k", {"flight": "QX1"}, "`registration` is the aircraft's"),
        ("aircraft_substitution", "k", {**SUBSTITUTE, "layout": []}, "`layout` must be"),
        ("aircraft_substitution", "k", {**SUBSTITUTE, "layout": "1:AA"}, "`layout` has seats twice: 1A"),
        ("aircraft_substitution", "k", {**SUBSTITUTE, "was": {}}, "there is no `was` here"),
        ("aircraft_substitution", "k", {**SUBSTITUTE, "type": 7}, "`type` must be"),
        ("aircraft_substitution", "k", {**SUBSTITUTE, "inboxes": {"p1": "amy"}}, "`inboxes` must name"),
    ],
)
def test_what_cannot_be_started(kind: str, key: str, data: object, says: str) -> None:
    """Whoever starts a saga is told which field is wrong, and what it should be."""
    assert says in problem(kind, key, data)


def test_crew_that_is_taken_back_has_the_duty_that_it_had() -> None:
    """One that is assigned regularly is held to other paragraphs: as any other it might not be legal."""
    airline = Airline()
    duty = {
        "flight": "QX1", "role": "captain", "block_minutes": 90, "from": "SYD", "to": "MEL", "regular": True,
        "report_at": "2026-11-21T07:00:00.000Z", "release_at": "2026-11-21T20:30:00.000Z",
        "off_block": "2026-11-21T08:00:00.000Z", "on_block": "2026-11-21T09:30:00.000Z",
    }  # fmt: skip
    airline.give("flight:crew.c2", "assign", duty)
    before = airline.show("flight:crew.c2")["duties"]
    _, moves = run(Airline(), "cancel_and_rebook", REBOOK)
    saga, _ = run(airline, "cancel_and_rebook", REBOOK, turn_at=moves)
    assert (ended(saga), airline.show("flight:crew.c2")["duties"]) == ("undone", before)
    assert (before[0]["regular"], before[0]["on_block"]) == (True, duty["on_block"])


def test_who_left_an_overbooked_flight_can_always_come_back() -> None:
    """With fewer seats than people nobody more is taken, and so no other in exchange; but they were there before."""
    airline = Airline()
    airline.give("flight:QX1.seats", "relayout", {"layout": "1:AB"})
    before = airline.who_sits()
    saga, _ = run(airline, "seat_swap", SWAP)
    assert (ended(saga), airline.who_sits()) == ("undone", before)
    assert "full" in saga.why
