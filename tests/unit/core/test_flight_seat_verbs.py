"""core.flight.seat_verbs: who has which seat is decided here, and whoever is refused is told why and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from core.flight import times
from core.flight.cabin import PASSENGERS_MAX, Cabin
from core.flight.machine import BY_GATEWAY, Command, Fact, Malformed, Recorded, Refusal
from core.flight.seat_verbs import EXPIRED_AT_ONCE
from core.flight.seats import SEATS
from core.model import FACTS_MAX
from tests.flight_desk import Desk

Told = tuple[str, dict[str, Any]]


def _desk(*told: Told, layout: str = "1-2:AB", overbooking: int = 0) -> Desk[Cabin]:
    desk = Desk(SEATS)
    desk.done("open", flight="QX1", layout=layout, overbooking=overbooking)
    for verb, body in told:
        desk.done(verb, **body)
    return desk


def _who(who: str, **more: Any) -> dict[str, Any]:
    return {"passenger": who, **more}


BOOKED: Told = ("book", _who("p1"))


SEATED: Told = ("assign", _who("p1", seat="1A"))


CHECKED: Told = ("check_in", _who("p1"))


BOARDED: Told = ("board", _who("p1"))


ON_BOARD = (BOOKED, SEATED, CHECKED, BOARDED)


OFF: Told = ("offload", _who("p1", why="no show"))


SECOND: tuple[Told, ...] = (("book", _who("p2")), ("assign", _who("p2", seat="1B")))


HELD: Told = ("hold", _who("p1", seat="1A", for_s=60))


OTHERS: Told = ("hold", _who("p2", seat="1A", for_s=60))


BLOCKED: Told = ("block", {"seats": ["1A"], "why": "broken"})


CLOSED: Told = ("close", {})


FUTURE = "2026-11-22T06:00:00Z"


OUT: Told = ("transfer_out", _who("p1", to="QX2", saga="s1"))


IN: Told = ("transfer_in", _who("p1", saga="s1", **{"from": "QX2"}))


FULL: tuple[Told, ...] = tuple(("book", _who(f"q{n}")) for n in range(4))


REFUSALS: list[tuple[str, str, tuple[Told, ...], dict[str, Any]]] = [
    ("open", "unchanged", (), {"flight": "QX1", "layout": "1:A"}),
    ("relayout", "unchanged", (), {"layout": "1-2:AB"}),
    ("relayout", "boarded_already", ON_BOARD, {"layout": "2:AB"}),
    ("block", "unchanged", (BLOCKED,), {"seats": ["1A"], "why": "broken"}),
    ("block", "no_such_seat", (), {"seats": ["9A"], "why": "broken"}),
    ("block", "seat_taken", (BOOKED, SEATED), {"seats": ["1A"], "why": "broken"}),
    ("unblock", "unchanged", (), {"seats": ["1A"]}),
    ("book", "duplicate_passenger", (BOOKED,), _who("p1")),
    ("book", "full", FULL, _who("p1")),
    ("hold", "no_such_seat", (), _who("p1", seat="9A", for_s=9)),
    ("hold", "seat_taken", (OTHERS,), _who("p1", seat="1A", for_s=9)),
    ("hold", "blocked", (BLOCKED,), _who("p1", seat="1A", for_s=9)),
    ("hold", "holding_already", (HELD,), _who("p1", seat="1B", for_s=9)),
    ("hold", "impossible_time", (), _who("p1", seat="1A", until="2026-11-21T05:00:00Z")),
    ("assign", "no_such_passenger", (), _who("p1", seat="1A")),
    ("assign", "no_such_seat", (BOOKED,), _who("p1", seat="9A")),
    ("assign", "seat_taken", (BOOKED, *SECOND), _who("p1", seat="1B")),
    ("assign", "blocked", (BOOKED, BLOCKED), _who("p1", seat="1A")),
    ("assign", "wrong_state", (BOOKED, OFF), _who("p1", seat="1A")),
    ("assign", "no_hold", (BOOKED,), _who("p1")),
    ("assign", "unchanged", (BOOKED, SEATED), _who("p1", seat="1A")),
    ("assign", "seated_already", (BOOKED, SEATED), _who("p1", seat="1B")),
    ("change", "no_such_passenger", (), _who("p1", seat="1A")),
    ("change", "no_such_seat", (BOOKED, SEATED), _who("p1", seat="9A")),
    ("change", "seat_taken", (BOOKED, SEATED, *SECOND), _who("p1", seat="1B")),
    ("change", "blocked", (BOOKED, ("assign", _who("p1", seat="2A")), BLOCKED), _who("p1", seat="1A")),
    ("change", "no_seat", (BOOKED,), _who("p1", seat="1A")),
    ("change", "unchanged", (BOOKED, SEATED), _who("p1", seat="1A")),
    ("change", "boarded_already", ON_BOARD, _who("p1", seat="1B")),
    ("swap", "no_such_passenger", (BOOKED, SEATED), {"a": "p1", "b": "p2"}),
    ("swap", "no_seat", (BOOKED, *SECOND), {"a": "p1", "b": "p2"}),
    ("swap", "unchanged", (BOOKED, SEATED), {"a": "p1", "b": "p1"}),
    ("swap", "boarded_already", (*ON_BOARD, *SECOND), {"a": "p2", "b": "p1"}),
    ("release", "no_such_passenger", (), _who("p1")),
    ("release", "unchanged", (BOOKED,), _who("p1")),
    ("release", "boarded_already", ON_BOARD, _who("p1")),
    ("expire", "unchanged", (HELD,), {}),
    ("cancel", "no_such_passenger", (), _who("p1")),
    ("cancel", "boarded_already", ON_BOARD, _who("p1")),
    ("check_in", "no_such_passenger", (), _who("p1")),
    ("check_in", "impossible_time", (BOOKED,), _who("p1", at=FUTURE)),
    ("check_in", "unchanged", (BOOKED, CHECKED), _who("p1")),
    ("check_in", "boarded_already", ON_BOARD, _who("p1")),
    ("check_in", "wrong_state", (BOOKED, OFF), _who("p1")),
    ("board", "no_such_passenger", (), _who("p1")),
    ("board", "impossible_time", (BOOKED, SEATED, CHECKED), _who("p1", at=FUTURE)),
    ("board", "boarded_already", ON_BOARD, _who("p1")),
    ("board", "no_seat", (BOOKED, CHECKED), _who("p1")),
    ("board", "not_checked_in", (BOOKED, SEATED), _who("p1")),
    ("deboard", "no_such_passenger", (), _who("p1", why="ill")),
    ("deboard", "impossible_time", ON_BOARD, _who("p1", why="ill", at=FUTURE)),
    ("deboard", "not_boarded", (BOOKED,), _who("p1", why="ill")),
    ("offload", "no_such_passenger", (), _who("p1", why="ill")),
    ("offload", "impossible_time", ON_BOARD, _who("p1", why="ill", at=FUTURE)),
    ("offload", "unchanged", (BOOKED, OFF), _who("p1", why="ill")),
    ("transfer_out", "no_such_passenger", (), OUT[1]),
    ("transfer_out", "unchanged", (BOOKED, OUT), OUT[1]),
    ("transfer_out", "boarded_already", ON_BOARD, OUT[1]),
    ("transfer_out", "impossible_time", (BOOKED,), OUT[1] | {"keep_for": "p2", "until": "2026-11-21T05:00:00Z"}),
    (
        "transfer_out",
        "holding_already",
        (BOOKED, SEATED, ("hold", _who("p2", seat="2A", for_s=9))),
        OUT[1] | {"keep_for": "p2"},
    ),
    ("transfer_in", "unchanged", (IN,), IN[1]),
    ("transfer_in", "duplicate_passenger", (BOOKED,), IN[1]),
    ("transfer_in", "full", FULL, IN[1]),
    ("transfer_in", "no_such_seat", (), IN[1] | {"seat": "9A"}),
    ("transfer_in", "seat_taken", SECOND, IN[1] | {"seat": "1B"}),
    ("transfer_in", "blocked", (BLOCKED,), IN[1] | {"seat": "1A"}),
    ("close", "unchanged", (CLOSED,), {}),
    ("reopen", "unchanged", (), {}),
]


@pytest.mark.parametrize(("verb", "reason", "told", "body"), REFUSALS)
def test_refusals(verb: str, reason: str, told: tuple[Told, ...], body: dict[str, Any]) -> None:
    """Each reason of the table comes about, and nothing changes by it."""
    desk = _desk(*told)
    before = desk.show()
    assert desk.refused(verb, **body) == reason
    assert desk.show() == before


def test_every_refusal_of_the_table_is_reached() -> None:
    """With those that every verb shares (`not_open`, `closed`) and the hold that ran out, which have tests of their own."""
    listed = {(rule.verb, reason) for rule in SEATS.table.values() for reason in rule.refusals}
    own = {(verb, reason) for verb, reason in listed if reason in ("not_open", "closed")} | {("assign", "hold_expired")}
    assert {(verb, reason) for verb, reason, _, _ in REFUSALS} == listed - own


@pytest.mark.parametrize("verb", sorted(SEATS.table))
@pytest.mark.parametrize("junk", [None, True, -1, "", "x y", [], {"id": []}, 1e300])
def test_no_body_makes_it_raise(verb: str, junk: object) -> None:
    """Whatever the fields hold, there is an answer."""
    names = (
        "flight",
        "layout",
        "seats",
        "why",
        "passenger",
        "seat",
        "until",
        "for_s",
        "a",
        "b",
        "at",
        "to",
        "from",
        "saga",
    )
    for desk in (_desk(), Desk(SEATS)):
        desk.ask(verb, **dict.fromkeys(names, junk))
        desk.ask(verb, **dict.fromkeys(names[1:], junk), flight="QX1")


def test_a_refusal_says_nothing_of_who_has_the_seat() -> None:
    """The other passenger's id is personal data of theirs."""
    desk = _desk(
        ("book", {"passenger": {"id": "secret-7", "name": "Bob"}}), ("assign", _who("secret-7", seat="1A")), BOOKED
    )
    desk.done("hold", **_who("secret-8", seat="1B", for_s=60))
    for seat in ("1A", "1B"):
        decision = desk.ask("assign", **_who("p1", seat=seat))
        assert "secret" not in str(decision)
        assert "Bob" not in str(decision)


def test_of_a_person_an_id_and_a_name_are_kept() -> None:
    """Whatever else a booking says of them is dropped before it is an event."""
    desk = _desk()
    facts = desk.done("book", passenger={"id": "p1", "name": "Ann", "passport": "X123", "born": "1990-01-01"})
    assert facts == [Fact("seat.booked", {"passenger": "p1", "name": "Ann"})]


def test_a_day_of_a_passenger() -> None:
    """Booked, held, assigned, checked in, moved, on board, off again, and gone."""
    desk = _desk(BOOKED, HELD, ("assign", _who("p1")), CHECKED)
    assert desk.show()["passengers"]["p1"] == {"status": "checked_in", "seat": "1A"}
    assert desk.done("change", **_who("p1", seat="2b")) == [
        Fact("seat.assigned", {"seat": "2B", "passenger": "p1", "from": "1A"})
    ]
    desk.done("board", **_who("p1", at="2026-11-21T05:59:00Z"))
    assert desk.show()["seats"]["2B"]["status"] == "boarded"
    desk.done("deboard", **_who("p1", why="ill"))
    assert desk.show()["passengers"]["p1"] == {"status": "checked_in", "seat": "2B"}
    desk.done("offload", **_who("p1", why="ill"))
    assert desk.show()["passengers"]["p1"] == {"status": "offloaded"}
    assert desk.show()["counts"]["free"] == 4
    desk.done("book", **_who("p1"))
    assert desk.show()["passengers"]["p1"] == {"status": "booked"}
    desk.done("cancel", **_who("p1", why="refund"))
    assert desk.show()["passengers"] == {}


def test_offloading_who_has_no_seat() -> None:
    """There is none to say in the fact."""
    desk = _desk(BOOKED)
    assert "seat" not in desk.done("offload", **_who("p1", why="no show"))[0].body
    desk = _desk(BOOKED, SEATED)
    assert desk.done("offload", **_who("p1", why="no show"))[0].body["seat"] == "1A"
    desk = _desk(BOOKED, SEATED)
    assert desk.done("cancel", **_who("p1"))[0].body == {"passenger": "p1", "seat": "1A"}


def test_leaving_gives_up_what_was_held() -> None:
    """Who is off the manifest holds nothing."""
    desk = _desk(BOOKED, HELD, ("cancel", _who("p1")))
    assert desk.show()["counts"]["free"] == 4


def test_two_change_seats() -> None:
    """In one fact, so that there is no moment in which one has none."""
    desk = _desk(BOOKED, SEATED, *SECOND)
    desk.done("swap", a="p1", b="p2")
    assert {seat: was.get("passenger") for seat, was in desk.show()["seats"].items()} == {
        "1A": "p2",
        "1B": "p1",
        "2A": None,
        "2B": None,
    }


def test_a_hold_ends_by_itself() -> None:
    """At its time the seat is anybody's, and that it was held is recorded when somebody takes it."""
    desk = _desk(("book", _who("p2")), HELD)
    desk.later(59.999)
    assert desk.refused("assign", **_who("p2", seat="1A")) == "seat_taken"
    desk.later(0.001)
    released, assigned = desk.done("assign", **_who("p2", seat="1A"))
    assert released.body == {"seat": "1A", "passenger": "p1", "why": "expired", "until": "2026-11-21T06:01:00.000Z"}
    assert assigned.body == {"seat": "1A", "passenger": "p2"}


def test_whose_hold_ran_out_is_told_so() -> None:
    """The seat may still be free; naming it takes it."""
    desk = _desk(BOOKED, HELD)
    desk.later(60)
    assert desk.refused("assign", **_who("p1")) == "hold_expired"
    assert [fact.type for fact in desk.done("assign", **_who("p1", seat="1A"))] == ["seat.released", "seat.assigned"]


def test_a_hold_is_renewed_and_moved() -> None:
    """By who has it; another seat only once it has run out or was given up."""
    desk = _desk(HELD)
    desk.done("hold", **_who("p1", seat="1A", for_s=120))
    assert desk.show()["seats"]["1A"]["until"] == "2026-11-21T06:02:00.000Z"
    desk.later(120)
    assert [fact.type for fact in desk.done("hold", **_who("p1", seat="1B", for_s=9))][:2] == [
        "seat.released",
        "seat.held",
    ]
    assert desk.show()["counts"]["held"] == 1
    assert [fact.body["why"] for fact in desk.done("release", **_who("p1"))] == ["given up"]
    assert desk.show()["counts"]["held"] == 0


def test_a_hold_has_a_longest_time() -> None:
    """A week; what is kept for good is assigned."""
    desk = _desk()
    assert desk.refused("hold", **_who("p1", seat="1A", until="2026-12-21T06:00:00Z")) == "impossible_time"
    assert "`for_s`" in desk.malformed("hold", **_who("p1", seat="1A", for_s=8 * 86_400))
    assert desk.done("hold", **_who("p1", seat="1A", until="2026-11-22T06:00:00+00:00"))


def test_giving_up_both() -> None:
    """The seat somebody has and the one they hold; one that ran out is said to have."""
    desk = _desk(BOOKED, SEATED, ("hold", _who("p1", seat="1B", for_s=60)))
    assert [fact.body["seat"] for fact in desk.done("release", **_who("p1"))] == ["1B", "1A"]
    desk = _desk(HELD)
    desk.later(60)
    assert [fact.body["why"] for fact in desk.done("release", **_who("p1"))] == ["expired"]


def test_one_timer_sees_to_all_holds() -> None:
    """Set for the first that may run out, moved when a sooner one comes, and set anew by `expire` for the next."""

    def due(facts: list[Fact]) -> list[str]:
        return [fact.body["due"][11:19] for fact in facts if fact.type == "timer.set"]

    desk = _desk()
    assert due(desk.done("hold", **_who("p1", seat="1A", for_s=60))) == ["06:01:00"]
    assert due(desk.done("hold", **_who("p2", seat="1B", for_s=90))) == []
    assert due(desk.done("hold", **_who("p3", seat="2A", for_s=30))) == ["06:00:30"]
    desk.later(30)
    facts = desk.done("expire", by=BY_GATEWAY)
    assert [fact.body["seat"] for fact in facts if fact.type == "seat.released"] == ["2A"]
    assert due(facts) == ["06:01:00"]
    desk.done("release", **_who("p1"))
    desk.later(30)
    assert desk.refused("expire") == "unchanged"
    assert due(desk.done("expire", by=BY_GATEWAY)) == ["06:01:30"]
    desk.later(30)
    assert [fact.type for fact in desk.done("expire", by=BY_GATEWAY)] == ["seat.released"]
    assert desk.refused("expire", by=BY_GATEWAY) == "unchanged"


def test_blocking_what_was_held_once() -> None:
    """A hold that ran out is recorded as such; a second seat that is blocked already is no matter."""
    desk = _desk(HELD)
    desk.later(60)
    assert [fact.type for fact in desk.done("block", seats=["1A"], why="broken")] == ["seat.released", "seat.blocked"]
    assert desk.done("block", seats=["1A", "1B"], why="crew rest")[0].body == {"seats": ["1B"], "why": "crew rest"}
    assert desk.done("unblock", seats=["1A", "2A"]) == [Fact("seat.unblocked", {"seats": ["1A"]})]


def test_full_and_overbooked() -> None:
    """As many as there are seats in use, and as many more as the flight may be overbooked by; who does not fly makes room."""
    desk = _desk(("block", {"seats": ["2B"], "why": "broken"}), overbooking=1)
    for n in range(4):
        desk.done("book", **_who(f"p{n}"))
    assert desk.refused("book", **_who("p9")) == "full"
    desk.done("offload", **_who("p0", why="no show"))
    assert desk.done("book", **_who("p9"))
    assert desk.refused("book", **_who("p0")) == "full"


def test_a_manifest_has_an_end() -> None:
    """However many left again."""
    desk = _desk(layout="1-225:ABCD")
    desk.record([Fact("seat.booked", {"passenger": f"p{n}"}) for n in range(2)])
    cabin = SEATS.fold(
        [
            desk.events[0],
            *(
                Recorded(n, f"seat.{what}", "user:ann", 0, {"passenger": f"p{n}"})
                for n in range(PASSENGERS_MAX)
                for what in ("booked", "offloaded")
            ),
        ]
    )
    desk.state = cabin
    assert desk.refused("book", **_who("another")) == "full"
    assert desk.done("book", **_who("p7"))


def test_another_aircraft() -> None:
    """Who lost a seat is listed, with it; so are the holds that are gone."""
    desk = _desk(BOOKED, SEATED, *SECOND, ("hold", _who("p3", seat="2A", for_s=60)))
    (fact,) = desk.done("relayout", layout="1:A 3:AB", registration="VH-OEX")
    assert fact.body["lost"] == [{"passenger": "p2", "seat": "1B"}]
    assert fact.body["unheld"] == ["2A"]
    assert fact.body["registration"] == "VH-OEX"
    assert desk.show()["passengers"] == {"p1": {"status": "booked", "seat": "1A"}, "p2": {"status": "booked"}}
    assert "registration" not in desk.done("relayout", layout="1:A")[0].body


def test_a_swap_across_two_flights() -> None:
    """Each flight keeps the seat for who comes, and every step of the saga is taken once."""
    here = _desk(("book", {"passenger": {"id": "p1", "name": "Ann"}}), SEATED)
    there = _desk(("book", _who("p2")), ("assign", _who("p2", seat="2B")))
    out = here.done("transfer_out", **_who("p1", to="QX2", saga="s1", keep_for="p2"))
    assert out[0].body == {"passenger": "p1", "name": "Ann", "to": "QX2", "saga": "s1", "seat": "1A"}
    assert out[1].body == {"seat": "1A", "passenger": "p2", "until": "2026-11-21T07:00:00.000Z"}
    there.done("transfer_out", **_who("p2", to="QX1", saga="s1", keep_for="p1"))
    assert here.refused("hold", **_who("p9", seat="1A", for_s=9)) == "seat_taken"
    here.done("transfer_in", **{"passenger": "p2", "from": "QX2", "saga": "s1", "seat": "1A"})
    there.done("transfer_in", **{"passenger": {"id": "p1", "name": "Ann"}, "from": "QX1", "saga": "s1", "seat": "2B"})
    assert here.show()["passengers"] == {"p2": {"status": "booked", "seat": "1A"}}
    assert there.show()["passengers"] == {"p1": {"status": "booked", "name": "Ann", "seat": "2B"}}
    assert here.refused("transfer_in", **{"passenger": "p2", "from": "QX2", "saga": "s1", "seat": "1A"}) == "unchanged"
    assert here.refused("transfer_out", **_who("p1", to="QX2", saga="s1")) == "unchanged"


def test_a_transfer_taken_back() -> None:
    """The saga that took a passenger away can bring them back to the seat kept for them."""
    desk = _desk(BOOKED, SEATED)
    desk.done("transfer_out", **_who("p1", to="QX2", saga="s1", keep_for="p1"))
    assert desk.show()["seats"]["1A"]["status"] == "held"
    desk.done("transfer_in", **_who("p1", saga="s1", seat="1A", **{"from": "QX2"}))
    assert desk.show()["passengers"] == {"p1": {"status": "booked", "seat": "1A"}}


def test_keeping_a_seat_for_whose_hold_ran_out() -> None:
    """The old hold is recorded as gone, and the new one stands."""
    desk = _desk(BOOKED, SEATED, ("hold", _who("p2", seat="2A", for_s=60)))
    desk.later(60)
    types = [fact.type for fact in desk.done("transfer_out", **_who("p1", to="QX2", saga="s1", keep_for="p2"))]
    assert types == ["seat.transferred_out", "seat.released", "seat.held"]


def test_what_is_malformed_is_never_a_refusal() -> None:
    """Bad input is told as such even where the state would refuse it too."""
    assert isinstance(Desk(SEATS).ask("book", passenger=7), Malformed)


def test_opening_the_manifest_again() -> None:
    """With a reason where one is given."""
    desk = _desk(CLOSED)
    assert desk.done("reopen", why="late booking") == [Fact("seat.reopened", {"why": "late booking"})]
    assert desk.done("close") == [Fact("seat.closed", {"passengers": 0})]
    assert desk.done("reopen") == [Fact("seat.reopened", {})]


def test_a_whole_cabin_of_holds_runs_out_in_pieces() -> None:
    """One command becomes no more events than the log takes of one; a timer that is due at once sees to the others."""
    desk = Desk(SEATS)
    rows = [{"row": row, "seats": "ABCDEF"} for row in range(1, 31)]
    desk.done("open", flight="QX12", layout={"rows": rows})
    for n in range(150):
        desk.done("hold", seat=f"{n // 6 + 1}{'ABCDEF'[n % 6]}", passenger={"id": f"p{n}"}, for_s=60)
    desk.now_ms += 3_600_000
    released = []
    for _ in range(4):
        facts = desk.done("expire", by=BY_GATEWAY)
        released.append(sum(fact.type == "seat.released" for fact in facts))
        if released[-1] == 48:
            assert facts[-1].type == "timer.set"
            assert facts[-1].body["due"] == times.write(desk.now_ms)
    assert released == [48, 48, 48, 6]
    assert desk.refused("expire", by=BY_GATEWAY) == "unchanged"


def test_who_a_saga_took_away_it_can_bring_back() -> None:
    """Also where all places are booked, as there may be more people than seats; nobody else, and by no other saga."""
    desk = _desk(BOOKED, ("book", _who("p2")), ("book", _who("p3")), layout="1:ABC")
    desk.done("transfer_out", **_who("p1", to="QX2", saga="s1"))
    desk.done("relayout", layout="1:AB")
    for who, saga in (("p1", "s1"), ("p1", "s2~back"), ("p9", "s1~back")):
        assert desk.refused("transfer_in", **_who(who, saga=saga, **{"from": "QX2"})) == "full"
    desk.done("transfer_in", **_who("p1", saga="s1~back", **{"from": "QX2"}))
    assert desk.show()["people"]["passengers"] == 3


@pytest.mark.parametrize("verb", sorted(SEATS.table))
def test_a_body_that_says_nothing_is_answered(verb: str) -> None:
    """What is wrong with it; or, where nothing is, that there is no cabin."""
    answer = SEATS.decide(Cabin(), Command(verb, {}, "user:ann", "owner"), 0)
    assert isinstance(answer, Malformed) or (isinstance(answer, Refusal) and answer.reason == "not_open")


def test_a_cabin_whose_holds_all_ran_out_can_be_blocked_at_once() -> None:
    """A command becomes few events: of more holds than that the rest is recorded as over by the timer, which is due."""
    desk = _desk(layout="1-10:ABCDEFG")
    seats = list(desk.state.layout.seats)
    for n, seat in enumerate(seats):
        desk.done("hold", passenger=f"p{n}", seat=seat, for_s=10)
    desk.later(11)
    facts = desk.done("block", seats=seats, why="a leak")
    assert len(facts) == EXPIRED_AT_ONCE + 1 <= FACTS_MAX
    assert desk.show()["counts"]["blocked"] == len(seats)
    desk.done("expire", by=BY_GATEWAY)
    assert (desk.state.holds, desk.show()["counts"]["blocked"]) == ({}, len(seats))
