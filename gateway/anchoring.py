"""The log's hashes, written down elsewhere every `anchor_interval_s`.

For: `serve` with the setting ``anchor``, and ``readback audit anchor``. Promises: nothing is written while nothing changed;
of many nodes that share a place one writes an interval's record, whichever comes first, and all records are one chain
(`store.anchor_places` locks the place); a place that is away is said once and counted, and serving goes on. A place whose
last records are not those that this node wrote is said at once. Does not: look at old records (``readback audit verify``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Final

import trio

from core.anchors import FIRST, Anchor, changed, make
from core.keys import SigningKey
from core.ports import StoreError
from gateway.config import Secrets, without_password
from store.anchor_places import AnchorPlace
from store.proving import Prover

if TYPE_CHECKING:
    from gateway.metrics import Registry

log = logging.getLogger("readback.anchor")

SOON: Final = 0.5
"""The part of an interval within which another's record counts as this one's."""
LATE_S: Final = 30.0
"""How long one record may take before that is a failure."""


def signing_key(secrets: Secrets) -> SigningKey | None:
    """The newest one, which signs."""
    for kid, seed in secrets.signing_keys.items():
        return SigningKey(kid, seed)
    return None


async def write_anchor(
    prover: Prover,
    place: AnchorPlace,
    key: SigningKey,
    *,
    wall: Callable[[], float],
    always: bool = True,
    wanted: Callable[[Anchor | None, str, float], bool] = lambda last, epoch, now_s: True,
) -> Anchor | None:
    """One record now; ``None`` where nothing changed since the last and ``always`` is off, or ``wanted`` says no of the last
    one (that, the log's epoch, Unix time in seconds). Raises `StoreError`, `OSError`."""
    epoch, heads = await prover.heads()
    now_s = wall()  # here: what follows may run in a thread

    def next(last: Anchor | None, torn: bool) -> Anchor | None:
        if not wanted(last, epoch, now_s) or not (always or changed(last, epoch, heads)):
            return None
        number, previous = (1, FIRST) if last is None else (last.number + 1, last.digest)
        return make(key, number=number, previous=previous, epoch=epoch, at_ms=int(1000 * now_s), heads=heads, torn=torn)

    return await place.append(next)


class Anchoring:
    """A node's part: `run` until cancelled. ``key`` is asked for each record, because a reload may change it; ``wall`` is Unix
    time in seconds."""

    def __init__(
        self,
        prover: Prover,
        place: AnchorPlace,
        key: Callable[[], SigningKey | None],
        *,
        wall: Callable[[], float],
        interval_s: float,
        registry: Registry | None = None,
    ) -> None:
        self._prover = prover
        self._place = place
        self._key = key
        self._wall = wall
        self._interval_s = interval_s
        self._last: Anchor | None = None
        """The last one that this node wrote or saw."""
        self.trouble: str | None = None
        self.written = 0
        self.failures = 0
        self.tampered = 0
        """Times that the place did not hold what was last seen there."""
        if registry is not None:
            registry.counter_read("readback_anchors_total", "Anchors written by this node.", lambda: self.written)
            registry.counter_read("readback_anchor_failures_total", "Anchors not written.", lambda: self.failures)
            lost = "Times that anchors were not as they were written."
            registry.counter_read("readback_anchors_tampered_total", lost, lambda: self.tampered)

    async def run(self) -> None:
        while True:
            await self.once()
            await trio.sleep(self._interval_s)

    async def once(self) -> None:
        """One record, if it is due and says anything new."""
        try:
            key = self._key()
            if key is None:
                raise StoreError("there is no signing key any more")
            with trio.fail_after(LATE_S):
                anchor = await write_anchor(
                    self._prover, self._place, key, wall=self._wall, always=False, wanted=self._due
                )
        except (StoreError, OSError, trio.TooSlowError) as error:
            self.failures += 1
            reason = "it took too long" if isinstance(error, trio.TooSlowError) else str(error)
            if self.trouble != reason:
                self.trouble = reason
                log.error("anchors cannot be written to %s: %s", without_password(self._place.name), reason)
            return
        if self.trouble is not None:
            self.trouble = None
            log.warning("anchors are written to %s again", self._place.name)
        if anchor is not None:
            self._last = anchor
            self.written += 1

    def _due(self, last: Anchor | None, epoch: str, now_s: float) -> bool:
        known = self._last
        if known is not None and (
            last is None or last.number < known.number or (last.number == known.number and last.digest != known.digest)
        ):
            self.tampered += 1
            log.error(
                "the anchors in %s are not those that were written: record %d of %s was the last, and %s is; "
                "`readback audit verify` looks closer",
                self._place.name,
                known.number,
                known.at,
                "none" if last is None else f"record {last.number} of {last.at}",
            )
        self._last = last
        if last is None or last.epoch != epoch:
            return True
        try:
            age_s = now_s - datetime.fromisoformat(last.at).timestamp()
        except ValueError:
            return True
        return not 0 <= age_s < SOON * self._interval_s
