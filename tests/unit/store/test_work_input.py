"""What no store of the workers' port can keep, and the words for it."""

from __future__ import annotations

import pytest

from core.work import Effects, Lease
from store.work_input import check_effects, check_kind, check_names, check_tasks, check_texts
from tests.works import park, row, task

LEASE = Lease("views", 0, 1, 5)


@pytest.mark.parametrize(
    ("effects", "to_pos", "words"),
    [
        (Effects(), 4, "from 5 to 4"),
        (Effects(), 2**63, "a cursor only goes on"),
        (Effects(rows=[row(partition=1)]), 6, "a row is of another partition"),
        (Effects(parks=[park(consumer="rules")]), 6, "of another partition or consumer"),
        (Effects(rows=[row(tenant="A")]), 6, "no tenant can be called 'A'"),
        (Effects(rows=[row(model="")]), 6, "a name is empty"),
        (Effects(untasks=[("tune", "demo", "k")]), 6, "no kind of task called 'tune'"),
    ],
)
def test_effects_that_cannot_be(effects: Effects, to_pos: int, words: str) -> None:
    """What is wrong is said."""
    with pytest.raises(ValueError, match=words):
        check_effects(LEASE, to_pos, effects)


def test_what_can_be_kept() -> None:
    """Any text of Unicode without a NUL, and a commit that goes nowhere."""
    check_texts(["", "žluťoučký 🐎", "\x01"])
    check_names("w1", "ž")
    check_kind("timer")
    check_tasks([task("ž", lane="中", due_ms=-1)])
    check_effects(LEASE, 5, Effects(rows=[row("ž", {})]))


def test_texts_that_cannot() -> None:
    """A NUL, half a character."""
    with pytest.raises(ValueError, match="no store keeps a text with a NUL"):
        check_texts(["a\0"])
    with pytest.raises(UnicodeEncodeError):
        check_texts(["\ud800"])
