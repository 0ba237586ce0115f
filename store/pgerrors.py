"""What a Postgres error means to the gateway: try again, the entry's own fault, or a log that contradicts itself.

The reasons are fit for an operator and for a client: no SQL, no names of tables, no addresses.
"""

from __future__ import annotations

import asyncpg

from core.ports import CorruptLog, StoreError, Unavailable

_REASONS = {
    "53100": "the database's disk is full",
    "53200": "the database is out of memory",
    "53300": "the database has no connection left for us",
    "57P01": "the database is shutting down",
    "57P02": "the database is restarting after a crash",
    "57P03": "the database is starting up",
    "57P05": "the database closed an idle connection",
    "57014": "the database took too long",
    "25006": "the database is read-only (a standby, or being failed over)",
    "40001": "the database asks to repeat",
    "40P01": "the database asks to repeat",
    "55P03": "the database is busy",
    "3D000": "the database does not exist",
}
_CLASSES = {
    "08": "the database cannot be reached",
    "28": "the database refuses our login",
    "53": "the database is out of a resource",
    "57": "the database was stopped by its operator",
    "58": "the database's machine reports an error",
}
LOST = "the database cannot be reached"
TOO_LATE = "the database took too long"


def to_store_error(sqlstate: str) -> StoreError:
    """The port's exception for a SQLSTATE that is nobody's input's fault."""
    if sqlstate in ("XX001", "XX002"):
        return CorruptLog(f"the database reports damaged data ({sqlstate})")
    reason = _REASONS.get(sqlstate) or _CLASSES.get(sqlstate[:2])
    if reason is None:
        return Unavailable(f"the database answered with an unexpected error ({sqlstate})", 5.0)
    return Unavailable(reason)


def is_entrys_fault(sqlstate: str) -> bool:
    """Data exception, constraint violation, limit exceeded: some entry of the batch cannot be stored."""
    return sqlstate[:2] in ("22", "23", "54")


def from_asyncpg(error: BaseException) -> StoreError | None:
    """The port's exception for what asyncpg raised; ``None`` for what is a mistake of ours and must surface."""
    if isinstance(error, asyncpg.PostgresError):
        return to_store_error(error.sqlstate or "XX000")
    if isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError | EOFError):
        return Unavailable(LOST)
    return None
