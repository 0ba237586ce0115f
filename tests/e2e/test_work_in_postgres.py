"""Workers over Postgres: the way from a command to a rule's words, and sagas that park, go on and turn back."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import trio

from gateway.work.sagas import abort, new_saga, resume
from store.postgres import open_postgres_log
from tests.e2e.test_work import RULES, Airport
from tests.nodes import serving_node
from tests.servers import Database, database, postgres_server  # noqa: F401


async def test_rules_timers_and_sagas_over_postgres(database: Database, tmp_path: Path) -> None:  # noqa: F811
    """All that workers do in memory they do in Postgres, with workers that are cut down amid it."""
    (tmp_path / "test.toml").write_text(RULES)
    rng = Random(7)
    async with (
        open_postgres_log(database.url) as log,
        serving_node(log) as node,
        trio.open_nursery() as nursery,
    ):
        here = Airport(node, log.work, nursery, tmp_path)
        for flight in ("QX1", "QX2"):
            await here.flight(flight)
            await here.sit(flight, f"p{flight}", "1A")
        _, scope = await here.worker()
        await here.give("flight:QX1", "delay", {"reasons": [{"code": "41", "minutes": 30}]})
        data = {"a": {"flight": "QX1", "passenger": "pQX1"}, "b": {"flight": "QX2", "passenger": "pQX2"}}
        await here.work.add([new_saga("demo", "seat_swap", "swap", data, 0, 4e9)])
        for _ in range(4):
            await trio.sleep(0.1 * rng.random())
            scope.cancel()
            _, scope = await here.worker()
        assert await here.comes("flight:QX1", 1) == ["QX1 is late"]
        await here.comes("flight:QX1", 1, "timer.fired")
        task = await here.ends("swap")
        assert (task.state, task.body.get("ended")) == ("done", "done"), task
        assert (await here.seats("QX1"), await here.seats("QX2")) == ({"pQX2": "1A"}, {"pQX1": "1A"})

        gone = {"flight": "QX1", "to": "QX9", "why": "fog", "passengers": [{"id": "pQX2"}]}
        for key, word in (("one", abort), ("two", resume)):
            await here.work.add([new_saga("demo", "cancel_and_rebook", key, gone, 0, 4e9)])
            task = await here.ends(key)
            assert task.state == "parked", task
            if key == "two":
                await here.flight("QX9")
            assert await word(here.work, task, int(1000 * time.time())) == "said"
            assert (await here.ends(key)).state == "done"
        assert (await here.seats("QX1"), await here.seats("QX9")) == ({}, {"pQX2": ""})
        nursery.cancel_scope.cancel()
