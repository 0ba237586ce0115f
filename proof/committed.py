"""The log's part of a history: what it holds of the streams in question, read afterwards.

For runs whose producer cannot see the commits take place: benchmarks and captures. Reads a page at a time, so that a long
log takes no memory. Not pure: it asks a `core.ports.Log`, any of its adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import orjson

from core import wire
from core.model import Event
from core.ports import Log
from proof.history import Committed, Member, Open, Record, Trimmed
from proof.watched import what_of

PAGE: Final = 1_000


async def read_log(
    log: Log, wanted: Iterable[tuple[str, str]], t: float, emit: Callable[[Record], object]
) -> dict[tuple[str, str], int]:
    """`Committed`, `Member` and `Trimmed` records of these (tenant, stream); their heads. Unknown streams are left out."""
    heads: dict[tuple[str, str], int] = {}
    for tenant, stream in wanted:
        (facts,) = await log.open_streams([(tenant, stream, "service:history")])
        if facts is None:
            continue
        if facts.first > 1:
            emit(Trimmed(t, tenant, stream, facts.first))
        heads[tenant, stream] = facts.first - 1
        while page := await log.read(tenant, facts.sid, heads[tenant, stream], PAGE):
            for event in page:
                for record in of_event(t, tenant, stream, event, open=facts.open):
                    emit(record)
            heads[tenant, stream] = page[-1].seq
    return heads


def of_event(t: float, tenant: str, stream: str, event: Event, *, open: bool) -> Iterator[Record]:
    body = orjson.loads(event.body or b"null")
    what = what_of(event.type, wire.at_bytes(event.at_ms).decode(), body)
    yield Committed(t, tenant, stream, event.seq, event.key, event.by, what)
    if event.type.startswith("member.") and isinstance(body, dict):
        yield Member(t, tenant, stream, body["principal"], body.get("role"), event.seq, open)


def followed(history: Iterable[Record]) -> set[tuple[str, str]]:
    """The (tenant, stream) that a history speaks of."""
    tenants: dict[str, str] = {}
    found: set[tuple[str, str]] = set()
    for record in history:
        if isinstance(record, Open):
            tenants[record.conn] = record.tenant
        stream = getattr(record, "stream", "")
        if not stream:
            continue
        tenant = getattr(record, "tenant", None) or tenants.get(getattr(record, "conn", ""))
        if tenant:
            found.add((tenant, stream))
    return found
