"""core.flight.ledger: the ledger of its facts, now and as it was, with what the law leaves."""

from __future__ import annotations

from core.flight.crew import CREW
from core.flight.duty_time import DAY_MS, HOUR_MS
from core.flight.ledger import FACTS, KEPT_MS, evolve, fold
from core.flight.machine import Recorded
from core.flight.times import write
from tests.crew_desk import NOW, ON, SICK, A, at_hour, crew_desk, duty_of
from tests.flight_desk import Desk, ms


def test_flight_time_that_no_longer_fits_is_spread() -> None:
    """Block times that the actual duty does not have in it are forgotten, and kept where it has."""
    times = {"off_block": at_hour(1), "on_block": at_hour(7)}
    desk = crew_desk(("assign", duty_of("A", 0, 8, 300, **times)), ON, later_h=8)
    desk.done("off", flight="A", at=at_hour(7.5))
    assert desk.state.entries[0].duty.on_ms == ms(at_hour(7))
    assert desk.show()["duties"][0]["off_block"] == at_hour(1)
    desk.done("off", flight="A", at=at_hour(6.5))
    assert desk.state.entries[0].duty.on_ms == 0


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


def test_releasing() -> None:
    """The roster has it no more; another with its name can be assigned."""
    desk = crew_desk(A, ("assign", duty_of("B", 24, 4)))
    desk.done("release", flight="A", why="aircraft change")
    assert [duty["flight"] for duty in desk.show()["duties"]] == ["B"]
    assert desk.done(*A[:1], **A[1])


def test_two_years_are_kept() -> None:
    """What is older is counted and summed; absences go."""
    desk = crew_desk(
        ("assign", duty_of("A", -8, 8, 300)), ("leave", {"from": at_hour(8), "to": at_hour(32), "kind": "leave"})
    )
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
    desk = crew_desk(A, ON, ("assign", duty_of("B", 30, 6, 60)), later_h=8)
    assert desk.show()["next"] == {
        "flight": "A",
        "report_at": at_hour(0),
        "legal_until": at_hour(14),
        "cite": "14 CFR 135.267(d)",
    }
    assert "rested" not in desk.show()
    desk.done("off", flight="A")
    shown = desk.show()
    assert shown["next"]["flight"] == "B"
    assert shown["rested"] == {"after": "A", "from": at_hour(18), "cite": "14 CFR 135.267(d)"}
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
    desk = crew_desk(A)
    desk.later(9 * 3600)
    desk.done("report", flight="A", at=at_hour(0.5))
    then = ms(at_hour(1))
    assert CREW.fold(desk.events, valid_ms=then).show()["duties"][0]["status"] == "reported"
    assert CREW.fold(desk.events, recorded_ms=then, valid_ms=then).show()["duties"][0]["status"] == "assigned"
    assert CREW.fold(desk.events, valid_ms=ms(at_hour(0.4))).show()["duties"][0]["status"] == "assigned"
    assert fold(desk.events, valid_ms=ms(NOW) - 1).show()["duties"] == []
    assert CREW.show(CREW.fold(desk.events)) == desk.show()


def test_events_that_are_not_the_ledgers() -> None:
    """Chat, what a later version may write, and facts of duties that are gone change nothing."""
    ledger = crew_desk(A).state
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
    desk = crew_desk(A, ON, ("extend", {"flight": "A", "release_at": at_hour(9), "why": "fog"}), later_h=9.5)
    desk.done("off", flight="A", at=at_hour(9.2), block_minutes=333)
    shown = desk.show()["duties"][0]
    assert (shown["report_at"], shown["release_at"], shown["block_minutes"]) == (at_hour(0), at_hour(9.2), 333)
    assert shown["planned"] == {"report_at": at_hour(0), "release_at": at_hour(9)}


def test_a_name_is_shown_where_there_is_one() -> None:
    """And none where there is not."""
    assert crew_desk(name="Ann").show()["name"] == "Ann"
    assert "name" not in crew_desk().show()


def test_an_absence_that_was_taken_back_is_so_at_once() -> None:
    """That they will be back sooner, or do not go, is true from when it was said, not from the day that it is about."""
    desk = crew_desk(SICK)
    desk.done("return", **{"from": at_hour(24), "at": at_hour(0)})
    desk.done("leave", **{"from": at_hour(24), "to": at_hour(72), "kind": "leave"})
    desk.done("return", **{"from": at_hour(24), "at": at_hour(48)})
    now = fold(desk.events, desk.now_ms, desk.now_ms).show()
    assert now == desk.show()
    assert now["absences"] == [{"from": at_hour(24), "to": at_hour(48), "kind": "leave"}]


def test_a_return_that_was_told_late_is_true_from_when_it_was() -> None:
    """As of the hours between they were back."""
    desk = crew_desk(SICK, later_h=40)
    desk.done("return", **{"from": at_hour(24), "at": at_hour(30)})
    ends = [fold(desk.events, valid_ms=ms(at_hour(hours))).show()["absences"][0]["to"] for hours in (29, 30)]
    assert ends == [at_hour(48), at_hour(30)]


def test_a_regular_duty_is_shown_as_one() -> None:
    """Whoever assigns it anew, from what is shown, has it held to the same paragraphs."""
    desk = crew_desk(("assign", duty_of("A", 0, 13, 300, regular=True)), ("assign", duty_of("B", 48, 8)))
    assert [duty.get("regular") for duty in desk.show()["duties"]] == [True, None]
