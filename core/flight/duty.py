"""Rule packs: whether a duty that is proposed may be assigned, by a regulation's limits of flight time, duty and rest.

A pack is data and a few functions over the duties that somebody has. What it answers are `Breach`es with the paragraph and the
figures: what it would be, and what is allowed. Each pack's module says what it covers, how it is read, and what it does not
cover. None of it is legal advice: an operator answers for its own manual, and for figures that changed since.

A duty that has begun is not judged again because of a later one; those still to come are, so that nothing is put before them
which takes away the rest that they need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from core.flight import duty_cao, duty_far
from core.flight.duty_time import Breach, Duty, Total


class Pack(NamedTuple):
    """``check`` and ``extend`` take (duties in order of report, the duty, now) and answer breaches; the duties of ``extend``
    have it already, as it would be. ``longest`` takes the duty and sectors, ``rest_after`` duties and duty: both answer a time
    with its paragraph. ``totals`` takes duties, a moment, and the home zone."""

    name: str
    title: str
    check: Callable[[Sequence[Duty], Duty, int], list[Breach]]
    extend: Callable[[Sequence[Duty], Duty, int], list[Breach]]
    longest: Callable[[Duty, int], tuple[int, str]]
    rest_after: Callable[[Sequence[Duty], Duty], tuple[int, str]]
    totals: Callable[[Sequence[Duty], int, str], list[Total]]


PACKS: Final[Mapping[str, Pack]] = {
    pack.name: pack
    for pack in (
        Pack(
            "far135",
            "14 CFR 135.267, unscheduled one- and two-pilot crews",
            duty_far.check,
            duty_far.extend,
            duty_far.longest,
            duty_far.rest_after,
            duty_far.totals,
        ),
        Pack(
            "cao48",
            "CAO 48.1 Instrument 2019, Appendices 3 and 4",
            duty_cao.check,
            duty_cao.extend,
            duty_cao.longest,
            duty_cao.rest_after,
            duty_cao.totals,
        ),
    )
}

REASONS: Final = ("over_flight_time", "over_duty", "too_little_rest", "too_few_days_off", "not_covered")
"""Every reason that a breach can have."""


def check(pack: str, duties: Sequence[Duty], proposed: Duty, now_ms: int) -> list[Breach]:
    """What assigning the proposed duty would break; nothing where it is legal by the pack."""
    return PACKS[pack].check(duties, proposed, now_ms)
