"""What is said of a fix: verdicts, and the reasons, which are fixed words. The documents' table is made from this one."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Verdict = Literal["accepted", "degraded", "quarantined", "rejected", "duplicate", "throttled"]
Reason = Literal[
    "",
    "late",
    "reanchored",
    "contested",
    "inaccurate",
    "mock",
    "frozen",
    "stall",
    "speed_mismatch",
    "heading_mismatch",
    "jump",
    "null_island",
    "same_time",
    "future",
    "expired",
    "malformed",
    "too_often",
]


class Judged(NamedTuple):
    """``at_ms``: when the fix was made, by our clock as far as is known. ``live``: it is the newest of those that are believed
    where the subject is now; whatever else is kept is for the track."""

    verdict: Verdict
    reason: Reason
    at_ms: int
    live: bool = False


class Word(NamedTuple):
    verdicts: tuple[Verdict, ...]
    says: str


VERDICTS: Final[dict[Verdict, str]] = {
    "accepted": "believed; kept",
    "degraded": "kept and used with care: something about it is not right",
    "quarantined": "kept, not shown, moves nothing",
    "rejected": "not kept: it says nothing that could be used",
    "duplicate": "had before; not kept again",
    "throttled": "true, but more than was asked for; not kept",
}

REASONS: Final[dict[Reason, Word]] = {
    "": Word(("accepted",), "nothing to say"),
    "late": Word(("accepted",), "older than one that came before it: in the track, not the live position"),
    "reanchored": Word(("accepted",), "several in a row agreed on another place: that is believed from here on"),
    "contested": Word(("degraded",), "the subject is said to be in two places by turns, and this is the lesser known"),
    "inaccurate": Word(("degraded", "quarantined"), "its own accuracy is poor for the mode, or useless"),
    "mock": Word(
        ("degraded", "quarantined"), "the device says that the position was set by an app; the tenant decides"
    ),
    "frozen": Word(
        ("degraded",), "the very coordinates of before while it says that it moves: an old position repeated"
    ),
    "stall": Word(("degraded", "quarantined"), "slower than anything flies at that height"),
    "speed_mismatch": Word(("degraded",), "the way made does not go with the speeds reported"),
    "heading_mismatch": Word(("degraded",), "the way made goes against the headings reported"),
    "jump": Word(("quarantined",), "farther than the mode can go in the time"),
    "null_island": Word(
        ("quarantined",), "at 0, 0, or a jump to a latitude or longitude of exactly 0: no position at all"
    ),
    "same_time": Word(("duplicate",), "a fix of the same time was had"),
    "future": Word(("rejected",), "made later than now, by a clock not known to be ahead yet"),
    "expired": Word(("rejected",), "too old to be kept"),
    "malformed": Word(("rejected",), "a value that cannot be true"),
    "too_often": Word(("throttled",), "much oftener than asked for"),
}
