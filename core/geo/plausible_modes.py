"""How each mode may move: the numbers that plausibility is judged by, one row a mode.

For: `plausible`. Promises: nothing of its kind is faster than ``cap_mps``, with room (a cap is for what cannot be, not for what
is unlikely: that is left to the speeds reported). Does not: know the vehicle.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.geo.cadence import Mode


class Envelope(NamedTuple):
    cap_mps: float  # faster is impossible
    accel_mps2: float  # how fast a speed reported may have changed between two fixes
    moving_mps: float  # a speed reported that standing receivers do not report
    acc_m: float  # of a fix that does not say
    poor_m: float  # less accurate: degraded
    useless_m: float  # less accurate still: quarantined; no accuracy gives more room than this
    jitter_s: float  # what times of fixes are off by: whole seconds, and a receiver's own delay


ENVELOPES: Final[dict[Mode, Envelope]] = {
    "foot": Envelope(12.0, 1.5, 1.5, 30.0, 100.0, 1_000.0, 1.0),
    "bike": Envelope(25.0, 2.0, 2.0, 30.0, 100.0, 1_000.0, 1.0),
    "car": Envelope(70.0, 4.0, 3.0, 30.0, 150.0, 1_500.0, 1.0),
    "bus": Envelope(42.0, 2.0, 3.0, 30.0, 150.0, 1_500.0, 1.0),
    "truck": Envelope(42.0, 2.0, 3.0, 30.0, 150.0, 1_500.0, 1.0),
    "train": Envelope(130.0, 1.5, 3.0, 50.0, 200.0, 2_000.0, 1.0),  # maglev: 120
    "ship": Envelope(35.0, 1.0, 1.5, 50.0, 200.0, 2_000.0, 1.0),
    "aircraft": Envelope(
        400.0, 3.0, 15.0, 100.0, 1_000.0, 10_000.0, 5.0
    ),  # jet streams included; receivers on the ground hold
    "any": Envelope(400.0, 5.0, 3.0, 50.0, 300.0, 3_000.0, 1.0),
}

DRIFT_MPS: Final = 1.0
DRIFT_MAX_M: Final = 600.0
"""The room that grows with age beyond the cap's: a receiver that slept finds itself near the last cell it knew."""

ALOFT_M: Final = 9_000.0
ALOFT_MPS: Final = 40.0
"""Above that height nothing with wings that carries somebody is slower over the ground, wind from ahead included."""


def reach_m(env: Envelope, apart_s: float, acc1_m: float, acc2_m: float) -> float:
    """How far apart two fixes may be said to be that are both true."""
    return env.cap_mps * (apart_s + env.jitter_s) + acc1_m + acc2_m + min(DRIFT_MPS * apart_s, DRIFT_MAX_M)
