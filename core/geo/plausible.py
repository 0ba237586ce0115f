"""Whether a fix can be true: one subject's judge.

The newest fix that was believed is the *anchor*. A fix within its envelope (what the mode can do in the time between, the
accuracy of both, and room that grows with age) is believed and becomes the anchor; one outside is quarantined. Judging by
the anchor alone would lock out whoever once had a wrong anchor, so quarantined fixes that agree with each other by the same
envelope are a *run*, and a run of ``reanchor_after`` becomes the anchor. That is what somebody who forges a whole track gets,
too: such a track is believed after that many fixes, and marked only where it contradicts itself (speeds, headings, height).

The anchor that was given up is remembered, with how many fixes had confirmed it (its *trust*). When a run leads back to it,
the subject is in two places by turns. Back to the better known one the usual run suffices; to the lesser known it takes
FLAP_RUN, and what comes from there is degraded as ``contested`` until it is the better known, or the other is forgotten.

A place that is repeated while it is said to be left says nothing (``frozen``): the anchor keeps its time, and a long step away
right afterwards takes a run, too. A fix older than the anchor is *late*: judged by its neighbours among the last RECENT_MAX,
it never moves the live position.

For: the gateway, one for each subject. Promises: `judge` never raises and gives each fix one verdict, with a reason from
`plausible_words`, in 5 us; `state` is at most 400 bytes of JSON, and who is restored from it judges on equally (coordinates of
7 decimals, accuracies, speeds and headings of 2, in the bounds of `core.pings`). Bad fixes change nothing but the run.

Does not: know roads; recognise a repetition older than the last SEEN_MAX times (the store's key does).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from core.geo.cadence import Mode, Throttle
from core.geo.clocks import Clock
from core.geo.plausible_modes import ALOFT_M, ALOFT_MPS, ENVELOPES, Envelope, reach_m
from core.geo.plausible_state import Kept, Sample, pack, unpack
from core.geo.plausible_words import Judged, Reason
from core.geo.sphere import bearing_deg, distance_m, turn_deg
from core.pings import Fix

REANCHOR_AFTER: Final = 3
FLAP_RUN: Final = 5
"""And the most that ``reanchor_after`` may be: nobody true waits longer."""
RECENT_MAX: Final = 6
"""Of ten minutes at the usual pace what can arrive out of order; the state must stay small."""
SEEN_MAX: Final = 16
"""A message that is repeated whole because its answer was lost; the rest is the store's key's."""
TRUST_MAX: Final = 60
OLD_MS: Final = 1_800_000
"""As long as a given-up anchor is remembered: its envelope says nothing after that."""
EXPIRED_MS: Final = 604_800_000
GAP_MS: Final = 500
BURST: Final = 20
"""Twice a second for good: five times what anybody is asked for."""
ISLAND_DEG: Final = 0.001
FROZEN_M: Final = 20.0
"""A way that no receiver rounds to none."""
HELD_S: Final = 3.0
"""Of room for who moves on after a place was repeated: the first repetition may have been no more than a late one."""
SPEEDS_S: Final = 60.0
"""Speeds and headings reported say nothing of a way that took longer."""
HEADINGS_S: Final = 30.0
BIG_TURN_DEG: Final = 30.0


class Judge:
    """Of one subject."""

    __slots__ = (
        "burst",
        "clock",
        "contested",
        "env",
        "gap_ms",
        "heading_deg",
        "held_ms",
        "mock_allowed",
        "mode",
        "old",
        "old_trust",
        "reanchor_after",
        "recent",
        "run",
        "run_last",
        "seen",
        "speed_mps",
        "stalled",
        "throttle",
        "trust",
    )

    def __init__(
        self,
        mode: Mode,
        *,
        mock_allowed: bool = False,
        reanchor_after: int = REANCHOR_AFTER,
        gap_ms: int = GAP_MS,
        burst: int = BURST,
    ) -> None:
        assert 1 <= reanchor_after <= FLAP_RUN
        assert gap_ms >= 0
        assert burst >= 1
        self.mode: Mode = mode
        self.env: Envelope = ENVELOPES[mode]
        self.mock_allowed = mock_allowed
        self.reanchor_after = reanchor_after
        self.gap_ms = gap_ms
        self.burst = burst
        self.clock = Clock()
        self.throttle = Throttle()
        self.seen: dict[int, None] = {}
        """Times of fixes as the device said them, a set in order."""
        self.recent: list[Sample] = []
        """By time; the last is the anchor, and the next five are the anchor's."""
        self.speed_mps: float | None = None
        self.heading_deg: float | None = None
        self.stalled = False
        self.held_ms = 0
        """When the anchor's place was last repeated, where it was."""
        self.trust = 0
        self.contested = False
        self.old: Sample | None = None
        self.old_trust = 0
        self.run = 0
        self.run_last: Sample | None = None

    @property
    def anchor(self) -> Sample | None:
        return self.recent[-1] if self.recent else None

    def judge(self, fix: Fix, now_ms: int) -> Judged:
        """What is to be thought of a fix that came now; ``now_ms`` is the same for all of a message."""
        if not fix.good:
            return Judged("rejected", "malformed", fix.at_ms)
        said_ms, seen = fix.at_ms, self.seen
        if said_ms in seen:
            return Judged("duplicate", "same_time", said_ms + self.clock.offset_ms)
        at_ms = self.clock.right_ms(said_ms, now_ms)
        if at_ms is None:
            return Judged("rejected", "future", said_ms)
        if now_ms - at_ms > EXPIRED_MS:
            return Judged("rejected", "expired", at_ms)
        seen[said_ms] = None
        if len(seen) > SEEN_MAX:
            del seen[next(iter(seen))]
        env = self.env
        acc_m = env.acc_m if fix.acc is None else fix.acc
        if fix.mock and not self.mock_allowed:
            return Judged("quarantined", "mock", at_ms)
        if acc_m > env.useless_m:
            return Judged("quarantined", "inaccurate", at_ms)
        sample = Sample(at_ms, fix.lat, fix.lon, acc_m)
        if not self.recent:
            return self._first(fix, sample)
        anchor = self.recent[-1]
        if at_ms < anchor.at_ms:
            return self._late(fix, sample)
        far_m = distance_m(anchor.lat, anchor.lon, fix.lat, fix.lon)
        apart_s = (at_ms - anchor.at_ms) / 1000
        if far_m > reach_m(env, apart_s, anchor.acc_m, acc_m):
            return self._outside(fix, sample)
        speed = fix.speed
        if far_m == 0.0 and speed is not None and speed > env.moving_mps and speed * apart_s > FROZEN_M:
            self.held_ms = at_ms  # the anchor keeps its time, as nothing is known since
            return Judged("degraded", "frozen", at_ms)
        if self.held_ms > anchor.at_ms:
            # Nobody gains room by standing still in words: a long step away from what was said just now is to be confirmed.
            held_s = (at_ms - self.held_ms) / 1000
            if far_m > reach_m(env, max(held_s, 0.0) + HELD_S, anchor.acc_m, acc_m):
                return self._outside(fix, sample, held=True)
        stalls = self._stalls(fix)
        if stalls and not self.stalled:
            return self._candidate(fix, sample, "stall")
        if not self.throttle.admit(at_ms, self.gap_ms, self.burst, big=self._big(fix)):
            return Judged("throttled", "too_often", at_ms)
        reason: Reason = self._doubt(fix, sample, stalls) or self._mismatch(fix, anchor, far_m, apart_s, acc_m)
        if self.contested and (self.old is None or at_ms - self.old.at_ms > OLD_MS or self.trust >= self.old_trust):
            self.contested = False
        elif self.contested:
            reason = "contested"
        if (not reason or reason == "contested") and self.trust < TRUST_MAX:
            self.trust += 1
        self._move(fix, sample, stalls)
        self.run = 0
        return Judged("degraded" if reason else "accepted", reason, at_ms, True)

    def _first(self, fix: Fix, sample: Sample) -> Judged:
        if _on_null_island(fix):
            return Judged("quarantined", "null_island", sample.at_ms)
        stalls = self._stalls(fix)
        reason = self._doubt(fix, sample, stalls)
        self.trust = 1
        self._move(fix, sample, stalls)
        return Judged("degraded" if reason else "accepted", reason, sample.at_ms, True)

    def _late(self, fix: Fix, sample: Sample) -> Judged:
        recent = self.recent
        after = len(recent) - 1
        while after > 0 and recent[after - 1].at_ms > sample.at_ms:
            after -= 1
        if not self._agree(sample, recent[after]) or (after > 0 and not self._agree(recent[after - 1], sample)):
            return Judged("quarantined", "null_island" if _nowhere(fix) else "jump", sample.at_ms)
        recent.insert(after, sample)
        if len(recent) > RECENT_MAX:
            del recent[0]
        doubt = self._doubt(fix, sample, self._stalls(fix))
        return Judged("degraded", doubt, sample.at_ms) if doubt else Judged("accepted", "late", sample.at_ms)

    def _outside(self, fix: Fix, sample: Sample, held: bool = False) -> Judged:
        if _on_null_island(fix):
            return Judged("quarantined", "null_island", sample.at_ms)
        return self._candidate(fix, sample, "null_island" if _nowhere(fix) else "jump", held)

    def _candidate(self, fix: Fix, sample: Sample, reason: Reason, held: bool = False) -> Judged:
        """Quarantined, unless it is the one that ends a run. ``held``: it goes on from the anchor, if it is true."""
        last = self.run_last
        self.run = self.run + 1 if self.run and last is not None and self._agree(last, sample) else 1
        self.run_last = sample
        old = self.old
        back = old is not None and sample.at_ms - old.at_ms <= OLD_MS and self._agree(old, sample)
        flaps = back and self.old_trust < self.trust and not held
        if self.run < (FLAP_RUN if flaps or reason == "null_island" else self.reanchor_after):
            return Judged("quarantined", reason, sample.at_ms)
        if not held:
            trust = min(self.run + (self.old_trust if back else 0), TRUST_MAX)
            # What was gathered while it was contested is not kept, else whoever insists becomes the better known in the end.
            self.old, self.old_trust, self.trust = self.recent[-1], 1 if self.contested else self.trust, trust
            self.recent.clear()
            self.contested = flaps
        self.run = 0
        stalls = self._stalls(fix)
        doubt: Reason = "contested" if self.contested else self._doubt(fix, sample, stalls)
        self._move(fix, sample, stalls)
        if doubt and doubt != "stall":
            return Judged("degraded", doubt, sample.at_ms, True)
        return Judged("accepted", "reanchored", sample.at_ms, True)

    def _move(self, fix: Fix, sample: Sample, stalls: bool) -> None:
        recent = self.recent
        recent.append(sample)
        if len(recent) > RECENT_MAX:
            del recent[0]
        self.speed_mps, self.heading_deg, self.stalled = fix.speed, fix.heading, stalls

    def _agree(self, one: Sample, other: Sample) -> bool:
        apart_s = abs(other.at_ms - one.at_ms) / 1000
        return distance_m(one.lat, one.lon, other.lat, other.lon) <= reach_m(self.env, apart_s, one.acc_m, other.acc_m)

    def _stalls(self, fix: Fix) -> bool:
        if self.mode != "aircraft" or fix.alt is None or fix.speed is None:
            return False
        return fix.alt >= ALOFT_M and fix.speed < ALOFT_MPS

    def _doubt(self, fix: Fix, sample: Sample, stalls: bool) -> Literal["", "mock", "inaccurate", "stall"]:
        """What a fix says against itself."""
        if fix.mock:
            return "mock"
        if sample.acc_m > self.env.poor_m:
            return "inaccurate"
        return "stall" if stalls else ""

    def _big(self, fix: Fix) -> bool:
        """It turned, stopped or set out."""
        was, speed, moving = self.speed_mps, fix.speed, self.env.moving_mps
        if was is not None and speed is not None and (was > moving) != (speed > moving):
            return True
        if self.heading_deg is None or fix.heading is None:
            return False
        return turn_deg(self.heading_deg, fix.heading) >= BIG_TURN_DEG

    def _mismatch(
        self, fix: Fix, anchor: Sample, far_m: float, apart_s: float, acc_m: float
    ) -> Literal["", "speed_mismatch", "heading_mismatch"]:
        """What a way says against the speeds and headings at its ends."""
        was, speed = self.speed_mps, fix.speed
        if apart_s > SPEEDS_S or was is None or speed is None:
            return ""
        env, room_m = self.env, anchor.acc_m + acc_m
        # Sped up for half the way and slowed down again for the other: that much more, or less, on average.
        change = env.accel_mps2 * apart_s / 4
        if far_m - room_m > (1.5 * max(was, speed) + change + 5.0) * (apart_s + min(env.jitter_s, 2.0)):
            return "speed_mismatch"
        before, heading = self.heading_deg, fix.heading
        if apart_s > HEADINGS_S or before is None or heading is None:
            return ""
        slow = 0.4 * min(was, speed) - change
        if slow > 0.0 and far_m + room_m < slow * (apart_s - env.jitter_s) and turn_deg(before, heading) < 45.0:
            return "speed_mismatch"
        if far_m > 2 * room_m and min(was, speed) > env.moving_mps:
            way = bearing_deg(anchor.lat, anchor.lon, fix.lat, fix.lon)
            if turn_deg(way, heading) > 90.0 and turn_deg(way, before) > 90.0:
                return "heading_mismatch"
        return ""

    def state(self) -> dict[str, str]:
        """What `restore` goes on from."""
        kept = Kept(
            seen=tuple(self.seen),
            recent=tuple(self.recent),
            speed_mps=self.speed_mps,
            heading_deg=self.heading_deg,
            stalled=self.stalled,
            held_ms=self.held_ms,
            contested=self.contested,
            trust=self.trust,
            old=self.old,
            old_trust=self.old_trust,
            run=self.run,
            run_last=self.run_last,
            due_ms=self.throttle.due_ms,
            clock=self.clock.state(),
        )
        return {"judge": pack(kept)}

    @classmethod
    def restore(
        cls,
        state: Mapping[str, object],
        mode: Mode,
        *,
        mock_allowed: bool = False,
        reanchor_after: int = REANCHOR_AFTER,
        gap_ms: int = GAP_MS,
        burst: int = BURST,
    ) -> Judge:
        """One that goes on from another's `state`. `ValueError` where it never was one's."""
        kept = unpack(state.get("judge"))
        judge = cls(mode, mock_allowed=mock_allowed, reanchor_after=reanchor_after, gap_ms=gap_ms, burst=burst)
        judge.seen = dict.fromkeys(kept.seen)
        judge.recent = list(kept.recent)
        judge.speed_mps, judge.heading_deg, judge.stalled = kept.speed_mps, kept.heading_deg, kept.stalled
        judge.held_ms = kept.held_ms
        judge.trust, judge.contested = kept.trust, kept.contested
        judge.old, judge.old_trust = kept.old, kept.old_trust
        judge.run, judge.run_last = kept.run, kept.run_last
        judge.throttle.due_ms = kept.due_ms
        judge.clock.restore(kept.clock)
        return judge


def _on_null_island(fix: Fix) -> bool:
    return -ISLAND_DEG < fix.lat < ISLAND_DEG and -ISLAND_DEG < fix.lon < ISLAND_DEG


def _nowhere(fix: Fix) -> bool:
    """Of a fix that is not where it can be: a coordinate was not filled in, unless the subject is on that very line."""
    return fix.lat == 0.0 or fix.lon == 0.0 or _on_null_island(fix)
