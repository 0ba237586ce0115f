"""From a URL to servers: what it may say, and what Sentinels and clusters answer. Their failovers are followed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import redis
import trio

from core.ports import Unavailable
from store.bus import BusRefused, BusUnreachable, RedisBus, check_redis
from store.bus_limits import BusLimits
from store.embedded_redis import (
    EmbeddedRedis,
    EmbeddedRedisError,
    RedisBinary,
    embedded_redis,
    find_redis_server,
    free_port,
)
from store.redis_find import Topology, find, name_of, name_on, parse_url, slot_of
from store.redis_wire import LinkLost, Server
from tests.buses import PATIENT, Seen
from tests.nodes import until

NO_PASSWORD = ""


# The URL


@pytest.mark.parametrize(
    ("url", "kind", "servers"),
    [
        ("redis://localhost", "one", (Server("localhost", 6379),)),
        ("redis://10.0.0.1:7000/3", "one", (Server("10.0.0.1", 7000),)),
        ("redis://[::1]:7000", "one", (Server("::1", 7000),)),
        ("redis://[::1]", "one", (Server("::1", 6379),)),
        ("rediss://bus:p%40ss@cache.example", "one", (Server("cache.example", 6379),)),
        ("unix:///run/redis.sock?db=2", "one", (Server("", 0, "/run/redis.sock"),)),
        ("unix://bus:pw@/run/redis.sock", "one", (Server("", 0, "/run/redis.sock"),)),
        ("redis+sentinel://s1,s2:7/bus/1", "sentinel", (Server("s1", 26379), Server("s2", 7))),
        ("redis+cluster://c1:1,c2:2", "cluster", (Server("c1", 1), Server("c2", 2))),
        ("rediss+cluster://:pw@c1", "cluster", (Server("c1", 6379),)),
    ],
)
def test_a_url_names_servers(url: str, kind: str, servers: tuple[Server, ...]) -> None:
    """Ports are the usual ones where none is given."""
    parsed = parse_url(url)
    assert (parsed.kind, parsed.servers) == (kind, servers)
    assert (parsed.login.tls is not None) == url.startswith("rediss")


def test_a_url_s_login_is_read_and_never_shown() -> None:
    """Percent signs are undone; a database comes from the path or the options."""
    parsed = parse_url("redis+sentinel://bus:p%2Fw@s1/main/4?sentinel_password=other")
    assert (parsed.login.username, parsed.login.password, parsed.login.db) == ("bus", "p/w", 4)
    assert parsed.service == "main"
    assert "p/w" not in repr(parsed)
    assert "other" not in repr(parsed)
    assert parse_url("unix:///x.sock?db=3").login.db == 3
    assert parse_url("redis://:only@h/2").login.password == "only"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "must begin with redis://"),
        ("localhost:6379", "must begin with redis://"),
        ("http://:geheim@localhost", "must begin with redis://"),
        ("redisss://localhost", "must begin with redis://"),
        ("redis://:geheim@localhost:port", "not of the form redis://"),
        ("redis://:ge/heim@localhost", "not of the form redis://"),
        ("redis://:geheim@localhost/1/2", "not of the form redis://"),
        ("redis://:geheim@localhost/-1", "not of the form redis://"),
        ("redis://:geheim@localhost:99999", "not of the form redis://"),
        ("redis://:geheim@a,b", "not of the form redis://"),
        ("redis://:geheim@localhost?geheim", "not of the form redis://"),
        ("redis://:geheim@localhost?timeout=1", "options that mean nothing here: timeout"),
        ("redis+sentinel://:geheim@s1", "must name the service"),
        ("redis+cluster://:geheim@c1/1", "a cluster has only the first"),
        ("rediss://:geheim@h?ssl_ca_certs=/nowhere/ca.pem", "cannot be read"),
    ],
)
def test_a_wrong_url_is_refused_in_a_sentence_without_its_password(url: str, says: str) -> None:
    """The sentence names the form, never what was given."""
    with pytest.raises(BusRefused, match=re.escape(says)) as refused:
        parse_url(url)
    assert "geheim" not in str(refused.value)


# Slots


def test_slots_are_redis_s() -> None:
    """As CLUSTER KEYSLOT says of the same names."""
    assert slot_of(b"123456789") == 12739
    assert slot_of(b"foo{hash_tag}") == slot_of(b"hash_tag") == 2515
    assert slot_of(b"foo{}{bar}") == 8363
    assert slot_of(name_of("cell", "events:3")) == slot_of(b"cell:events:3")


def test_a_name_of_a_server_s_own_is_found() -> None:
    """The canary of each primary lives with it."""
    servers = tuple(Server("h", port) for port in range(50))
    size = 16_384 // 50
    slots = tuple((n * size, 16_383 if n == 49 else (n + 1) * size - 1, server) for n, server in enumerate(servers))
    topology = Topology(servers, slots)
    for server in servers:
        assert topology.server_of(name_on(topology, server, "cell", "canary:n1")) == server
    without = Topology((*servers, Server("empty", 1)), slots)
    assert name_on(without, Server("empty", 1), "cell", "canary") == name_of("cell", "canary")
    assert Topology(servers, slots[1:]).server_of(b"{06S}") is None  # slot 0


# Sentinels


class Sentinels:
    """A primary, a replica and one Sentinel, all of the embedded binary."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.first = stack.enter_context(embedded_redis(password=NO_PASSWORD))
        follow = ("--replicaof", "127.0.0.1", str(self.first.port), "--repl-diskless-sync-delay", "0")
        self.second = stack.enter_context(embedded_redis(args=follow, password=NO_PASSWORD))
        self.port = free_port()
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor bus 127.0.0.1 {self.first.port} 1\n"
            "sentinel down-after-milliseconds bus 300\nsentinel failover-timeout bus 5000\n"
        )
        self._process = subprocess.Popen(
            [self.first.binary.path, config, "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(self._stop)

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()

    async def ready(self) -> None:
        """Once the Sentinel knows the replica, and the replica is in step: it may be made primary from then on."""
        with (
            redis.Redis(port=self.port, protocol=2) as sentinel,
            redis.Redis(port=self.second.port, protocol=2) as replica,
        ):

            def knows() -> bool:
                try:
                    replicas = sentinel.execute_command("SENTINEL REPLICAS", "bus")
                    return bool(replicas) and replica.info("replication")["master_link_status"] == "up"
                except redis.exceptions.ConnectionError:
                    return False

            await until(knows, 30.0)

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/bus"


async def test_a_failover_of_the_sentinels_is_followed(tmp_path: Path, nursery: trio.Nursery) -> None:
    """The primary is killed; the bus goes on at the one that the Sentinel then names, numbers included."""
    with ExitStack() as stack:
        stage = Sentinels(stack, tmp_path)
        await stage.ready()
        assert await check_redis(stage.url, "cell") == []
        seen = Seen(RedisBus(stage.url, cell="cell", node="n1", limits=PATIENT), "a")
        nursery.start_soon(seen.bus.run)
        await seen.well()
        assert await seen.bus.raise_number("k", 1, 60.0) == 0
        stage.first.kill()
        await seen.troubled()
        await until(lambda: seen.bus.trouble is None, 60.0)
        seen.bus.publish("a", b"after")
        await seen.hears(b"after")
        await seen.bus.raise_number("k", 2, 60.0)
        with redis.Redis(port=stage.second.port, protocol=2) as replica:
            assert replica.role()[0] == b"master"
        nursery.cancel_scope.cancel()


async def test_sentinels_that_do_not_help_are_said() -> None:
    """None answers, or they know no such service."""
    dead = free_port()
    with pytest.raises(BusUnreachable, match=f"Sentinels 127.0.0.1:{dead} do not help: none of them answers"):
        await check_redis(f"redis+sentinel://127.0.0.1:{dead}/bus", "cell")


async def test_sentinels_that_do_not_know_the_service_are_said(tmp_path: Path) -> None:
    """The name in the URL may be wrong."""
    with ExitStack() as stack:
        stage = Sentinels(stack, tmp_path)
        await stage.ready()
        with pytest.raises(BusUnreachable, match="they know no working primary of 'other'"):
            await check_redis(stage.url.replace("/bus", "/other"), "cell")
        with pytest.raises(BusRefused, match=r"is a Sentinel: the URL must be redis\+sentinel://"):
            await check_redis(f"redis://127.0.0.1:{stage.port}", "cell")


# Clusters


class Cluster:
    """Three primaries without replicas."""

    def __init__(self, stack: ExitStack, binary: RedisBinary) -> None:
        self.servers: list[EmbeddedRedis] = []
        self._introduced = False
        for _ in range(3):
            args = (
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "2000",
                "--cluster-require-full-coverage",
                "no",
            )
            server = EmbeddedRedis(args=args, password=NO_PASSWORD, binary=binary)
            # The bus port of a cluster is this much higher, and has to be a port too.
            while not server.port or server.port > 55_000:
                server.port = free_port()
            server.start()
            stack.callback(server.stop)
            self.servers.append(server)

    async def ready(self) -> None:
        """All up, introduced to each other, about a third of the slots each."""
        for server in self.servers:
            if server.pid is None:
                server.start()
        clients = [redis.Redis(port=server.port, protocol=2) for server in self.servers]
        try:
            for number, client in enumerate(clients if not self._introduced else []):
                first, last = number * 5462, min(number * 5462 + 5461, 16_383)
                client.execute_command("CLUSTER ADDSLOTS", *range(first, last + 1))
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            for server in self.servers[1:] if not self._introduced else []:
                clients[0].execute_command("CLUSTER MEET", "127.0.0.1", server.port)
            self._introduced = True
            await until(lambda: all(self._complete(client) for client in clients), 60.0)
        finally:
            for client in clients:
                client.close()

    def move(self, name: bytes, source: EmbeddedRedis, to: EmbeddedRedis) -> None:
        """Give a slot without keys to another primary, by the steps of a resharding."""
        slot = slot_of(name)
        ids = {}
        for server in self.servers:
            with redis.Redis(port=server.port, protocol=2) as client:
                ids[server] = client.execute_command("CLUSTER MYID")
        with redis.Redis(port=to.port, protocol=2) as there, redis.Redis(port=source.port, protocol=2) as here:
            there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
            here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[to])
            there.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[to])
            here.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[to])

    @staticmethod
    def _complete(client: redis.Redis) -> bool:
        owners = {owner[2] for _, _, owner, *_ in client.execute_command("CLUSTER SLOTS")}
        info = client.execute_command("CLUSTER INFO")
        return len(owners) == 3 and info["cluster_slots_ok"] == "16384" and info["cluster_state"] == "ok"

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)


@pytest.fixture(scope="module", params=["classic", "sharded"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    try:
        binary = find_redis_server((7, 0) if request.param == "sharded" else None)
    except EmbeddedRedisError:
        pytest.skip("sharded pub/sub needs a redis-server of 7.0 or newer on PATH")
    with ExitStack() as stack:
        yield Cluster(stack, binary)


async def test_a_cluster_carries_the_bus(cluster: Cluster, nursery: trio.Nursery) -> None:
    """Channels and numbers are spread over the primaries; one that dies is missed and comes back."""
    await cluster.ready()
    sharded = cluster.servers[0].version >= (7, 0)
    topology = await find(parse_url(cluster.url), PATIENT)
    assert topology.sharded == sharded
    assert len(topology.servers) == 3
    assert await check_redis(cluster.url, "cell") == []
    channels = [f"events:{number}" for number in range(12)]
    assert len({topology.server_of(name_of("cell", channel)) for channel in channels}) == 3
    limits = replace(PATIENT, canary_every_s=0.02, find_timeout_s=0.5)
    one = Seen(RedisBus(cluster.url, cell="cell", node="n1", limits=limits), *channels)
    two = Seen(RedisBus(cluster.url, cell="cell", node="n2", limits=limits), *channels)
    for seen in (one, two):
        nursery.start_soon(seen.bus.run)
        await seen.well()
    for channel in channels:
        one.bus.publish(channel, channel.encode())
        assert await one.bus.raise_number(channel, 1, 60.0) == 0
        assert await two.bus.raise_number(channel, 2, 60.0) == 1
    for channel in channels:
        await two.hears(channel.encode(), channel)
        assert len(two.on(channel)) == 1
    for server in cluster.servers:
        with redis.Redis(port=server.port, protocol=2) as client:
            spread = client.execute_command("PUBSUB SHARDCHANNELS" if sharded else "PUBSUB CHANNELS", "readback:*")
        assert 0 < len(spread) < len(channels) + 2
    cluster.servers[2].kill()
    await one.troubled()
    homes = {channel: topology.server_of(name_of("cell", channel)) for channel in channels}
    alive = next(channel for channel, home in homes.items() if home and home.port != cluster.servers[2].port)
    one.bus.publish(alive, b"meanwhile")
    await two.hears(b"meanwhile", alive)
    cluster.servers[2].start()
    nursery.cancel_scope.cancel()


async def test_what_moves_within_a_cluster_is_found_again(cluster: Cluster, nursery: trio.Nursery) -> None:
    """A channel's slot and a number's go to another primary under a running node."""
    await cluster.ready()
    topology = await find(parse_url(cluster.url), PATIENT)
    limits = replace(PATIENT, canary_every_s=0.02)
    seen = Seen(RedisBus(cluster.url, cell="cell", node="n1", limits=limits), "a", "b", "c")
    nursery.start_soon(seen.bus.run)
    await seen.well()
    for name in (name_of("cell", "a"), name_of("cell", "n:k")):
        home = topology.server_of(name)
        assert home is not None
        source, to, _ = sorted(cluster.servers, key=lambda server: server.port != home.port)
        cluster.move(name, source, to)
    with trio.fail_after(20):
        while True:
            try:
                assert await seen.bus.raise_number("k", 1, 60.0) == 0
                break
            except Unavailable:
                await trio.sleep(0.01)
    await seen.well()
    moved = await find(parse_url(cluster.url), PATIENT)
    assert moved.server_of(name_of("cell", "a")) != topology.server_of(name_of("cell", "a"))
    with trio.fail_after(20):
        while not all(seen.on(channel) for channel in "abc"):
            for channel in "abc":
                seen.bus.publish(channel, b"here")
            await trio.sleep(0.01)
    nursery.cancel_scope.cancel()


async def test_one_of_a_cluster_is_refused_as_if_it_were_alone(cluster: Cluster) -> None:
    """And one that is alone, as a cluster: the sentence says how the URL has to begin."""
    await cluster.ready()
    with pytest.raises(BusRefused, match=r"is part of a cluster: the URL must begin with redis\+cluster://"):
        await check_redis(f"redis://127.0.0.1:{cluster.servers[0].port}", "cell")
    with embedded_redis() as alone, pytest.raises(BusRefused, match="is not part of a cluster: the URL must begin"):
        await check_redis(alone.url.replace("redis://", "redis+cluster://")[:-2], "cell")


async def test_a_cluster_that_is_away_is_unreachable() -> None:
    """Which a node may start with."""
    ports = free_port(), free_port()
    url = f"redis+cluster://127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}"
    with pytest.raises(BusUnreachable, match=f"no Redis of the cluster is reachable, 127.0.0.1:{ports[1]} last"):
        await check_redis(url, "cell")
    with pytest.raises(LinkLost):
        await find(parse_url(url), BusLimits())
