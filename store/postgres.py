"""The log in Postgres: `core.ports.Log` and `LogChecker` over the functions of store/sql.

Promises what the port does, and: every call ends within its deadline; nothing is written but by those functions; a
gateway's login sees a tenant's rows only inside a call made for that tenant. How a batch is judged is in
store/sql/0002_append.sql; who owns what is in 0001.

Appends go over their own links (`store.writer`), everything else over a small pool of asyncpg's (`store.links`). Both
connect when first needed and again after a loss, so that a database that comes back needs no help from here.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import accumulate

import asyncpg
import orjson
import trio

from core.model import (
    Decided,
    Entry,
    Epoch,
    Event,
    Judged,
    Mark,
    Member,
    MyStream,
    Outcome,
    StreamFacts,
    Verdict,
)
from core.ports import Refused
from store.appender import Appender
from store.checker import check_log
from store.layout import Wellformed, check_members, check_principal, check_role, check_stream, is_wellformed
from store.links import Connector, Links, StoreLimits, asyncio_loop
from store.migrations import check_schema, migrate
from store.pgwire import clamp
from store.postgres_directory import PostgresDirectory
from store.postgres_purse import PostgresPurse
from store.postgres_tracks import PostgresTracks
from store.postgres_work import PostgresWork


def _limit(number: int) -> int:
    return max(0, min(number, 2**31 - 1))


def _events(rows: Sequence[asyncpg.Record]) -> list[Event]:
    return [
        Event(partition, pos, sid, seq, key, type, by, at_ms, None if body is None else body.encode())
        for partition, pos, sid, seq, key, type, by, at_ms, body in rows
    ]


_OUTCOMES = tuple(Outcome)


class PostgresLog:
    """See the port. Made by `open_postgres_log`."""

    def __init__(self, connector: Connector, limits: StoreLimits, new_key: Callable[[], str]) -> None:
        self._links = Links(connector, limits)
        self._commanding = Links(connector, limits, limits.commanders)
        self._working = Links(connector, limits, limits.workers)
        self._keeping = Links(connector, limits, limits.keepers)
        self._appender = Appender(connector, limits)
        self._connector = connector
        self._limits = limits
        self._new_key = new_key
        self._epoch: Epoch | None = None
        self._wellformed = Wellformed()
        self.directory = PostgresDirectory(self._links, new_key)
        self.work = PostgresWork(self._working)
        self.tracks = PostgresTracks(self._links, self._keeping)
        self.purse = PostgresPurse(self._links)
        """What is kept beside this log, over its links."""

    async def open(self) -> None:
        """Connect once, so that a wrong address or schema is said at start."""
        async with self._links.borrow() as link:
            await self._links.on_loop(check_schema, link)
        await self.epoch()

    async def epoch(self) -> Epoch:
        """Asked of Postgres once: another epoch is another database, which a running node never moves to."""
        if self._epoch is None:
            rows = await self._links.fetch("select epoch::text, partitions from readback.meta")
            self._epoch = Epoch(rows[0]["epoch"], rows[0]["partitions"])
        return self._epoch

    async def append(self, entries: Sequence[Entry]) -> list[Verdict]:
        return await self._appender.append(entries) if entries else []

    async def command(self, commands: Sequence[Decided]) -> list[Judged]:
        """One that cannot be stored does not reach Postgres; no constraint is left that could fail the others."""
        judged = [Judged(Outcome.FORBIDDEN, 0, 0, 0, 0, 0, None)] * len(commands)
        places = [place for place, command in enumerate(commands) if self._wellformed.command(command)]
        if not places:
            return judged
        asked = [commands[place] for place in places]
        facts = [fact for command in asked for fact in command.facts]
        counts = [len(command.facts) for command in asked]
        rows = await self._commanding.fetch(
            "select * from readback.command($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            ["" if "\0" in command.tenant else command.tenant for command in asked],
            [clamp(command.sid) for command in asked],
            [command.key for command in asked],
            [command.type for command in asked],
            [command.by for command in asked],
            [command.privileged for command in asked],
            [None if command.expect is None else clamp(command.expect) for command in asked],
            [clamp(command.state) for command in asked],
            [None if command.refusal is None else command.refusal.decode() for command in asked],
            counts,
            [1 + before for before in accumulate(counts, initial=0)][:-1],
            [key for key, _, _ in facts],
            [type for _, type, _ in facts],
            [body.decode() for _, _, body in facts],
            retry=False,
        )
        for place, outcome, partition, pos, seq, events, at_ms, refusal in zip(places, *rows[0], strict=True):
            kept = None if refusal is None else refusal.encode()
            judged[place] = Judged(_OUTCOMES[outcome], partition, pos, seq, events, at_ms, kept)
        return judged

    async def ruled(self, tenant: str, sid: int, after: int, limit: int) -> list[Event]:
        return await self._read("select * from readback.ruled($1, $2, $3, $4)", tenant, sid, after, limit)

    async def names(self, sids: Sequence[int]) -> dict[int, tuple[str, str]]:
        rows = await self._links.fetch("select * from readback.names($1)", [clamp(sid) for sid in sids])
        return {sid: (tenant, stream) for sid, tenant, stream in rows}

    # Reading

    async def open_streams(self, asked: Sequence[tuple[str, str, str]]) -> list[StreamFacts | None]:
        found: list[StreamFacts | None] = [None] * len(asked)
        places = [place for place, triple in enumerate(asked) if is_wellformed(*triple)]
        if not places:
            return found
        tenants, streams, principals = zip(*(asked[place] for place in places), strict=True)
        rows = await self._links.fetch(
            "select * from readback.open_streams($1, $2, $3)", list(tenants), list(streams), list(principals)
        )
        for ord, sid, partition, head, first, is_open, role in rows:
            place = places[ord - 1]
            tenant, stream, _ = asked[place]
            found[place] = StreamFacts(sid, tenant, stream, partition, head, first, is_open, role)
        return found

    async def read(self, tenant: str, sid: int, after: int, limit: int) -> list[Event]:
        return await self._read("select * from readback.read($1, $2, $3, $4)", tenant, sid, after, limit)

    async def read_before(self, tenant: str, sid: int, before: int, limit: int) -> list[Event]:
        return await self._read("select * from readback.read_before($1, $2, $3, $4)", tenant, sid, before, limit)

    async def _read(self, sql: str, tenant: str, sid: int, seq: int, limit: int) -> list[Event]:
        if "\0" in tenant:
            return []
        return _events(await self._links.fetch(sql, tenant, clamp(sid), clamp(seq), _limit(limit)))

    async def tail(self, partition: int, after_pos: int, limit: int) -> list[Event]:
        if not 0 <= partition < 2**31:
            return []
        rows = await self._links.fetch(
            "select * from readback.tail($1, $2, $3)", partition, clamp(after_pos), _limit(limit)
        )
        return _events(rows)

    async def heads(self) -> list[int]:
        rows = await self._links.fetch("select readback.heads()")
        return list(rows[0][0])

    # Streams and members

    async def create_stream(
        self, tenant: str, stream: str, *, open: bool, members: Sequence[Member], by: str
    ) -> StreamFacts:
        check_stream(tenant, stream)
        check_principal(by)
        check_members(members)
        rows = await self._links.fetch(
            "select sid, partition from readback.create_stream($1, $2, $3, $4, $5)",
            tenant,
            stream,
            open,
            [member.principal for member in members],
            [member.role for member in members],
            retry=False,
        )
        if not rows:
            raise Refused("conflict", "the stream exists already")
        sid, partition = rows[0]
        role = {member.principal: member.role for member in members}.get(by)
        if role is None:
            role = "reader" if by == stream else "member" if open else None
        return StreamFacts(sid, tenant, stream, partition, 0, 1, open, role)

    async def put_member(self, tenant: str, stream: str, principal: str, role: str, by: str) -> Event | None:
        check_stream(tenant, stream)
        check_principal(principal)
        check_principal(by)
        check_role(role)
        body = orjson.dumps({"principal": principal, "role": role})
        key = self._new_key()
        rows = await self._links.fetch(
            "select * from readback.put_member($1, $2, $3, $4, $5, $6, $7)",
            tenant,
            stream,
            principal,
            role,
            key,
            by,
            body.decode(),
            retry=False,
        )
        return self._membership(rows[0], key, by, body)

    async def remove_member(self, tenant: str, stream: str, principal: str, by: str) -> Event:
        check_stream(tenant, stream)
        check_principal(principal)
        check_principal(by)
        body = orjson.dumps({"principal": principal})
        key = self._new_key()
        rows = await self._links.fetch(
            "select * from readback.remove_member($1, $2, $3, $4, $5, $6)",
            tenant,
            stream,
            principal,
            key,
            by,
            body.decode(),
            retry=False,
        )
        event = self._membership(rows[0], key, by, body)
        assert event is not None
        return event

    @staticmethod
    def _membership(row: asyncpg.Record, key: str, by: str, body: bytes) -> Event | None:
        outcome, partition, pos, sid, seq, type, at_ms = row
        if outcome == "unchanged":
            return None
        if outcome != "ok":
            raise Refused("not_found", "no such stream" if outcome == "not_found" else "no such member")
        return Event(partition, pos, sid, seq, key, type, by, at_ms, body)

    async def members(self, tenant: str, stream: str) -> list[Member] | None:
        if "\0" in tenant or "\0" in stream:
            return None
        rows = await self._links.fetch("select * from readback.members($1, $2)", tenant, stream)
        known, principals, roles = rows[0]
        return [Member(*pair) for pair in zip(principals or (), roles or (), strict=True)] if known else None

    async def my_streams(self, tenant: str, principal: str) -> list[MyStream]:
        if "\0" in tenant or "\0" in principal:
            return []
        return [
            MyStream(*row)
            for row in await self._links.fetch("select * from readback.my_streams($1, $2)", tenant, principal)
        ]

    # Markers and trimming

    async def load_marks(self, tenant: str, sids: Sequence[int]) -> list[Mark]:
        if not sids or "\0" in tenant:
            return []
        rows = await self._links.fetch(
            "select * from readback.load_marks($1, $2)", tenant, sorted({clamp(sid) for sid in sids})
        )
        return [Mark(*row) for row in rows]

    async def save_marks(self, tenant: str, marks: Sequence[Mark]) -> None:
        if not marks:
            return
        await self._links.fetch(
            "select readback.save_marks($1, $2, $3, $4, $5)",
            tenant,
            [clamp(mark.sid) for mark in marks],
            [mark.principal for mark in marks],
            [clamp(mark.delivered) for mark in marks],
            [clamp(mark.read) for mark in marks],
        )

    async def save_seen(self, tenant: str, seen: Mapping[str, int]) -> None:
        if seen:
            times = [clamp(at_ms) for at_ms in seen.values()]
            await self._links.fetch("select readback.save_seen($1, $2, $3)", tenant, list(seen), times)

    async def load_seen(self, tenant: str, sid: int, principals: Sequence[str]) -> dict[str, int]:
        known = [principal for principal in principals if "\0" not in principal]
        if not known or "\0" in tenant:
            return {}
        rows = await self._links.fetch("select * from readback.load_seen($1, $2, $3)", tenant, clamp(sid), known)
        return {str(principal): int(at_ms) for principal, at_ms in rows}

    async def trim(self, tenant: str, stream: str, before: int) -> int:
        """The new ``first`` holds at once for every reader; bodies go in slices, and all are gone when this returns."""
        check_stream(tenant, stream)
        rows = await self._links.fetch("select * from readback.trim_first($1, $2, $3)", tenant, stream, clamp(before))
        sid, first = rows[0]
        if sid is None:
            raise Refused("not_found", "no such stream")
        slice_events = self._limits.trim_events_per_commit
        while not (await self._links.fetch("select readback.trim_bodies($1, $2, $3)", tenant, sid, slice_events))[0][0]:
            pass
        return int(first)

    # Checking and closing

    async def check(self) -> AsyncIterator[tuple[int, int, str | None]]:
        """Needs a link that sees every tenant: run it as the database's owner (see `store.checker`)."""
        patient = replace(self._limits, readers=1, query_timeout_s=600.0, statement_timeout_s=600.0)
        links = Links(self._connector.with_limits(patient), patient)
        try:
            async for step in check_log(links, self._limits.check_page_events):
                yield step
        finally:
            links.close()

    async def aclose(self) -> None:
        self._appender.close()
        self._commanding.close()
        self._working.close()
        self._keeping.close()
        self._links.close()
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_postgres_log(
    url: str, *, new_key: Callable[[], str] = lambda: str(uuid.uuid4()), limits: StoreLimits | None = None
) -> AsyncIterator[PostgresLog]:
    """A log on the database at ``url``, whose schema must be this code's (`migrate_database`).

    ``new_key`` gives canonical UUIDs, for membership events. Usable inside any Trio program: opens a trio-asyncio loop
    unless one is running. `SchemaError` where the schema does not fit, `Unavailable` where the database does not answer.
    """
    async with asyncio_loop():
        chosen = limits if limits is not None else StoreLimits()
        log = PostgresLog(Connector(url, chosen), chosen, new_key)
        try:
            await log.open()
            yield log
        finally:
            with trio.CancelScope(shield=True):
                await log.aclose()


async def migrate_database(url: str, *, partitions: int | None = None) -> list[str]:
    """Bring the schema of a database up to this code's; the names of the migrations applied."""
    async with asyncio_loop():
        connector = Connector(url, StoreLimits(statement_timeout_s=600.0))
        link = await connector.connect()
        try:
            return await connector.call(lambda: migrate(link, partitions=partitions))
        finally:
            connector.terminate(link)
