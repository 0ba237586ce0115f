"""core.flight.views: rows are made for what changed, once a batch, and are the same however the events came."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core.flight.machine import Recorded
from core.flight.views import MODELS, Change, Key, changes
from tests.flight_rows import FLIGHT, Story, at, milestone, scheduled


class Counts:
    """A view that counts what events name, under two keys for those that say so."""

    models = ("counts", "same")

    def initial(self) -> dict[str, int]:
        return {}

    def evolve(self, state: dict[str, int], event: Recorded) -> dict[str, int]:
        what = event.body.get("what")
        if what is None:
            return state
        after = {**state, what: state.get(what, 0) + event.body.get("by", 1)}
        return {name: count for name, count in after.items() if count}

    def touched(self, name: str, before: Any, event: Recorded, after: Any) -> Iterable[Key]:
        return [("counts", f"{name}/{event.body['what']}")] + ([("same", name)] if "same" in event.body else [])

    def doc(self, name: str, state: dict[str, int], key: Key) -> dict[str, Any] | None:
        if key[0] == "same":
            return {"always": 1}
        count = state.get(key[1].rpartition("/")[2])
        return None if count is None else {"count": count}

    def size(self, state: dict[str, int]) -> int:
        return len(state)


def told(
    state: dict[str, int], *bodies: dict[str, Any], models: tuple[str, ...] = Counts.models
) -> tuple[dict[str, int], list[Change]]:
    events = [Recorded(seq, "counted", "user:ops", 0, body) for seq, body in enumerate(bodies, 1)]
    return changes(Counts(), "n", state, events, models)


def test_a_key_touched_twice_is_one_row_of_the_last_event() -> None:
    """And keys that nothing touched are none."""
    assert told({"c": 1}, {"what": "a"}, {"what": "b"}, {"what": "a"}, {"chat": 1}) == (
        {"a": 2, "b": 1, "c": 1},
        [Change("counts", "n/a", {"count": 2}, 2), Change("counts", "n/b", {"count": 1}, 1)],
    )


def test_a_row_that_is_as_it_was_is_not_told() -> None:
    """Touched and unchanged, made and taken back within a batch; one that went is told as gone."""
    assert told({}, {"what": "a"}, {"what": "a", "by": -1}) == ({}, [])
    assert told({"a": 3}, {"what": "a", "by": -3, "same": 1}) == ({}, [Change("counts", "n/a", None, 0)])
    assert told({}) == ({}, [])


def test_rows_of_other_models_are_left_out() -> None:
    """The state goes on all the same."""
    assert told({}, {"what": "a", "same": 1}, models=("same",)) == ({"a": 1}, [])


def test_rows_made_anew_are_the_rows_kept_up() -> None:
    """The same facts in one batch or one by one: what remains is the same."""
    facts = [scheduled(), milestone("OUT", "actual", at("06:31")), ("flight.equipped", {"registration": "VH-XYZ"})]
    one, other = Story(f"flight:{FLIGHT}"), Story(f"flight:{FLIGHT}")
    one.tell(*facts)
    for fact in facts:
        other.tell(fact)
    assert one.rows == other.rows
    assert {model for model, _ in one.rows} <= set(MODELS)
