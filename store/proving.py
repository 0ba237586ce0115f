"""Reading what anchors and proofs are made of out of Postgres. Works with the gateway's own login.

`Prover.heads` is what an anchor says; `make_proof` is one document of `store.proofs`. Both only read. Of other tenants'
events a proof holds digests alone (store/sql/0005_proofs.sql).
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import trio

from core.anchors import Anchor, Head
from core.keys import SigningKey
from core.ports import CorruptLog, Refused, StoreError
from store.anchor_places import AnchorPlace
from store.chain import genesis
from store.links import Connector, Links, StoreLimits, asyncio_loop
from store.migrations import check_schema
from store.pgwire import clamp
from store.postgres import PostgresLog
from store.proofs import DIGESTS_MAX, Batch, build

BATCHES_A_QUERY: Final = 200
"""At most 200,000 digests, some 0.6 s of Postgres' time."""


class Heads(NamedTuple):
    """Where all partitions of a log end, in one snapshot."""

    epoch: str
    heads: list[Head]


class Prover:
    def __init__(self, links: Links) -> None:
        self._links = links

    async def heads(self) -> Heads:
        rows = await self._links.fetch(
            "select m.epoch::text as epoch, p.partition, p.pos, p.hash "
            "from readback.partitions p cross join readback.meta m order by p.partition"
        )
        if not rows:
            raise StoreError("this login sees no partition of the log: connect as readback_gateway or as its owner")
        return Heads(rows[0]["epoch"], [Head(row["partition"], row["pos"], row["hash"]) for row in rows])

    async def event(self, tenant: str, stream: str, seq: int) -> Mapping[str, object]:
        """The event's fields as `store.proofs` wants them. `Refused` not_found."""
        rows = []
        if "\0" not in tenant + stream:
            rows = await self._links.fetch(
                "select * from readback.event_to_prove($1, $2, $3)", tenant, stream, clamp(seq)
            )
        if not rows:
            raise Refused("not_found", f"there is no event {seq} in {stream}")
        return {**rows[0], "tenant": tenant, "stream": stream, "digest": rows[0]["digest"].hex()}

    async def batches(self, partition: int, from_pos: int, upto_pos: int) -> tuple[bytes, list[Batch]]:
        """The hash before the batch that holds ``from_pos``, and the batches from there to ``upto_pos``. `Refused` too_large
        where they hold more than `DIGESTS_MAX` events."""
        batches: list[Batch] = []
        too_large = Refused(
            "too_large", f"more than {DIGESTS_MAX} events lie between this one and the next anchor: anchor more often"
        )
        if upto_pos - from_pos >= DIGESTS_MAX:
            raise too_large
        while not batches or batches[-1].last_pos < upto_pos:
            start = batches[-1].last_pos + 1 if batches else from_pos
            rows = await self._chain(partition, start, upto_pos, BATCHES_A_QUERY)
            for row in rows:
                if row.first_pos != start if batches else not row.first_pos <= from_pos <= row.last_pos:
                    rows = []
                    break
                batches.append(row)
                start = row.last_pos + 1
            if not rows:
                raise CorruptLog(f"partition {partition} has no batch of pos {start}: run `readback audit verify`")
            if batches[-1].last_pos - batches[0].first_pos >= DIGESTS_MAX:
                raise too_large
        first = batches[0].first_pos
        if first == 1:
            return genesis(partition), batches
        before = await self._chain(partition, first - 1, first - 1, 1)
        if not before:
            raise CorruptLog(f"partition {partition} has no batch before pos {first}: run `readback audit verify`")
        return before[0].hash, batches

    async def _chain(self, partition: int, from_pos: int, upto_pos: int, at_most: int) -> list[Batch]:
        rows = await self._links.fetch(
            "select first_pos, last_pos, hash, digests from readback.chain($1, $2, $3, $4)",
            partition,
            from_pos,
            upto_pos,
            at_most,
        )
        return [Batch(row["first_pos"], row["last_pos"], row["hash"], row["digests"] or b"") for row in rows]


def prover_of(log: object) -> Prover | None:
    """Of an open log, over its links; ``None`` for one that keeps no hashes (`store.memory`)."""
    return Prover(log._links) if isinstance(log, PostgresLog) else None


async def make_proof(
    prover: Prover,
    tenant: str,
    stream: str,
    seq: int,
    *,
    place: AnchorPlace | None,
    made_ms: int,
    with_body: bool = True,
    key: SigningKey | None = None,
) -> bytes:
    """The proof of one event, for `store.proofs.check`: up to the first anchor past it in ``place``, else to the present head.

    ``key`` signs the document. Who may have it is the caller's to decide: whoever may read the stream. Raises `Refused`
    (not_found, too_large) and `Unavailable`, and `OSError` where ``place`` is a file that cannot be read.
    """
    epoch, heads = await prover.heads()
    event = await prover.event(tenant, stream, seq)
    partition, pos = event["partition"], event["pos"]
    assert isinstance(partition, int)
    assert isinstance(pos, int)
    anchor: Anchor | None = None if place is None else await place.find(epoch, partition, pos)
    end = heads[partition] if anchor is None else anchor.head(partition)
    assert end is not None
    if end.pos < pos:  # it was committed after the heads were read
        end = (await prover.heads()).heads[partition]
    previous, batches = await prover.batches(partition, pos, end.pos)
    if anchor is not None and (batches[-1].last_pos, batches[-1].hash) != (end.pos, end.hash):
        raise CorruptLog(f"the log contradicts anchor {anchor.number} of {anchor.at}: run `readback audit verify`")
    if not with_body:
        event = {**event, "body": None}
    make = functools.partial(
        build,
        epoch=epoch,
        partitions=len(heads),
        event=event,
        previous=previous,
        batches=batches,
        anchor=anchor,
        made_ms=made_ms,
        key=key,
    )
    return await trio.to_thread.run_sync(make)  # the largest takes half a second


@asynccontextmanager
async def open_prover(url: str, limits: StoreLimits | None = None) -> AsyncIterator[Prover]:
    """For a command: a prover on links of its own. `SchemaError` where the schema does not fit."""
    async with open_links(url, limits or StoreLimits(readers=1)) as links:
        yield Prover(links)


@asynccontextmanager
async def open_links(url: str, limits: StoreLimits) -> AsyncIterator[Links]:
    """A pool on the database at ``url``, whose schema must be this code's."""
    async with asyncio_loop():
        links = Links(Connector(url, limits), limits)
        try:
            async with links.borrow() as link:
                await links.on_loop(check_schema, link)
            yield links
        finally:
            links.close()
