"""Every verdict and reason has its words."""

from __future__ import annotations

from typing import get_args

from core.geo.plausible_words import REASONS, VERDICTS, Reason, Verdict


def test_the_tables_are_whole() -> None:
    """Each word that can be said is explained once, and no other."""
    assert list(REASONS) == list(get_args(Reason))
    assert set(VERDICTS) == set(get_args(Verdict))
    assert {verdict for word in REASONS.values() for verdict in word.verdicts} == set(VERDICTS)
    assert all(word.says for word in REASONS.values())
