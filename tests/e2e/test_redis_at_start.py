"""A node that is started while its Redis is away, or with one that is no good: real processes, real servers."""

from __future__ import annotations

from pathlib import Path

import httpx
import trio

from store.embedded_redis import EmbeddedRedis
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.serving import Serving, serving
from tests.wire_client import hello


async def facts(served: Serving) -> dict[str, object]:
    async with httpx.AsyncClient(base_url=served.http) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 200, answer.text
        found = answer.json()["facts"]
        assert isinstance(found, dict)
        return found


async def test_started_without_its_redis(tmp_path: Path, database: Database) -> None:  # noqa: F811
    """It serves, says what it lacks, and finds the Redis when that comes up."""
    redis = EmbeddedRedis()
    redis.start()  # for a port that is its own
    redis.kill()
    try:
        environ = {"READBACK_DATABASE_URL": database.url, "READBACK_REDIS_URL": redis.url}
        async with serving(tmp_path / "n", environ=environ) as served:
            assert str((await facts(served))["bus"]).startswith("away, the log is tailed meanwhile")
            async with hello(served.url) as client:
                assert (await client.ask("ping"))["op"] == "pong"
                redis.start()
                with trio.fail_after(10):
                    while (await facts(served))["bus"] != "ok":  # noqa: ASYNC110  # another process
                        await trio.sleep(0.05)
            assert redis.password not in served.words()
    finally:
        redis.stop()


async def test_a_redis_that_does_not_let_it_ends_the_start(tmp_path: Path, database: Database) -> None:  # noqa: F811
    """One sentence and the status of what the machine does not let us do."""
    redis = EmbeddedRedis()
    redis.start()
    try:
        url = redis.url.replace(redis.password, "wrong")
        environ = {"READBACK_DATABASE_URL": database.url, "READBACK_REDIS_URL": url}
        async with serving(tmp_path / "n", environ=environ, wait=False) as served:
            assert await served.end() == 3
            (line,) = [line for line in served.words().splitlines() if line.startswith("readback: ")]
            assert "password" in line
            assert "wrong@" not in line
            assert "Traceback" not in served.words()
    finally:
        redis.stop()
