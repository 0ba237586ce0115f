"""Readback's Python client: ordered, gap-free streams over one WebSocket that may drop all day.

    import trio
    from readback_client import connect

    async def main() -> None:
        async with connect("ws://127.0.0.1:8400", token) as rb:
            await rb.send("chat:ops", {"text": "pushback approved"})
            async for event in rb.subscribe("chat:ops", last=20):
                print(event.seq, event.by, event.text)

    trio.run(main)

Everything public is named here; modules with a leading underscore may change.
"""

from readback_client._client import Client, Token
from readback_client._connect import connect
from readback_client._device import DeviceKey
from readback_client._errors import (
    BadFrame,
    BadRequest,
    Closed,
    Conflict,
    Forbidden,
    Internal,
    NotFound,
    Overloaded,
    RateLimited,
    ReadbackError,
    Refused,
    Rejected,
    Removed,
    Revoked,
    StreamReset,
    Superseded,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unavailable,
    WireError,
)
from readback_client._iterators import Signals, StatusStream, Subscription
from readback_client._stores import CursorStore, FileCursorStore, MemoryCursorStore
from readback_client._values import (
    AnySignal,
    Body,
    Commanded,
    Connecting,
    Cursors,
    Ended,
    Event,
    Here,
    Limits,
    Mark,
    Online,
    Page,
    Presence,
    Roster,
    Sent,
    Signal,
    Stats,
    Status,
    Typing,
    Waiting,
)

__all__ = [
    "AnySignal",
    "BadFrame",
    "BadRequest",
    "Body",
    "Client",
    "Closed",
    "Commanded",
    "Conflict",
    "Connecting",
    "CursorStore",
    "Cursors",
    "DeviceKey",
    "Ended",
    "Event",
    "FileCursorStore",
    "Forbidden",
    "Here",
    "Internal",
    "Limits",
    "Mark",
    "MemoryCursorStore",
    "NotFound",
    "Online",
    "Overloaded",
    "Page",
    "Presence",
    "RateLimited",
    "ReadbackError",
    "Refused",
    "Rejected",
    "Removed",
    "Revoked",
    "Roster",
    "Sent",
    "Signal",
    "Signals",
    "Stats",
    "Status",
    "StatusStream",
    "StreamReset",
    "Subscription",
    "Superseded",
    "TimedOut",
    "Token",
    "TooLarge",
    "Typing",
    "Unauthorized",
    "Unavailable",
    "Waiting",
    "WireError",
    "connect",
]
