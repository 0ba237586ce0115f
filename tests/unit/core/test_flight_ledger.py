"""core.flight.ledger: the ledger of its facts, now and as it was, with what the law leaves."""

from __future__ import annotations

from typing import Any

from core.flight.crew import CREW
from core.flight.duty_time import DAY_MS, HOUR_MS
from core.flight.ledger import FACTS, KEPT_MS, Ledger, evolve, fold
from core.flight.machine import Recorded
from core.flight.times import write
from tests.flight_desk import Desk, ms

Told = tuple[str, dict[str, Any]]


NOW = "2026-11-21T06:00:00Z"


WHO: dict[str, Any] = {"base": "BNE", "roles": ["captain"], "pack": "far135", "types": ["B738"]}


def _at(hours: float) -> str:
    """A time so many hours after now."""
    return write(ms(NOW) + round(hours * HOUR_MS))


def _duty(flight: str, report_h: float, long_h: float, block: int = 0, **more: Any) -> dict[str, Any]:
    times = {"report_at": _at(report_h), "release_at": _at(report_h + long_h)}
    return {"flight": flight, "role": "captain", "block_minutes": block, **times, **more}


def _desk(*told: Told, later_h: float = 0, **who: Any) -> Desk[Ledger]:
    desk = Desk(CREW, NOW)
    desk.done("register", **(WHO | who))
    for verb, body in told:
        desk.done(verb, **body)
    desk.later(later_h * 3600)
    return desk


A: Told = ("assign", _duty("A", 0, 8, 300))


ON: Told = ("report", {"flight": "A"})


OFF: Told = ("off", {"flight": "A", "at": NOW})


SICK: Told = ("leave", {"from": _at(24), "to": _at(48), "kind": "sick"})


def test_flight_time_that_no_longer_fits_is_spread() -> None:
    """Block times that the actual duty does not have in it are forgotten, and kept where it has."""
    times = {"off_block": _at(1), "on_block": _at(7)}
    desk = _desk(("assign", _duty("A", 0, 8, 300, **times)), ON, later_h=8)
    desk.done("off", flight="A", at=_at(7.5))
    assert desk.state.entries[0].duty.on_ms == ms(_at(7))
    assert desk.show()["duties"][0]["off_block"] == _at(1)
    desk.done("off", flight="A", at=_at(6.5))
    assert desk.state.entries[0].duty.on_ms == 0


def test_absence_and_return() -> None:
    """An absence ends early, or is taken back before it begins; then it bars nothing."""
    desk = _desk(SICK)
    desk.later(30 * 3600)
    (fact,) = desk.done("return")
    assert fact.body == {"from": _at(24), "at": _at(30), "kind": "sick"}
    assert desk.show()["absences"] == [{"from": _at(24), "to": _at(30), "kind": "sick"}]
    desk = _desk(SICK, ("return", {"from": _at(24)}))
    assert desk.show()["absences"] == []
    assert desk.done("assign", **_duty("A", 24, 8))
    desk = _desk(SICK, ("leave", {"from": _at(48), "to": _at(72), "kind": "leave"}))
    assert [one["kind"] for one in desk.show()["absences"]] == ["sick", "leave"]
    desk.done("return", **{"from": _at(48), "at": _at(50)})
    assert desk.show()["absences"][1]["to"] == _at(50)


def test_releasing() -> None:
    """The roster has it no more; another with its name can be assigned."""
    desk = _desk(A, ("assign", _duty("B", 24, 4)))
    desk.done("release", flight="A", why="aircraft change")
    assert [duty["flight"] for duty in desk.show()["duties"]] == ["B"]
    assert desk.done(*A[:1], **A[1])


def test_two_years_are_kept() -> None:
    """What is older is counted and summed; absences go."""
    desk = _desk(("assign", _duty("A", -8, 8, 300)), ("leave", {"from": _at(8), "to": _at(32), "kind": "leave"}))
    desk.now_ms += KEPT_MS - HOUR_MS
    desk.done("pack", pack="cao48")
    assert len(desk.state.entries) == 1
    desk.later(24 * 3600)
    desk.done("pack", pack="far135")
    assert desk.show()["past"] == {"duties": 1, "block_minutes": 300, "duty_minutes": 480}
    assert desk.show()["duties"] == []
    assert len(desk.show()["absences"]) == 1
    desk.later(48 * 3600)
    desk.done("pack", pack="cao48")
    assert desk.show()["absences"] == []


def test_what_is_shown_of_the_law() -> None:
    """Totals with their limits, until when the next duty may last, and from when they are rested after the last."""
    desk = _desk(A, ON, ("assign", _duty("B", 30, 6, 60)), later_h=8)
    assert desk.show()["next"] == {
        "flight": "A",
        "report_at": _at(0),
        "legal_until": _at(14),
        "cite": "14 CFR 135.267(d)",
    }
    assert "rested" not in desk.show()
    desk.done("off", flight="A")
    shown = desk.show()
    assert shown["next"]["flight"] == "B"
    assert shown["rested"] == {"after": "A", "from": _at(18), "cite": "14 CFR 135.267(d)"}
    assert shown["totals"][0] == {
        "window": "24 hours",
        "kind": "flight",
        "minutes": 300,
        "limit_minutes": 600,
        "cite": "14 CFR 135.267(b)(2)",
    }
    assert shown["totals"][-1]["least"] == 13
    desk.done("pack", pack="cao48")
    assert desk.show()["totals"][-1] == {
        "window": "28 days",
        "kind": "days off",
        "count": 26,
        "least": 6,
        "cite": "CAO 48.1 Appendix 3, 8.6",
    }
    assert "totals" not in Desk(CREW).show()


def test_rosters_of_the_past() -> None:
    """As it was, by what was known: the report that came in late is in one, and not in the other."""
    desk = _desk(A)
    desk.later(9 * 3600)
    desk.done("report", flight="A", at=_at(0.5))
    then = ms(_at(1))
    assert CREW.fold(desk.events, valid_ms=then).show()["duties"][0]["status"] == "reported"
    assert CREW.fold(desk.events, recorded_ms=then, valid_ms=then).show()["duties"][0]["status"] == "assigned"
    assert CREW.fold(desk.events, valid_ms=ms(_at(0.4))).show()["duties"][0]["status"] == "assigned"
    assert fold(desk.events, valid_ms=ms(NOW) - 1).show()["duties"] == []
    assert CREW.show(CREW.fold(desk.events)) == desk.show()


def test_events_that_are_not_the_ledgers() -> None:
    """Chat, what a later version may write, and facts of duties that are gone change nothing."""
    ledger = _desk(A).state
    assert evolve(ledger, Recorded(9, "chat.message", "user:ann", 0, {"text": "hi"})) is ledger
    assert fold([Recorded(1, "crew.praised", "user:ann", 0, {})]).show()["status"] == "new"
    gone = Recorded(9, "crew.acknowledged", "user:ann", ledger.at_ms, {"flight": "Q"})
    assert evolve(ledger, gone).entries == ledger.entries
    assert all(type.startswith("crew.") for type in FACTS)


def test_a_pack_that_is_no_more_shows_no_law() -> None:
    """A ledger of an older version still folds and is shown."""
    body = {"base": "BNE", "pack": "atlantis"}
    assert "totals" not in fold([Recorded(1, "crew.registered", "user:ann", 0, body)]).show()


def test_a_season_ahead_is_cheap_to_fold() -> None:
    """Two years of duties fold to a state with all of them in order, whatever order they came in."""
    start = ms(NOW)
    events = [
        Recorded(
            n + 1,
            "crew.assigned",
            "user:ann",
            start,
            {
                "flight": f"F{n}",
                "report_at": write(start + at * DAY_MS),
                "release_at": write(start + at * DAY_MS + HOUR_MS),
            },
        )
        for n, at in enumerate([5, 1, 4, 2, 3])
    ]
    assert [entry.duty.flight for entry in fold(events).entries] == ["F1", "F3", "F4", "F2", "F0"]


def test_what_happened_takes_the_place_of_what_was_planned() -> None:
    """Report, a longer duty and its end; what was planned last is kept beside."""
    desk = _desk(A, ON, ("extend", {"flight": "A", "release_at": _at(9), "why": "fog"}), later_h=9.5)
    desk.done("off", flight="A", at=_at(9.2), block_minutes=333)
    shown = desk.show()["duties"][0]
    assert (shown["report_at"], shown["release_at"], shown["block_minutes"]) == (_at(0), _at(9.2), 333)
    assert shown["planned"] == {"report_at": _at(0), "release_at": _at(9)}


def test_a_name_is_shown_where_there_is_one() -> None:
    """And none where there is not."""
    assert _desk(name="Ann").show()["name"] == "Ann"
    assert "name" not in _desk().show()


def test_an_absence_that_was_taken_back_is_so_at_once() -> None:
    """That they will be back sooner, or do not go, is true from when it was said, not from the day that it is about."""
    desk = _desk(SICK)
    desk.done("return", **{"from": _at(24), "at": _at(0)})
    desk.done("leave", **{"from": _at(24), "to": _at(72), "kind": "leave"})
    desk.done("return", **{"from": _at(24), "at": _at(48)})
    now = fold(desk.events, desk.now_ms, desk.now_ms).show()
    assert now == desk.show()
    assert now["absences"] == [{"from": _at(24), "to": _at(48), "kind": "leave"}]


def test_a_return_that_was_told_late_is_true_from_when_it_was() -> None:
    """As of the hours between they were back."""
    desk = _desk(SICK, later_h=40)
    desk.done("return", **{"from": _at(24), "at": _at(30)})
    ends = [fold(desk.events, valid_ms=ms(_at(hours))).show()["absences"][0]["to"] for hours in (29, 30)]
    assert ends == [_at(48), _at(30)]


def test_a_regular_duty_is_shown_as_one() -> None:
    """Whoever assigns it anew, from what is shown, has it held to the same paragraphs."""
    desk = _desk(("assign", _duty("A", 0, 13, 300, regular=True)), ("assign", _duty("B", 48, 8)))
    assert [duty.get("regular") for duty in desk.show()["duties"]] == [True, None]
