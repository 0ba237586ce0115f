"""The store of tracks in memory: `core.tracks.Tracks` over dicts, beside a `MemoryLog` whose switches are its own too.

The reference that `store.postgres_tracks` is held to (tests/contract), and the simulator's. What `MemoryLog.fail_next`,
``down`` and ``pause`` say of a method's name holds here. The same calls give the same answers: days are counted as they are
made there.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence

import orjson

from core.ports import Refused
from core.tracks import FENCES_MAX, PUSHES_MAX, TRACK_LIMIT_MAX, AppKey, Fence, Last, Push, Sample
from store.memory import MemoryLog
from store.tracks_input import (
    DAY_MS,
    DAYS_AHEAD,
    TracksInput,
    check_app_key,
    check_fence,
    check_push,
    check_retention,
    check_stream,
    is_cursor,
)

_Place = tuple[int, str, int]
"""(at_ms, subject, seq) of a sample."""


class _Track:
    """Samples of one stream, and their places in order."""

    __slots__ = ("places", "samples")

    def __init__(self) -> None:
        self.places: list[_Place] = []
        self.samples: dict[_Place, list[Sample]] = {}
        """As often as each was kept: so often it is counted when it goes."""


class MemoryTracks:
    """See the port."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._input = TracksInput()
        self._days: set[int] = set()
        self._tracks: dict[tuple[str, str], _Track] = {}
        self._lasts: dict[tuple[str, str], tuple[Last, str]] = {}
        """By (tenant, subject), with the memory as JSON, so that nobody changes by accident what was kept."""
        self._fences: dict[tuple[str, str], Fence] = {}
        self._keys: dict[tuple[str, str], tuple[AppKey, bytes]] = {}
        self._pushes: dict[tuple[str, str], tuple[str, str, Push]] = {}
        """(tenant, principal, push) by (service, token)."""

    # -- samples ---------------------------------------------------------------------------------------------------------

    async def keep(self, samples: Sequence[Sample], lasts: Sequence[Last]) -> None:
        days = self._input.days(samples)
        memories = self._input.memories(lasts)
        async with self._log.call("keep"):
            self._days |= days
            for sample in samples:
                track = self._tracks.setdefault((sample.tenant, sample.stream), _Track())
                place = (sample.at_ms, sample.subject, sample.seq)
                if place not in track.samples:
                    insort(track.places, place)
                insort(track.samples.setdefault(place, []), sample, key=lambda each: each.taken_ms)
            for last, memory in zip(lasts, memories, strict=True):
                before = self._lasts.get(last[:2])
                if before is None or last.at_ms > before[0].at_ms:
                    self._lasts[last[:2]] = (last, memory)

    @staticmethod
    def _last(last: Last, memory: str) -> Last:
        return last._replace(memory=orjson.loads(memory))

    async def lasts(self, tenant: str, subjects: Sequence[str]) -> dict[str, Last]:
        async with self._log.call("lasts"):
            found = {subject: self._lasts.get((tenant, subject)) for subject in sorted(subjects)}
            return {subject: self._last(*each) for subject, each in found.items() if each is not None}

    async def shown(self, tenant: str, stream: str) -> list[Last]:
        async with self._log.call("shown"):
            return [
                self._last(last, memory)
                for (of, _), (last, memory) in sorted(self._lasts.items(), key=lambda each: each[0])
                if of == tenant and last.stream == stream
            ]

    async def track(
        self,
        tenant: str,
        stream: str,
        *,
        from_ms: int,
        to_ms: int,
        subject: str | None = None,
        after: tuple[int, str, int] | None = None,
        limit: int = TRACK_LIMIT_MAX,
        newest: bool = False,
    ) -> list[Sample]:
        async with self._log.call("track"):
            track = self._tracks.get((tenant, stream))
            if track is None or not is_cursor(after):
                return []
            begin = bisect_left(track.places, (from_ms,))
            if after is not None:
                begin = max(begin, bisect_right(track.places, after))
            places = track.places[begin : bisect_left(track.places, (to_ms,))]
            if subject is not None:
                places = [place for place in places if place[1] == subject]
            count = max(0, min(limit, TRACK_LIMIT_MAX))
            chosen = places[max(0, len(places) - count) :] if newest else places[:count]
            return [track.samples[place][0] for place in chosen]

    async def retain(self, days: Mapping[str, int], default_days: int, now_ms: int) -> int:
        check_retention(days, default_days)
        async with self._log.call("retain"):
            today = now_ms // DAY_MS
            self._days.update(range(today, today + DAYS_AHEAD + 1))
            last_wanted_ms = now_ms - max((default_days, *days.values())) * DAY_MS
            dropped = {day for day in self._days if (day + 1) * DAY_MS <= last_wanted_ms}
            self._days -= dropped
            gone = len(dropped)
            for (tenant, _), track in self._tracks.items():
                before_ms = now_ms - days.get(tenant, default_days) * DAY_MS
                count = bisect_left(track.places, (before_ms,))
                for place in track.places[:count]:
                    kept = len(track.samples.pop(place))
                    gone += kept if place[0] // DAY_MS not in dropped else 0
                del track.places[:count]
            return gone

    # -- fences ------------------------------------------------------------------------------------------------------------

    async def put_fence(self, tenant: str, fence: Fence) -> bool:
        check_fence(tenant, fence)
        async with self._log.call("put_fence"):
            is_new = (tenant, fence.fence) not in self._fences
            if is_new and sum(of == tenant for of, _ in self._fences) >= FENCES_MAX:
                raise Refused("conflict", f"a tenant has at most {FENCES_MAX} fences")
            self._fences[tenant, fence.fence] = fence
            return is_new

    async def drop_fence(self, tenant: str, fence: str) -> bool:
        async with self._log.call("drop_fence"):
            return self._fences.pop((tenant, fence), None) is not None

    async def fences(self, tenant: str) -> list[Fence]:
        async with self._log.call("fences"):
            return [fence for (of, _), fence in sorted(self._fences.items()) if of == tenant]

    # -- keys of apps ------------------------------------------------------------------------------------------------------

    async def put_app_key(self, key: AppKey, secret_hash: bytes) -> None:
        check_app_key(key, secret_hash)
        async with self._log.call("put_app_key"):
            place = (key.tenant, key.subject)
            if any(secret == secret_hash and of != place for of, (_, secret) in self._keys.items()):
                raise Refused("conflict", "this secret is in use: make another one")
            self._keys[place] = (key, secret_hash)

    async def app_key(self, secret_hash: bytes) -> AppKey | None:
        async with self._log.call("app_key"):
            return next((key for key, secret in self._keys.values() if secret == secret_hash), None)

    async def app_keys(self, tenant: str) -> list[AppKey]:
        async with self._log.call("app_keys"):
            return [key for (of, _), (key, _) in sorted(self._keys.items()) if of == tenant]

    async def bind(self, tenant: str, subject: str, stream: str) -> bool:
        check_stream(stream)
        async with self._log.call("bind"):
            if (tenant, subject) not in self._keys:
                return False
            key, secret = self._keys[tenant, subject]
            self._keys[tenant, subject] = (key._replace(stream=stream), secret)
            return True

    async def drop_app_key(self, tenant: str, subject: str) -> bool:
        async with self._log.call("drop_app_key"):
            return self._keys.pop((tenant, subject), None) is not None

    # -- pushes ------------------------------------------------------------------------------------------------------------

    async def add_push(self, tenant: str, principal: str, push: Push) -> None:
        check_push(tenant, principal, push)
        async with self._log.call("add_push"):
            self._pushes[push[:2]] = (tenant, principal, push)
            others = [each for each in self._of(tenant, principal) if each[:2] != push[:2]]
            for over in others[PUSHES_MAX - 1 :]:
                del self._pushes[over[:2]]

    def _of(self, tenant: str, principal: str) -> list[Push]:
        """The newest first."""
        mine = [push for of, who, push in self._pushes.values() if (of, who) == (tenant, principal)]
        return sorted(mine, key=lambda push: (-push.at_ms, push.service, push.token))

    async def pushes(self, tenant: str, principal: str) -> list[Push]:
        async with self._log.call("pushes"):
            return self._of(tenant, principal)

    async def drop_push(self, service: str, token: str, before_ms: int | None = None) -> bool:
        async with self._log.call("drop_push"):
            for place, (_, _, push) in self._pushes.items():
                if place == (service, token) and (before_ms is None or push.at_ms <= before_ms):
                    del self._pushes[place]
                    return True
            return False
