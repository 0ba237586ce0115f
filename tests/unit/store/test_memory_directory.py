"""The directory in memory: its switches and its sameness; what it answers is held to the port in tests/contract."""

from __future__ import annotations

from itertools import count

import pytest

from core.directory import Directory, Note, Revocation
from core.model import AUDIT_STREAM
from core.ports import Refused, Unavailable
from store.memory import MemoryLog
from store.memory_directory import MemoryDirectory

NOTE = Note("user:root", b"{}")


def make() -> tuple[MemoryLog, Directory]:
    ticks = count(1)
    log = MemoryLog(now_ms=lambda: next(ticks), new_key=lambda: f"00000000-0000-4000-8000-{next(ticks):012}")
    return log, MemoryDirectory(log)


async def revoke(directory: Directory, value: str) -> Revocation:
    return await directory.revoke("demo", "token", value, at_ms=1, until_ms=2, reason="", note=NOTE)


async def audited(log: MemoryLog) -> int:
    [facts] = await log.open_streams([("demo", AUDIT_STREAM, "user:root")])
    return 0 if facts is None else facts.head


async def test_unavailable_has_no_effect() -> None:
    """Neither the change nor its event."""
    log, directory = make()
    log.fail_next("unavailable", "revoke")
    with pytest.raises(Unavailable):
        await revoke(directory, "t")
    assert (await directory.revocations(0, 9), await audited(log)) == ([], 0)


async def test_unknown_has_its_effect() -> None:
    """Both the change and its event."""
    log, directory = make()
    log.fail_next("unknown", "revoke")
    with pytest.raises(Unavailable):
        await revoke(directory, "t")
    assert (len(await directory.revocations(0, 9)), await audited(log)) == (1, 1)


async def test_it_is_down_when_the_log_is() -> None:
    """Every method, with the log's reason; calls are counted by the log."""
    log, directory = make()
    log.down = "gone fishing"
    with pytest.raises(Unavailable, match="gone fishing"):
        await directory.take_pings([])
    assert log.calls == {"take_pings": 1}


async def test_bad_input_is_no_call() -> None:
    """It is refused before the store is asked, down or not."""
    log, directory = make()
    log.down = "gone fishing"
    with pytest.raises(Refused):
        await revoke(directory, "")
    assert log.calls == {}


async def test_the_same_calls_give_the_same_directory() -> None:
    """Keys and times of audit events come from the log's own sources."""
    told = []
    for log, directory in (make(), make()):
        for n in range(5):
            await revoke(directory, f"t-{n}")
        told.append((await directory.revocations(0, 9), [await log.tail(n, 0, 9) for n in range(16)]))
    assert told[0] == told[1]
