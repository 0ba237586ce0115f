"""``check`` finds what is wrong with commands and names which. Damage is done as superuser, past every function."""

from __future__ import annotations

import uuid

import pytest

from core.model import Decided, Outcome
from store.postgres import open_postgres_log
from tests.servers import Database, database, postgres_server  # noqa: F401

KEYS = [f"00000000-0000-4000-8000-{n:012}" for n in range(4)]


async def fill(database: Database) -> None:  # noqa: F811
    """In stream 1: two events of one command, a refusal, three events of another, one of a third."""
    async with open_postgres_log(database.url) as log:
        flight = await log.create_stream("demo", "flight:QX12", open=True, members=[], by="user:amy")
        assert flight.sid == 1
        state = 0
        for number, events in enumerate((2, 0, 3, 1)):
            keys = [KEYS[number], *(str(uuid.uuid4()) for _ in range(events - 1))]
            facts = [(key, "flight.departed", b"{}") for key in keys[:events]]
            refusal = None if events else b'{"reason":"wrong_state"}'
            command = Decided("demo", 1, KEYS[number], "depart", "user:amy", state, facts, refusal=refusal)
            [judged] = await log.command([command])
            assert judged.outcome is Outcome.OK
            state += events


async def check(database: Database) -> list[str]:  # noqa: F811
    async with open_postgres_log(database.admin_url) as log:
        return [finding async for _, _, finding in log.check() if finding]


async def test_sound_commands_have_no_findings(database: Database) -> None:  # noqa: F811
    """Refusals included."""
    await fill(database)
    assert await check(database) == []


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        ("update readback.commands set seq = 2 where seq = 3", f"command {KEYS[2]} became seq 2, and that is of key"),
        ("update readback.commands set seq = 99 where seq = 6", f"command {KEYS[3]} became seq 99 to 99, and not all"),
        ("update readback.commands set count = 2 where seq = 6", f"command {KEYS[3]} became seq 6 to 7, and not all"),
        (
            "update readback.commands set count = 3 where seq = 1",
            f"command {KEYS[2]} became seq 3 to 5, and another one",
        ),
        ("update readback.commands set count = 0 where seq = 6", f"command {KEYS[3]} is 0 events from seq 6, and no"),
        ("update readback.commands set count = 1 where seq = 0", f"command {KEYS[1]} is 1 events from seq 0, and a"),
        ("update readback.commands set refusal = null where seq = 0", f"command {KEYS[1]} is 0 events from seq 0"),
        ("update readback.commands set refusal = '{}' where seq = 1", f"command {KEYS[0]} is 2 events from seq 1"),
        ("update readback.commands set tenant = 'evil' where seq = 1", f"command {KEYS[0]} is of tenant evil, its"),
        ("update readback.commands set sid = 99 where seq = 1", f"stream 99: command {KEYS[0]} is of tenant demo"),
        ("update readback.streams set ruled = 5", "stream 1: ruled is 5, its last command ends at seq 6"),
        ("delete from readback.commands where seq = 6", "stream 1: ruled is 6, its last command ends at seq 5"),
        ("delete from readback.commands where seq > 0", "stream 1: ruled is 6, its last command ends at seq 0"),
    ],
)
async def test_each_damage_is_named(database: Database, damage: str, finding: str) -> None:  # noqa: F811
    """What was changed behind the log's back, and which command."""
    await fill(database)
    database.sql(damage)
    findings = await check(database)
    assert any(finding in found for found in findings), findings
