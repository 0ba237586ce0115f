"""`readback work`: a worker alone does what is to be done, and its HTTP port is as a node's."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import trio

from gateway.config import Config, ConfigError, Ready, Secrets
from gateway.place import Place
from gateway.serve import work
from gateway.systemd import Notifier
from store.postgres import open_postgres_log
from tests.certs import make_pair
from tests.nodes import SECRETS
from tests.servers import TEST_PARTITIONS, Database, database, postgres_server  # noqa: F401

CONSUMERS = 4
"""Read models, timers, rules, alerts; pushes only where there are keys for them."""


async def test_a_worker_alone(database: Database, tmp_path: Path) -> None:  # noqa: F811
    """It takes on what is in the log, says how it is over TLS where that is wanted, and gives all back when it ends."""
    pair = make_pair(tmp_path)
    config = Config(
        database_url=database.url, http_port=0, dev_tokens=True, tls_cert=pair.cert, tls_key=pair.key, data=tmp_path
    )
    ready = trio.Event()
    told: list[Ready] = []

    def on_ready(facts: Ready) -> None:
        told.append(facts)
        ready.set()

    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await work(config, SECRETS, on_ready=on_ready, place=Place(Notifier({})))

        nursery.start_soon(run)
        with trio.fail_after(30):
            await ready.wait()
            async with httpx.AsyncClient(verify=pair.client()) as http:
                url = f"https://localhost:{told[0].http_port}"

                async def facts() -> dict[str, object]:
                    return dict((await http.get(f"{url}/readyz")).json()["facts"])

                while (await facts()).get("worker_partitions") != CONSUMERS * TEST_PARTITIONS:  # noqa: ASYNC110  # by its first beat
                    await trio.sleep(0.02)
                assert (await facts())["worker"] == "ok"
                assert "readback_work_partitions" in (await http.get(f"{url}/metrics")).text
                assert (await http.get(f"{url}/v1/me/streams")).status_code == 401
            assert told[0].drain is not None
            told[0].drain()
    async with open_postgres_log(database.url) as log:
        assert {cursor.holder for cursor in await log.work.cursors()} == {""}


async def test_a_worker_that_could_verify_nobody_says_so(database: Database, tmp_path: Path) -> None:  # noqa: F811
    """In a sentence, before anything is started."""
    secrets = Secrets({}, SECRETS.resume_keys)
    config = Config(database_url=database.url, http_port=0, data=tmp_path)
    with pytest.raises(ConfigError, match="No access token could be verified"):
        await work(config, secrets, on_ready=lambda ready: None, place=Place(Notifier({})))
