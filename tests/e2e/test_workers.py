"""`readback serve --workers` for real: processes that share ports, are killed, replaced, reloaded and drained."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from store.embedded_redis import EmbeddedRedis, embedded_redis
from tests.nodes import token, until
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.serving import Serving, is_running, serving
from tests.wire_client import WireClient, hello

ROOM = "chat:ops"
ADMIN = {"authorization": f"Bearer {token('service:test', roles=['admin'])}"}


@pytest.fixture(scope="module")
def redis_server() -> Iterator[EmbeddedRedis]:
    with embedded_redis() as server:
        yield server


@pytest.fixture
def environ(database: Database, redis_server: EmbeddedRedis) -> dict[str, str]:  # noqa: F811
    return {"READBACK_DATABASE_URL": database.url, "READBACK_REDIS_URL": redis_server.url}


@asynccontextmanager
async def two_workers(folder: Path, environ: dict[str, str]) -> AsyncIterator[Serving]:
    async with serving(folder, "--workers", "2", environ=environ) as served:
        async with httpx.AsyncClient(base_url=served.http, headers=ADMIN) as client:
            made = await client.post("/v1/streams", json={"stream": ROOM, "open": True})
            assert made.status_code == 201, made.text
        yield served


async def crowd(served: Serving, stack: AsyncExitStack) -> dict[str, list[WireClient]]:
    """Clients that follow the room, at least two with each worker; by worker."""
    clients: dict[str, list[WireClient]] = {"1": [], "2": []}
    for number in range(64):
        before = await served.metrics("readback_connections")
        client = await stack.enter_async_context(hello(served.url, f"user:u{number}", {ROOM: {}}))
        after = await served.metrics("readback_connections")
        (worker,) = [name for name in after if after[name] > before[name]]
        clients[worker].append(client)
        if all(len(found) >= 2 for found in clients.values()):
            return clients
    raise AssertionError("the kernel gave all connections to one worker")


def is_worker(pid: int, number: int) -> bool:
    return f"\0--number\0{number}\0".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()


async def test_a_worker_that_is_killed_takes_nobody_elses_clients_along(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    """Clients of the others talk on; a successor of its number serves within seconds; what was said is in one order."""
    async with two_workers(tmp_path / "w", environ) as served, AsyncExitStack() as stack:
        clients = await crowd(served, stack)
        everybody = clients["1"] + clients["2"]
        sent = await clients["1"][0].send(ROOM, "before")
        for client in everybody:
            assert (await client.next("event", stream=ROOM))["seq"] == sent["seq"]
        pids = served.children()
        assert len(pids) == 2
        victim = next(pid for pid in pids if is_worker(pid, 1))
        os.kill(victim, signal.SIGKILL)
        for client in clients["1"]:
            assert (await client.closed())[0] == 1006
        sent = await clients["2"][0].send(ROOM, "meanwhile")
        for client in clients["2"]:
            assert (await client.next("event", stream=ROOM))["seq"] == sent["seq"]

        async def both_serve() -> bool:
            return await served.metrics("readback_worker_up") == {"1": 1.0, "2": 1.0}

        with trio.fail_after(20):
            while not await both_serve():  # noqa: ASYNC110  # another process
                await trio.sleep(0.1)
        assert victim not in served.children()
        assert "worker 1 ended by SIGKILL; starting it again" in served.words()
        async with hello(served.url, "user:late", {ROOM: {"after": 0}}) as late:
            assert [event["seq"] for event in await late.events(ROOM, sent["seq"])] == [1, 2]
        for client in clients["2"]:
            assert (await client.ask("ping"))["op"] == "pong"
    assert served.process.returncode in (0, 130)


async def test_one_scrape_and_one_probe_tell_of_all(tmp_path: Path, environ: dict[str, str]) -> None:
    """Whichever worker answers, /metrics has every series of each, and /readyz counts who is ready."""
    async with two_workers(tmp_path / "w", environ) as served:
        asked: Counter[str] = Counter()
        for _ in range(40):
            async with httpx.AsyncClient(base_url=served.http) as client:
                health = (await client.get("/readyz")).json()
                assert (health["facts"]["workers"], health["facts"]["workers_ready"]) == (2, 2)
                asked[health["facts"]["worker"]] += 1
                text = (await client.get("/metrics")).text
            assert text.count("# TYPE readback_connections gauge") == 1
            assert 'readback_connections{worker="1"}' in text
            assert 'readback_commit_seconds_bucket{worker="2",le="+Inf"}' in text
            if len(asked) == 2:
                break
        assert set(asked) == {"1", "2"}


async def test_replaced_one_by_one_without_a_gap(tmp_path: Path, environ: dict[str, str]) -> None:
    """SIGUSR2: at every moment somebody takes new clients and answers HTTP; afterwards all are new processes."""
    async with two_workers(tmp_path / "w", environ) as served:
        before = served.children()
        done = trio.Event()
        refused: list[str] = []
        came = 0

        async def newcomers() -> None:
            nonlocal came
            while not done.is_set():
                try:
                    async with hello(served.url, "user:new", {ROOM: {}}) as client:
                        assert (await client.ask("ping"))["op"] == "pong"
                    async with httpx.AsyncClient(base_url=served.http) as http:
                        assert (await http.get("/readyz")).status_code == 200
                    came += 1
                except Exception as error:
                    refused.append(repr(error))
                await trio.sleep(0.02)

        async with hello(served.url, "user:old", {ROOM: {}}) as old, trio.open_nursery() as nursery:
            nursery.start_soon(newcomers)
            os.kill(served.pid, signal.SIGUSR2)
            assert "after_ms" in await old.next("drain")
            await until(lambda: "all workers were replaced" in served.words(), 40)
            done.set()
        after = served.children()
        assert len(after) == 2
        assert not set(after) & set(before)
        # In the instant in which a listener closes, the kernel may still hand it a connection: that is reset, or refused
        # with a Retry-After. A client tries again at once.
        assert len(refused) <= 2, refused
        assert came > 20


async def test_a_reload_takes_new_keys_and_drops_old_ones(tmp_path: Path, environ: dict[str, str]) -> None:
    """SIGHUP reaches every worker; a file that cannot be used is said and changes nothing."""
    issuer = tmp_path / "issuer.json"
    old_key, new_key = "dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHQ", "bm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm4"
    issuer.write_text(f'{{"k1": "{old_key}"}}')
    environ |= {"READBACK_TOKEN_SECRETS_FILE": str(issuer), "READBACK_TOKEN_SECRETS": ""}

    async def statuses(served: Serving) -> set[int]:
        found = set()
        for _ in range(12):  # enough to meet both workers
            async with httpx.AsyncClient(base_url=served.http, headers=ADMIN) as client:
                found.add((await client.get("/v1/me/streams")).status_code)
        return found

    async with two_workers(tmp_path / "w", environ) as served:
        assert await statuses(served) == {200}
        issuer.write_text("{")
        os.kill(served.pid, signal.SIGHUP)
        await until(lambda: served.words().count("nothing was reloaded") == 2)
        assert await statuses(served) == {200}
        issuer.write_text(f'{{"k2": "{new_key}"}}')
        os.kill(served.pid, signal.SIGHUP)
        await until(lambda: served.words().count("reloaded: keys 'k2'") == 2)
        assert await statuses(served) == {401}


async def test_sigterm_drains_all(tmp_path: Path, environ: dict[str, str]) -> None:
    """Every client of every worker is told when to come back; the status is 0 and nothing is left."""
    async with two_workers(tmp_path / "w", environ) as served, AsyncExitStack() as stack:
        clients = await crowd(served, stack)
        served.process.send_signal(signal.SIGTERM)
        for client in clients["1"] + clients["2"]:
            assert "resume" in await client.next("drain")
        assert await served.end() == 0
        assert served.children() == []


async def test_workers_end_with_their_parent(tmp_path: Path, environ: dict[str, str]) -> None:
    """A parent that is killed takes nobody down at once: its workers drain, then end."""
    async with two_workers(tmp_path / "w", environ) as served:
        workers = served.children()
        async with hello(served.url, "user:amy", {ROOM: {}}) as client:
            served.process.kill()
            assert "resume" in await client.next("drain")
        await until(lambda: not any(map(is_running, workers)), 15)


async def test_a_worker_that_cannot_start_is_said_once(tmp_path: Path, environ: dict[str, str]) -> None:
    """What is wrong for all is one status and one sentence of why, and no process is left."""
    environ["READBACK_DATABASE_URL"] = "postgresql://readback_gateway@127.0.0.1:9/none"
    async with serving(tmp_path / "w", "--workers", "2", environ=environ, wait=False) as served:
        assert await served.end(40) == 3
        assert "could not start: it ended with status 3" in served.words()


@pytest.mark.slow
async def test_dev_with_workers_brings_everything(tmp_path: Path) -> None:
    """`readback dev --workers 2` on an empty folder: Postgres, Redis, two nodes; a message crosses; SIGTERM ends all."""
    folder = tmp_path / "dev"
    async with serving(folder, "--workers", "2", command="dev") as served, AsyncExitStack() as stack:
        clients: dict[str, WireClient] = {}
        while len(clients) < 2:
            before = await served.metrics("readback_connections")
            name = f"user:u{sum(before.values())}"
            client = await stack.enter_async_context(hello(served.url, name, {"chat:lobby": {}}))
            after = await served.metrics("readback_connections")
            clients[next(worker for worker in after if after[worker] > before[worker])] = client
        await clients["1"].send("chat:lobby", "over")
        assert (await clients["2"].next("event", stream="chat:lobby"))["body"] == {"text": "over"}
        assert "2 on one port, over Redis" in served.words()
        served.process.send_signal(signal.SIGTERM)
        assert await served.end() == 0
