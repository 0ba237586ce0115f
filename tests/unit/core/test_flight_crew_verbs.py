"""core.flight.crew_verbs: a roster is legal when it is made, and what is legal next is what the day leaves."""

from __future__ import annotations

from typing import Any

import pytest

from core.flight.crew import CREW
from core.flight.crew_verbs import DUTIES_MAX
from core.flight.ledger import evolve
from core.flight.machine import Fact, Malformed, Recorded
from tests.crew_desk import NOW, ON, SICK, WHO, A, Told, at_hour, crew_desk, duty_of
from tests.flight_desk import Desk, ms

CAO = {"pack": "cao48"}


DAILY: tuple[Told, ...] = tuple(
    ("assign", duty_of(f"F{day}", 24 * day, 2)) for day in range(28) if day not in (3, 6, 13, 17, 20, 27)
)


REFUSALS: list[tuple[str, str, tuple[Told, ...], dict[str, Any], float, dict[str, Any]]] = [
    ("register", "unchanged", (), WHO, 0, {}),
    ("pack", "unchanged", (), {"pack": "far135"}, 0, {}),
    ("assign", "unchanged", (A,), A[1], 0, {}),
    ("assign", "impossible_time", (), duty_of("A", 24 * 500, 8), 0, {}),
    ("assign", "unqualified", (), duty_of("A", 0, 8, role="purser"), 0, {}),
    ("assign", "unqualified", (), duty_of("A", 0, 8, type="A320"), 0, {}),
    ("assign", "unqualified", (), duty_of("A", 0, 8), 0, {"valid_until": {"medical": at_hour(7)}}),
    ("assign", "absent", (SICK,), duty_of("A", 20, 8), 0, {}),
    ("assign", "overlaps", (A,), duty_of("B", 7, 4), 0, {}),
    ("assign", "over_flight_time", (), duty_of("A", 0, 12, 601), 0, {}),
    ("assign", "over_duty", (), duty_of("A", 15, 13.1), 0, CAO),
    ("assign", "too_little_rest", (A,), duty_of("B", 17, 8), 0, {}),
    ("assign", "too_few_days_off", DAILY, duty_of("X", 24 * 17, 2), 0, CAO),
    ("assign", "not_covered", (), duty_of("A", 0, 8, crew_of=3), 0, {}),
    ("release", "no_such_duty", (), {"flight": "A", "why": "sick"}, 0, {}),
    ("release", "wrong_state", (A, ON), {"flight": "A", "why": "sick"}, 0, {}),
    ("acknowledge", "no_such_duty", (), {"flight": "A"}, 0, {}),
    ("acknowledge", "unchanged", (A, ("acknowledge", {"flight": "A"})), {"flight": "A"}, 0, {}),
    ("report", "no_such_duty", (), {"flight": "A"}, 0, {}),
    ("report", "unchanged", (A, ON), {"flight": "A"}, 0, {}),
    ("report", "impossible_time", (A,), {"flight": "A", "at": at_hour(1)}, 0, {}),
    ("report", "impossible_time", (A,), {"flight": "A"}, 9, {}),
    ("off", "no_such_duty", (), {"flight": "A"}, 0, {}),
    ("off", "wrong_state", (A,), {"flight": "A"}, 0, {}),
    ("off", "impossible_time", (A, ON), {"flight": "A"}, 0, {}),
    ("off", "impossible_time", (A, ON), {"flight": "A", "at": at_hour(9)}, 8, {}),
    ("off", "impossible_time", (A, ON), {"flight": "A", "block_minutes": 500}, 8, {}),
    ("extend", "no_such_duty", (), {"flight": "A", "release_at": at_hour(9), "why": "fog"}, 0, {}),
    ("extend", "unchanged", (A,), {"flight": "A", "release_at": at_hour(8), "why": "fog"}, 0, {}),
    ("extend", "impossible_time", (A,), {"flight": "A", "release_at": at_hour(7), "why": "fog"}, 0, {}),
    ("extend", "over_duty", (A,), {"flight": "A", "release_at": at_hour(16), "why": "fog"}, 0, CAO),
    ("leave", "unchanged", (SICK,), SICK[1], 0, {}),
    ("leave", "impossible_time", (), {"from": at_hour(24 * 500), "to": at_hour(24 * 501), "kind": "leave"}, 0, {}),
    ("leave", "overlaps", (SICK,), {"from": at_hour(40), "to": at_hour(60), "kind": "leave"}, 0, {}),
    ("leave", "has_duties", (A,), {"from": at_hour(7), "to": at_hour(60), "kind": "leave"}, 0, {}),
    ("return", "unchanged", (SICK,), {"from": at_hour(24), "at": at_hour(48)}, 0, {}),
    ("return", "not_absent", (SICK,), {}, 0, {}),
]


OWN = {
    ("assign", "full"),
    ("off", "unchanged"),
    ("report", "wrong_state"),
    ("report", "too_little_rest"),
    ("extend", "wrong_state"),
    ("extend", "over_flight_time"),
}


PLAIN: dict[str, dict[str, Any]] = {
    "pack": {"pack": "cao48"},
    "assign": A[1],
    "release": {"flight": "A", "why": "so"},
    "extend": {"flight": "A", "release_at": at_hour(9), "why": "fog"},
    "leave": SICK[1],
    "return": {},
}


@pytest.mark.parametrize(("verb", "reason", "told", "body", "later_h", "who"), REFUSALS)
def test_refusals(
    verb: str, reason: str, told: tuple[Told, ...], body: dict[str, Any], later_h: float, who: dict[str, Any]
) -> None:
    """Each reason of the table comes about, and nothing changes by it."""
    desk = crew_desk(*told, later_h=later_h, **who)
    before = desk.show()
    assert desk.refused(verb, **body) == reason
    assert desk.show() == before


def test_every_refusal_of_the_table_is_reached() -> None:
    """With those that have tests of their own."""
    listed = {(rule.verb, reason) for rule in CREW.table.values() for reason in rule.refusals}
    reached = {(verb, reason) for verb, reason, *_ in REFUSALS}
    assert reached == listed - OWN - {(verb, "not_registered") for verb in CREW.table}


def test_a_refusal_cites_the_paragraph() -> None:
    """With the figures, and what else would be broken."""
    decision = crew_desk(A).ask("assign", **duty_of("B", 15, 12, 620))
    assert not isinstance(decision, list | Malformed)
    assert decision.reason == "over_flight_time"
    assert getattr(decision, "cite", "") == "14 CFR 135.267(b)(2)"
    assert "B would make" in decision.message
    assert "at least 10 h are required (14 CFR 135.267(d))" in decision.message


def test_commands_that_are_none() -> None:
    """What is wrong is told by its field."""
    desk = crew_desk()
    assert "assign, release" in desk.malformed("fly")
    assert "`report_at`" in desk.malformed("assign", flight="A", role="captain")
    assert "`release_at` must be after" in desk.malformed("assign", **duty_of("A", 8, 0))
    assert "`release_at` must be after" in desk.malformed("assign", **duty_of("A", 8, 37))
    assert "`block_minutes` must be within" in desk.malformed("assign", **duty_of("A", 0, 8, 481))
    assert "`off_block` and `on_block`" in desk.malformed("assign", **duty_of("A", 0, 8, on_block=at_hour(9)))
    assert "`zone` must be given, since NOWHERE" in desk.malformed(
        "assign", **duty_of("A", 0, 8, **{"from": "NOWHERE"})
    )
    assert "`zone` is no zone that is known: Mars/X" in desk.malformed("register", **WHO, zone="Mars/X")
    assert "`roles`" in desk.malformed("register", base="BNE", pack="far135")
    assert "`pack` must be one of far135, cao48" in desk.malformed("register", **WHO | {"pack": "easa"})
    for bad in (7, {"medical": "soon"}, {"": NOW}, {f"q{n}": NOW for n in range(21)}):
        assert "`valid_until`" in desk.malformed("register", **WHO, valid_until=bad)
    assert "`to` must be after" in desk.malformed("leave", kind="sick", **{"from": at_hour(2), "to": at_hour(1)})
    assert "`kind` must be one of leave" in desk.malformed(
        "leave", kind="fishing", **{"from": at_hour(1), "to": at_hour(2)}
    )


@pytest.mark.parametrize("verb", sorted(CREW.table))
@pytest.mark.parametrize("junk", [None, True, -1, 10**30, "", "x y", [], {"id": []}, "9999-12-31T23:59:59Z"])
def test_no_body_makes_it_raise(verb: str, junk: object) -> None:
    """Whatever the fields hold, there is an answer."""
    names = ("flight", "role", "report_at", "release_at", "block_minutes", "crew_of", "sectors", "from", "to", "zone")
    more = (
        "regular",
        "off_block",
        "on_block",
        "at",
        "why",
        "base",
        "name",
        "roles",
        "types",
        "pack",
        "valid_until",
        "kind",
    )
    for desk in (crew_desk(A), Desk(CREW)):
        desk.ask(verb, **{"as_role": "owner", **dict.fromkeys((*names, *more), junk)})
        desk.ask(verb, **{"as_role": "owner", **dict.fromkeys((*names, *more), junk), "flight": "A"})


def test_registering() -> None:
    """The zone is the base's unless it is given; said again with something else, that holds."""
    desk = Desk(CREW)
    (fact,) = desk.done("register", name="Ann", valid_until={"medical": "2027-01-01T10:00:00+10:00"}, **WHO)
    assert fact.body == {
        **WHO,
        "name": "Ann",
        "zone": "Australia/Brisbane",
        "valid_until": {"medical": "2027-01-01T00:00:00.000Z"},
    }
    desk.done("register", base="HQ", zone="Europe/Oslo", roles=["captain"], pack="far135")
    shown = desk.show()
    assert (shown["base"], shown["zone"], shown["types"], "name" in shown) == ("HQ", "Europe/Oslo", [], False)
    desk.done("pack", pack="cao48")
    assert desk.show()["pack"] == "cao48"


def test_a_duty_as_a_fact() -> None:
    """With the zone where it begins and whether it ends at home, so that it folds without any data of airports."""
    desk = crew_desk()
    body = duty_of("A", 0, 8, 300, **{"from": "OSL", "to": "BNE"}, type="B738", regular=True, sectors=3, crew_of=1)
    (fact,) = desk.done("assign", **body, off_block=at_hour(1), on_block=at_hour(7))
    assert fact.body == body | {
        "report_at": "2026-11-21T06:00:00.000Z",
        "release_at": "2026-11-21T14:00:00.000Z",
        "off_block": "2026-11-21T07:00:00.000Z",
        "on_block": "2026-11-21T13:00:00.000Z",
        "zone": "Europe/Oslo",
        "home": True,
        "pack": "far135",
    }
    assert desk.state.entries[0].duty.zone == "Europe/Oslo"
    assert desk.done("assign", **duty_of("B", 30, 4, to="OSL", zone="UTC"))[0].body["home"] is False
    assert "type" not in desk.events[-1].body
    assert desk.events[-1].body["zone"] == "UTC"


def test_a_day_as_it_was() -> None:
    """Reported late, off later still: the times that were hold for what comes next."""
    desk = crew_desk(A, ("assign", duty_of("B", 18, 6, 60)))
    desk.later(1800)
    desk.done("report", flight="A")
    assert desk.done("extend", flight="A", release_at=at_hour(10), why="fog") == [
        Fact(
            "crew.extended",
            {
                "flight": "A",
                "release_at": at_hour(10),
                "why": "fog",
                "affects": [{"flight": "B", "reason": "too_little_rest", "cite": "14 CFR 135.267(d)"}],
            },
        )
    ]
    desk.now_ms = ms(at_hour(10.5))
    desk.done("off", flight="A", at=at_hour(10), block_minutes=420)
    shown = desk.show()["duties"][0]
    assert shown["report_at"] == at_hour(0.5)
    assert shown["release_at"] == at_hour(10)
    assert shown["planned"] == {"report_at": at_hour(0), "release_at": at_hour(10)}
    assert (shown["status"], shown["block_minutes"], shown["from"]) == ("off", 420, "BNE")
    desk.now_ms = ms(at_hour(18))
    assert desk.refused("report", flight="B") == "too_little_rest"
    desk.now_ms = ms(at_hour(20))
    assert desk.done("report", flight="B", at=at_hour(20))


def test_corrections_supersede() -> None:
    """A report or an end told again with another time is the one that holds."""
    desk = crew_desk(A, later_h=8)
    desk.done("report", flight="A", at=at_hour(0.2))
    desk.done("report", flight="A", at=at_hour(0.1))
    assert desk.state.entries[0].duty.report_ms == ms(at_hour(0.1))
    desk.done("off", flight="A", at=at_hour(7))
    assert desk.refused("off", flight="A", at=at_hour(7)) == "unchanged"
    desk.done("off", flight="A", at=at_hour(7), block_minutes=200)
    assert desk.refused("off", flight="A", at=at_hour(7), block_minutes=200) == "unchanged"
    desk.done("off", flight="A", at=at_hour(7.5))
    assert desk.show()["duties"][0]["block_minutes"] == 200
    assert desk.refused("report", flight="A") == "wrong_state"
    assert desk.refused("extend", **PLAIN["extend"]) == "wrong_state"


def test_extending_into_the_next() -> None:
    """Duties that begin before it would end are named; those that have begun before it, or days later, are not."""
    desk = crew_desk(
        A, ("assign", duty_of("B", 9, 3)), ("assign", duty_of("Z", 80, 3)), ("assign", duty_of("Y", -48, 3))
    )  # fmt: skip
    (fact,) = desk.done("extend", flight="A", release_at=at_hour(10), why="fog")
    assert fact.body["affects"] == [{"flight": "B", "reason": "overlaps"}]
    desk = crew_desk(A, ("assign", duty_of("B", 30, 3)))
    assert desk.done("extend", flight="A", release_at=at_hour(10), why="fog")[0].body["affects"] == []


def test_extending_past_the_flight_time_of_a_period() -> None:
    """Where the pack bounds that in one period, as CAO 48.1 does, too much that was recorded cannot be made longer."""
    flown = Fact("crew.assigned", duty_of("A", 0, 12, 700))
    desk = crew_desk(pack="cao48")
    desk.record([flown])
    assert desk.refused("extend", flight="A", release_at=at_hour(12.5), why="fog") == "over_flight_time"


def test_absence_and_return() -> None:
    """An absence ends early, or is taken back before it begins; then it bars nothing."""
    desk = crew_desk(SICK)
    desk.later(30 * 3600)
    (fact,) = desk.done("return")
    assert fact.body == {"from": at_hour(24), "at": at_hour(30), "kind": "sick"}
    assert desk.show()["absences"] == [{"from": at_hour(24), "to": at_hour(30), "kind": "sick"}]
    desk = crew_desk(SICK, ("return", {"from": at_hour(24)}))
    assert desk.show()["absences"] == []
    assert desk.done("assign", **duty_of("A", 24, 8))
    desk = crew_desk(SICK, ("leave", {"from": at_hour(48), "to": at_hour(72), "kind": "leave"}))
    assert [one["kind"] for one in desk.show()["absences"]] == ["sick", "leave"]
    desk.done("return", **{"from": at_hour(48), "at": at_hour(50)})
    assert desk.show()["absences"][1]["to"] == at_hour(50)


def test_duties_around_an_absence() -> None:
    """Before it, after it, and while what is needed for it still holds."""
    desk = crew_desk(SICK, valid_until={"medical": at_hour(80)})
    assert desk.done("assign", **duty_of("A", 16, 8))
    assert desk.done("assign", **duty_of("B", 48, 8))
    assert desk.refused("assign", **duty_of("C", 75, 8)) == "unqualified"


def test_releasing() -> None:
    """The roster has it no more; another with its name can be assigned."""
    desk = crew_desk(A, ("assign", duty_of("B", 24, 4)))
    desk.done("release", flight="A", why="aircraft change")
    assert [duty["flight"] for duty in desk.show()["duties"]] == ["B"]
    assert desk.done(*A[:1], **A[1])


def test_a_ledger_has_an_end() -> None:
    """More duties than can be in two years are somebody's mistake."""
    desk = crew_desk()
    entry = evolve(desk.state, Recorded(2, "crew.assigned", "user:ann", desk.now_ms, duty_of("A", 0, 1))).entries[0]
    full = desk.state.copy()
    full.by_flight = dict.fromkeys(map(str, range(DUTIES_MAX)), entry)
    desk.state = full
    assert desk.refused("assign", **duty_of("B", 24, 1)) == "full"


def test_a_duty_that_ends_before_its_flight_time_would_says_what_that_was() -> None:
    """A flight that came back to the gate: what was planned was not flown, and would count against every limit."""
    desk = crew_desk(A, ON, later_h=1)
    assert desk.refused("off", flight="A") == "impossible_time"
    desk.done("off", flight="A", block_minutes=0)
    assert desk.show()["duties"][0]["block_minutes"] == 0


@pytest.mark.parametrize("verb", sorted(CREW.table.keys() - {"register"}))
def test_nothing_is_told_of_somebody_who_is_not_registered(verb: str) -> None:
    """Whatever it is; and who that would be is said by `register`."""
    assert Desk(CREW, NOW).refused(verb, **PLAIN.get(verb, {"flight": "A"})) == "not_registered"
