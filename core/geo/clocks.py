"""What a device's clock says, and what it is worth: how far off it is, learned from when its fixes come in.

One thing is sure: nothing arrives before it was made. With ``d = received - at``, a clock that is ``offset`` behind
(negative: ahead) has ``d = offset + what the way took``, so **no offset is larger than any d**: a fix from the future proves
a clock that is ahead, and nothing proves one that is behind. Old fixes are mostly right ones that waited in a tunnel. They
are told from a slow clock by their pace: a backlog is sent faster than it was made and its ``d`` falls, while a live device
with a slow clock keeps ``d`` as it is, minute after minute. Hence the rules, over *runs*: messages in a row whose least d
differ by SPREAD_MS at most.

    a run of 2 that proves the offset too large          its least d is the offset
    a run of 2 over 10 s with the right time             no offset
    a run of 3 over 30 s, steady, more than BEHIND_MS    its least d is the offset

For: `plausible.Judge`, one for each device. Promises: the offset is the same for all fixes of one message, but for one that
says the right time again where an offset would put it into the future: that one ends the offset; so what is put right never
runs backwards in a message where the device's own clock did not. An offset is right to SPREAD_MS and the way's time.

Does not: smooth; a clock less than AHEAD_MS ahead or BEHIND_MS behind is left alone (a slow link looks the same). A link that
holds everything back for the same time, more than BEHIND_MS, is taken for a slow clock.
"""

from __future__ import annotations

from typing import Final

AHEAD_MS: Final = 10_000
"""What a fix may be ahead of our own clock: ours and the satellites' differ by less, and a way takes no less than 0."""
BEHIND_MS: Final = 120_000
"""Links by satellite hold fixes back for a minute."""
SPREAD_MS: Final = 10_000
"""What the ways of messages of a run may differ by: mobile networks retry for seconds."""
RIGHT_MS: Final = 10_000
STEADY_MS: Final = 30_000
RUN_MAX: Final = 255
"""As far as messages of a run are counted: it is kept in a byte."""


class Clock:
    """Of one device. ``offset_ms``: to be added to what it says."""

    __slots__ = ("first_ms", "least_ms", "low_ms", "now_ms", "offset_ms", "run", "since_ms")

    def __init__(self) -> None:
        self.offset_ms = 0
        self.now_ms: int | None = None
        """When the message came that is being read."""
        self.least_ms = 0
        """Its least d."""
        self.run = 0
        self.first_ms = 0
        """d of the run's first message, and of the least."""
        self.low_ms = 0
        self.since_ms = 0

    def right_ms(self, at_ms: int, now_ms: int) -> int | None:
        """When a fix was made that came now. ``None``: in the future, as far as is known."""
        late = now_ms - at_ms
        if now_ms != self.now_ms:
            if self.now_ms is not None:
                self._learn(self.least_ms, self.now_ms)
            self.now_ms, self.least_ms = now_ms, late
        elif late < self.least_ms:
            self.least_ms = late
        if self.offset_ms <= late + AHEAD_MS:
            return at_ms + self.offset_ms
        if -AHEAD_MS <= late <= AHEAD_MS:
            self.offset_ms = 0  # it was set right: no need to wait for a second
            return at_ms
        return None

    def state(self) -> tuple[int, int, int, int, int, int | None, int]:
        return self.offset_ms, self.least_ms, self.first_ms, self.low_ms, self.since_ms, self.now_ms, self.run

    def restore(self, state: tuple[int, int, int, int, int, int | None, int]) -> None:
        self.offset_ms, self.least_ms, self.first_ms, self.low_ms, self.since_ms, self.now_ms, self.run = state

    def _learn(self, late: int, now_ms: int) -> None:
        if self.run and -SPREAD_MS <= late - self.first_ms <= SPREAD_MS:
            self.run = min(self.run + 1, RUN_MAX)
            self.low_ms = min(self.low_ms, late)
        else:
            self.run, self.first_ms, self.low_ms, self.since_ms = 1, late, late, now_ms
        if self.run < 2:
            return
        low, span = self.low_ms, now_ms - self.since_ms
        if low + AHEAD_MS < self.offset_ms:
            self.offset_ms = low if low < -AHEAD_MS or low > BEHIND_MS else 0
        elif low <= AHEAD_MS:
            if low >= -AHEAD_MS and span >= RIGHT_MS:
                self.offset_ms = 0
            elif low < -AHEAD_MS and self._steady(span) and low - self.offset_ms > SPREAD_MS:
                self.offset_ms = low  # ahead still, by less
        elif self._steady(span) and abs(low - self.offset_ms) > SPREAD_MS:
            self.offset_ms = low if low > BEHIND_MS else 0

    def _steady(self, span: int) -> bool:
        """A backlog sent hardly faster than it was made (one by one, each answered before the next) lowers d by more."""
        return self.run >= 3 and span >= STEADY_MS and self.first_ms - self.low_ms <= 1_000 + span // 50
