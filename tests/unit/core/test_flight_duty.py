"""core.flight.duty: the packs by name, asked the same way."""

from __future__ import annotations

from core.flight.duty import PACKS
from tests.duties import a_duty, cao, far


def test_packs_have_names() -> None:
    """And titles that say what they are."""
    assert {name: pack.name for name, pack in PACKS.items()} == {"far135": "far135", "cao48": "cao48"}
    assert "135.267" in PACKS["far135"].title


# 14 CFR 135.267


def test_a_first_duty_is_legal() -> None:
    """In both packs."""
    assert far([], a_duty(5, 8, 9, 7)) == []
    assert cao([], a_duty(5, 8, 9, 7)) == []
