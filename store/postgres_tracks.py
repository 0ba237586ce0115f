"""The store of tracks in Postgres: `core.tracks.Tracks` over the tables and functions of store/sql/0012_tracks.sql.

Promises what the port does. Samples are copied in one transaction with the last positions, over links of their own
(``limits.keepers``); everything else shares the log's. A link that turns out to be dead is replaced and the call repeated once:
every call of the port may be repeated.

A day that has no table yet gets one before the copy, and where it went meanwhile (`retain`, on another node) once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import asyncpg
import orjson

from core.ports import Refused, Unavailable
from core.tracks import FENCES_MAX, PUSHES_MAX, TRACK_LIMIT_MAX, AppKey, Fence, Last, Push, Sample
from store.directory_input import HASH_BYTES
from store.links import Links
from store.pgwire import clamp
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
    is_fence_id,
    is_name,
    is_push,
)

DAYS_MAX: Final = 1_500
"""Days that are kept at once, all tenants together: each is a table that a read of a track opens or passes over."""
ATTEMPTS: Final = 5
"""Of a batch whose days are dropped by others while it comes."""
FORGOTTEN_PER_COMMIT: Final = 5_000
"""Rows: some 50 ms, in which nobody waits for them."""

_LAST = "tenant, subject, stream, at_ms, lat, lon, acc, speed, heading, alt, verdict, taken_ms, memory"
_LASTS = f"select readback.keep_lasts({', '.join(f'${n}' for n in range(1, 14))})"
_FENCE = "fence, name, points, radius_m, dwell_s, streams"
_KEY = "tenant::text, subject::text, stream::text, made_ms"


def _last(row: asyncpg.Record) -> Last:
    return Last._make((*row[:12], orjson.loads(row[12])))


def _columns(lasts: Sequence[Last], memories: Sequence[str]) -> list[list[object]]:
    """Of the highest of each subject; the function sorts them."""
    highest: dict[tuple[str, str], tuple[object, ...]] = {}
    for last, memory in zip(lasts, memories, strict=True):
        before = highest.get(last[:2])
        if before is None or last.at_ms > before[3]:  # type: ignore[operator]
            highest[last[:2]] = (*last[:12], memory)
    return [list(column) for column in zip(*highest.values(), strict=True)]


def _fence(row: asyncpg.Record) -> Fence:
    fence, name, points, radius_m, dwell_s, streams = row
    return Fence(fence, name, tuple(zip(points[::2], points[1::2], strict=True)), radius_m, dwell_s, tuple(streams))


async def _write(link: asyncpg.Connection, samples: Sequence[Sample], lasts: list[list[object]]) -> None:
    """On the asyncio side. A lone statement is a transaction by itself, and two round trips less."""
    if not lasts:
        await _copy(link, samples)
    elif not samples:
        await link.execute(_LASTS, *lasts)
    else:
        async with link.transaction():
            await _copy(link, samples)
            await link.execute(_LASTS, *lasts)


async def _copy(link: asyncpg.Connection, samples: Sequence[Sample]) -> None:
    await link.copy_records_to_table("positions", schema_name="readback_days", columns=Sample._fields, records=samples)


class PostgresTracks:
    """See the port."""

    def __init__(self, links: Links, keeping: Links) -> None:
        self._links = links
        self._keeping = keeping
        self._input = TracksInput()
        self._days: set[int] = set()
        """Those that had a table when they were last asked for."""

    # -- samples ---------------------------------------------------------------------------------------------------------

    async def keep(self, samples: Sequence[Sample], lasts: Sequence[Last]) -> None:
        days = self._input.days(samples)
        columns = _columns(lasts, self._input.memories(lasts))
        if not samples and not lasts:
            return None
        for _ in range(ATTEMPTS):
            if not days <= self._days:
                await self._make_days(days)
            try:
                return await self._keeping.run(_write, samples, columns)
            except Unavailable as error:
                if not isinstance(error.__cause__, asyncpg.CheckViolationError):
                    raise
                # Tables of some days went since they were made: another node's `retain` dropped them.
                self._days -= days
        raise Unavailable("the days of these positions are being forgotten")

    async def _make_days(self, days: set[int]) -> None:
        rows = await self._links.fetch("select readback.make_days($1, $2)", sorted(days), DAYS_MAX)
        if rows[0][0] is None:
            raise Unavailable(f"positions of {DAYS_MAX} days are kept already", 60.0)
        if len(self._days) > DAYS_MAX:
            self._days.clear()
        self._days |= days

    async def lasts(self, tenant: str, subjects: Sequence[str]) -> dict[str, Last]:
        known = [subject for subject in subjects if is_name(tenant, subject=subject)]
        if not known:
            return {}
        rows = await self._links.fetch(f"select {_LAST} from readback.load_lasts($1, $2)", tenant, known)
        return {row[1]: _last(row) for row in rows}

    async def shown(self, tenant: str, stream: str) -> list[Last]:
        if not is_name(tenant, stream=stream):
            return []
        rows = await self._links.fetch(f"select {_LAST} from readback.shown_lasts($1, $2)", tenant, stream)
        return [_last(row) for row in rows]

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
        if not is_name(tenant, stream=stream, subject=subject) or not is_cursor(after):
            return []
        after_ms, after_subject, after_seq = (None, None, None) if after is None else after
        rows = await self._links.fetch(
            "select * from readback.track($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            tenant,
            stream,
            clamp(from_ms),
            clamp(to_ms),
            subject,
            None if after_ms is None else clamp(after_ms),
            after_subject,
            None if after_seq is None else clamp(after_seq),
            max(0, min(limit, TRACK_LIMIT_MAX)),
            newest,
        )
        return [Sample._make((tenant, row[0], stream, *row[1:])) for row in rows]

    async def retain(self, days: Mapping[str, int], default_days: int, now_ms: int) -> int:
        check_retention(days, default_days)
        today = now_ms // DAY_MS
        await self._make_days(set(range(today, today + DAYS_AHEAD + 1)))
        wanted = (default_days, *days.values())
        last_wanted_ms, first_wanted_ms = now_ms - max(wanted) * DAY_MS, now_ms - min(wanted) * DAY_MS
        tenants = list(days)
        cutoffs = [clamp(now_ms - each * DAY_MS) for each in days.values()]
        gone = 0
        for day in [row[0] for row in await self._links.fetch("select readback.position_days()")]:
            if (day + 1) * DAY_MS <= last_wanted_ms:
                self._days.discard(day)
                rows = await self._links.fetch("select readback.drop_day($1)", day)
                gone += bool(rows[0][0])
            elif day * DAY_MS < first_wanted_ms:
                gone += await self._forget(day, tenants, cutoffs, now_ms - default_days * DAY_MS)
        return gone

    async def _forget(self, day: int, tenants: list[str], cutoffs: list[int], rest: int) -> int:
        sql = "select readback.forget_positions($1, $2, $3, $4, $5)"
        gone = 0
        while True:
            rows = await self._links.fetch(sql, day, tenants, cutoffs, rest, FORGOTTEN_PER_COMMIT)
            count = int(rows[0][0])
            gone += count
            if count < FORGOTTEN_PER_COMMIT:
                return gone

    # -- fences ------------------------------------------------------------------------------------------------------------

    async def put_fence(self, tenant: str, fence: Fence) -> bool:
        check_fence(tenant, fence)
        rows = await self._links.fetch(
            "select readback.put_geofence($1, $2, $3, $4, $5, $6, $7, $8)",
            tenant,
            fence.fence,
            fence.name,
            [degrees for point in fence.points for degrees in point],
            fence.radius_m,
            fence.dwell_s,
            list(fence.streams),
            FENCES_MAX,
            retry=False,
        )
        if rows[0][0] == "full":
            raise Refused("conflict", f"a tenant has at most {FENCES_MAX} fences")
        return bool(rows[0][0] == "new")

    async def drop_fence(self, tenant: str, fence: str) -> bool:
        if not is_name(tenant) or not is_fence_id(fence):
            return False
        rows = await self._links.fetch("select readback.drop_geofence($1, $2)", tenant, fence, retry=False)
        return bool(rows[0][0])

    async def fences(self, tenant: str) -> list[Fence]:
        if not is_name(tenant):
            return []
        return [
            _fence(row)
            for row in await self._links.fetch(f"select {_FENCE} from readback.tenant_geofences($1)", tenant)
        ]

    # -- keys of apps ------------------------------------------------------------------------------------------------------

    async def put_app_key(self, key: AppKey, secret_hash: bytes) -> None:
        check_app_key(key, secret_hash)
        rows = await self._links.fetch("select readback.put_app_key($1, $2, $3, $4, $5)", secret_hash, *key)
        if not rows[0][0]:
            raise Refused("conflict", "this secret is in use: make another one")

    async def app_key(self, secret_hash: bytes) -> AppKey | None:
        if len(secret_hash) != HASH_BYTES:
            return None
        rows = await self._links.fetch(f"select {_KEY} from readback.find_app_key($1)", secret_hash)
        return AppKey(*rows[0]) if rows else None

    async def app_keys(self, tenant: str) -> list[AppKey]:
        if not is_name(tenant):
            return []
        return [AppKey(*row) for row in await self._links.fetch("select * from readback.tenant_app_keys($1)", tenant)]

    async def bind(self, tenant: str, subject: str, stream: str) -> bool:
        check_stream(stream)
        if not is_name(tenant, subject=subject):
            return False
        rows = await self._links.fetch("select readback.bind_app_key($1, $2, $3)", tenant, subject, stream)
        return bool(rows[0][0])

    async def drop_app_key(self, tenant: str, subject: str) -> bool:
        if not is_name(tenant, subject=subject):
            return False
        rows = await self._links.fetch("select readback.drop_app_key($1, $2)", tenant, subject, retry=False)
        return bool(rows[0][0])

    # -- pushes ------------------------------------------------------------------------------------------------------------

    async def add_push(self, tenant: str, principal: str, push: Push) -> None:
        check_push(tenant, principal, push)
        await self._links.fetch(
            "select readback.add_push($1, $2, $3, $4, $5, $6, $7)", tenant, principal, *push, PUSHES_MAX
        )

    async def pushes(self, tenant: str, principal: str) -> list[Push]:
        if not is_name(tenant, subject=principal):
            return []
        return [
            Push(*row)
            for row in await self._links.fetch("select * from readback.find_pushes($1, $2)", tenant, principal)
        ]

    async def drop_push(self, service: str, token: str, before_ms: int | None = None) -> bool:
        if not is_push(service, token):
            return False
        until_ms = None if before_ms is None else clamp(before_ms)
        rows = await self._links.fetch("select readback.drop_push($1, $2, $3)", service, token, until_ms, retry=False)
        return bool(rows[0][0])
