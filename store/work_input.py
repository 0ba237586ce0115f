"""What both stores of the workers' port look at before anything is written, and how they keep JSON.

Names come from the log, where they are well-formed; keys, lanes and reasons may hold a peer's words, and Postgres keeps no
text with a NUL and none that is not Unicode. Whatever is wrong is a `ValueError`: ours, not a peer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from core.model import TENANT_RE
from core.work import KINDS, Effects, Lease, NewTask

RAN_OUT: Final = "the claim ran out: its worker did not come back in time"
"""The reason of a task whose claim was left."""
BIGGEST: Final = 2**63 - 1


def dump(doc: Mapping[str, Any]) -> bytes:
    return orjson.dumps(doc)


def load(doc: bytes | str) -> dict[str, Any]:
    read: dict[str, Any] = orjson.loads(doc)
    return read


def storable(text: str) -> str:
    """The text as a store keeps it: what none can is a question mark."""
    return text.replace("\0", "?").encode(errors="replace").decode()


def check_texts(texts: Iterable[str]) -> None:
    for text in texts:
        if "\0" in text:
            raise ValueError(f"no store keeps a text with a NUL: {text[:100]!r}")
        if not text.isascii():
            text.encode()  # UnicodeEncodeError is a ValueError


def check_names(*names: str) -> None:
    """Of consumers, holders, models: they must be there."""
    check_texts(names)
    if "" in names:
        raise ValueError("a name is empty")


def check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"there is no kind of task called {kind[:100]!r}: one of {', '.join(KINDS)}")


def check_tenants(tenants: Iterable[str]) -> None:
    for tenant in tenants:
        if TENANT_RE.match(tenant) is None:
            raise ValueError(f"no tenant can be called {tenant[:100]!r}")


def check_tasks(tasks: Sequence[NewTask]) -> None:
    for task in tasks:
        check_kind(task.kind)
    check_tenants(task.tenant for task in tasks)
    check_texts(task.key for task in tasks)
    check_texts(task.lane for task in tasks)
    if not all(-BIGGEST <= task.due_ms <= BIGGEST for task in tasks):
        raise ValueError("a task is due at a time that no store can keep")


def check_effects(lease: Lease, to_pos: int, effects: Effects) -> None:
    if not lease.pos <= to_pos <= BIGGEST:
        raise ValueError(f"a cursor only goes on: from {lease.pos} to {to_pos}")
    rows, parks, firings = effects.rows, effects.parks, effects.firings
    if not all(row.partition == lease.partition for row in rows):
        raise ValueError("a row is of another partition than the lease")
    if not all((park.partition, park.consumer) == (lease.partition, lease.consumer) for park in parks):
        raise ValueError("a stream to be parked is of another partition or consumer than the lease")
    check_tenants({row.tenant for row in rows})
    check_names(*{row.model for row in rows})
    check_texts(row.key for row in rows)
    check_tasks(effects.tasks)
    for kind, tenant, key in effects.untasks:
        check_kind(kind)
        check_tenants((tenant,))
        check_texts((key,))
    check_tenants({tenant for tenant, _, _ in effects.memories})
    for park in parks:
        check_tenants((park.tenant,))
        check_texts((park.stream, park.reason))
    for firing in firings:
        check_tenants((firing.tenant,))
        check_texts((firing.rule, firing.version, firing.stream, firing.verdict))
