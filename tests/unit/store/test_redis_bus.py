"""The bus on a Redis that fails in every way that it was seen to fail, or that a proxy can feign."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import redis
import trio

from core.bus import Message
from core.ports import Unavailable
from store.bus import BusRefused, RedisBus
from store.embedded_redis import EmbeddedRedis, embedded_redis
from store.redis_peer import Peer
from store.redis_wire import RIGHTS
from tests.buses import HASTY, PATIENT, Proxy, RedisStage, Seen, module_redis, plain, redis_server  # noqa: F401
from tests.nodes import until


@pytest.fixture
def stage(redis_server: EmbeddedRedis) -> RedisStage:  # noqa: F811
    return RedisStage(redis_server)


async def opened(stage: RedisStage, nursery: trio.Nursery, *channels: str, **kwargs: object) -> Seen:
    seen = Seen(stage.bus(**kwargs), *channels)  # type: ignore[arg-type]
    nursery.start_soon(seen.bus.run)
    await seen.well()
    return seen


async def still_works(seen: Seen, payload: bytes = b"after all") -> None:
    await seen.well()
    seen.bus.publish("a", payload)
    await seen.hears(payload)


# Others on the same Redis


async def test_what_others_publish_comes_as_it_is(
    stage: RedisStage,
    plain: redis.Redis,  # noqa: F811
    nursery: trio.Nursery,
) -> None:
    """The node judges it; on the canary's channel it counts for nothing."""
    seen = await opened(stage, nursery, "a")
    plain.publish(stage.name("a"), b"\x00junk")
    plain.publish(stage.name("canary:n1"), b"junk")
    plain.publish(stage.name("canary:n1"), bytes(16))
    plain.publish(stage.name("never"), b"junk")
    await seen.hears(b"\x00junk")
    await still_works(seen)
    assert len(seen.messages) == 2


async def test_cells_on_one_redis_are_apart(stage: RedisStage, nursery: trio.Nursery) -> None:
    """Messages and numbers of another log are not ours."""
    one, other = await opened(stage, nursery, "a"), await opened(stage, nursery, "a", cell="another")
    one.bus.publish("a", b"1")
    other.bus.publish("a", b"2")
    await one.hears(b"1")
    await other.hears(b"2")
    assert len(one.messages) == len(other.messages) == 1
    await one.bus.raise_number("k", 5, 60.0)
    assert await other.bus.raise_number("k", 1, 60.0) == 0


async def test_something_else_under_a_numbers_name_is_that_numbers_trouble_alone(
    stage: RedisStage,
    plain: redis.Redis,  # noqa: F811
    nursery: trio.Nursery,
) -> None:
    """Text counts as nothing; what is no text is an error for who asks, and no reason to open links again."""
    seen = await opened(stage, nursery, "a")
    plain.set(stage.name("n:text"), "junk")
    plain.lpush(stage.name("n:list"), "junk")
    assert await seen.bus.raise_number("text", 3, 60.0) == 0
    assert await seen.bus.raise_number("text", 3, 60.0) == 3
    with pytest.raises(Unavailable):
        await seen.bus.raise_number("list", 3, 60.0)
    await still_works(seen)
    assert seen.bus.reconnects == 0


async def test_a_forgotten_script_is_sent_again(
    stage: RedisStage,
    plain: redis.Redis,  # noqa: F811
    nursery: trio.Nursery,
) -> None:
    """Somebody flushed the scripts, or Redis was started again."""
    seen = await opened(stage, nursery)
    for number in (1, 2):
        plain.script_flush()
        assert await seen.bus.raise_number("k", number, 60.0) == number - 1
    assert seen.bus.trouble is None


# Deaf and dead


async def test_a_redis_that_hangs_is_found_by_the_canary(stage: RedisStage, nursery: trio.Nursery) -> None:
    """Its sockets stay open and nothing comes: only the canary knows. When it goes on, so does the bus."""
    seen = await opened(stage, nursery, "a", limits=HASTY)
    stage.server.freeze()
    try:
        await seen.troubled()
        assert "does not bring back" in (seen.bus.trouble or "")
        assert seen.bus.canaries_lost >= 1
    finally:
        stage.server.thaw()
    await still_works(seen)
    assert seen.listening.count("a") >= 2


async def test_a_deaf_subscription_is_found_and_opened_again(stage: RedisStage, nursery: trio.Nursery) -> None:
    """What is published goes out, and nothing comes back, on one link alone: a half-dead NAT does that."""
    proxy = Proxy(stage.server.port)
    await nursery.start(proxy.serve)
    url = stage.server.url.replace(str(stage.server.port), str(proxy.port))
    seen = await opened(stage, nursery, "a", url=url, limits=HASTY)
    links = len(proxy.listening)
    proxy.deaf = True
    await seen.troubled()
    proxy.deaf = False
    await still_works(seen)
    assert len(proxy.listening) > links
    assert seen.bus.canaries_lost >= 1


async def test_a_channel_that_the_server_forgot_is_found(
    stage: RedisStage, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """The link is well, the canary comes, and one channel is silent: the repeated subscription shows it."""
    proxy = Proxy(stage.server.port)
    await nursery.start(proxy.serve)
    url = stage.server.url.replace(str(stage.server.port), str(proxy.port))
    seen = await opened(
        stage, nursery, "a", "b", "c", url=url, limits=replace(PATIENT, canary_every_s=0.01, resubscribe_every_s=0.05)
    )
    proxy.swallow = b"unsubscribe"
    await proxy.listening[0].send_all(b"UNSUBSCRIBE %b\r\n" % stage.name("b").encode())
    await until(lambda: seen.listening.count("b") == 2)
    seen.bus.publish("b", b"1")
    await seen.hears(b"1", "b")
    assert seen.bus.deaf_found == 1
    assert sorted(seen.listening) == ["a", "b", "b", "c"]
    assert seen.bus.trouble is None
    assert "had forgotten that b" in caplog.text


async def test_a_server_that_takes_a_channel_away_is_asked_anew(stage: RedisStage, nursery: trio.Nursery) -> None:
    """It says so, as a cluster does whose slot moved: no time is lost."""
    proxy = Proxy(stage.server.port)
    await nursery.start(proxy.serve)
    url = stage.server.url.replace(str(stage.server.port), str(proxy.port))
    seen = await opened(stage, nursery, "a", url=url)
    await proxy.listening[0].send_all(b"UNSUBSCRIBE %b\r\n" % stage.name("a").encode())
    await until(lambda: seen.bus.reconnects == 1)
    assert "taken a channel away" in (seen.changes[1] or "")
    await still_works(seen)


@pytest.mark.parametrize("which", ["pubsub", "normal"])
async def test_either_link_may_be_cut(
    stage: RedisStage,
    plain: redis.Redis,  # noqa: F811
    nursery: trio.Nursery,
    which: str,
) -> None:
    """An operator, or a limit of Redis's, ends a client: it is back at once."""
    seen = await opened(stage, nursery, "a")
    plain.execute_command("CLIENT", "KILL", "TYPE", which)
    await until(lambda: seen.bus.reconnects == 1)
    assert seen.changes[1:] == [seen.changes[1], None]
    assert "closed the link" in (seen.changes[1] or "")
    await still_works(seen)


async def test_a_subscriber_that_redis_finds_too_slow_comes_back(
    stage: RedisStage,
    plain: redis.Redis,  # noqa: F811
    nursery: trio.Nursery,
) -> None:
    """`client-output-buffer-limit` cuts the link; the bus takes that as any other end."""
    seen = await opened(stage, nursery, "a")
    plain.config_set("client-output-buffer-limit", "pubsub 65536 0 0")
    try:
        seen.bus.publish("a", bytes(3_000_000))
        await until(lambda: seen.bus.reconnects == 1)
    finally:
        plain.config_set("client-output-buffer-limit", "pubsub 33554432 8388608 60")
    await still_works(seen)


async def test_this_process_s_own_absence_is_not_blamed_on_redis(
    stage: RedisStage, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long garbage collections, each while a canary is under way: it is back, only unread."""
    send_canary = Peer._send_canary
    absences = [0.3] * 4

    def send_and_be_away(peer: Peer) -> None:
        send_canary(peer)
        if absences and peer.trouble is None:
            time.sleep(absences.pop())

    monkeypatch.setattr(Peer, "_send_canary", send_and_be_away)
    seen = await opened(stage, nursery, "a", limits=replace(PATIENT, canary_every_s=0.01, canary_timeout_s=0.25))
    await until(lambda: not absences)
    await still_works(seen)
    assert seen.bus.canaries_lost == 0


# Too much


async def test_what_a_redis_does_not_take_is_bounded(stage: RedisStage, nursery: trio.Nursery) -> None:
    """Beyond the bound messages are dropped and counted; those that were taken come whole and in order."""
    seen = await opened(stage, nursery, "a", limits=replace(PATIENT, publish_bytes_max=100_000))
    stage.server.freeze()
    try:
        for number in range(500):
            seen.bus.publish("a", b"%d:" % number + bytes(65_536))
            await trio.lowlevel.checkpoint()
    finally:
        stage.server.thaw()
    assert seen.bus.dropped > 0
    await until(lambda: len(seen.messages) == seen.bus.published)
    numbers = [int(payload.partition(b":")[0]) for payload in seen.on("a")]
    assert numbers == sorted(numbers)
    assert {len(payload.partition(b":")[2]) for payload in seen.on("a")} == {65_536}
    await still_works(seen)


async def test_a_full_redis_carries_messages_and_keeps_no_number(
    stage: RedisStage,
    plain: redis.Redis,  # noqa: F811
    nursery: trio.Nursery,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A session's number is refused in words; the bus itself is well, and says once that Redis is full."""
    seen = await opened(stage, nursery, "a", limits=replace(PATIENT, canary_every_s=0.01, probe_every_s=0.01))
    plain.config_set("maxmemory", "1")
    try:
        with pytest.raises(Unavailable, match="is full: raise its maxmemory"):
            await seen.bus.raise_number("k", 1, 60.0)
        await until(lambda: seen.bus.errors >= 3)
        await still_works(seen)
    finally:
        plain.config_set("maxmemory", "0")
    assert await seen.bus.raise_number("k", 1, 60.0) == 0
    assert seen.bus.reconnects == 0
    assert sum("is full" in record.message for record in caplog.records) == 1


# Not the right one any more


async def test_a_primary_that_became_a_replica_is_left(
    stage: RedisStage,
    plain: redis.Redis,  # noqa: F811
    nursery: trio.Nursery,
) -> None:
    """A failover behind a name: the probe's write tells, and the name is looked up again until a primary answers."""
    limits = replace(PATIENT, canary_every_s=0.01, probe_every_s=0.01)
    seen = await opened(stage, nursery, "a", limits=limits)
    plain.replicaof("127.0.0.1", 1)
    try:
        await seen.troubled()
        await until(lambda: seen.bus.trouble is not None and "is a replica" in seen.bus.trouble)
    finally:
        plain.replicaof("NO", "ONE")
    await still_works(seen)


async def test_a_right_that_is_taken_away_is_said_and_missed_until_it_is_back(
    stage: RedisStage,
    plain: redis.Redis,  # noqa: F811
    nursery: trio.Nursery,
) -> None:
    """An ACL that somebody changed under a running node. What the advice names is enough."""
    plain.execute_command(f"ACL SETUSER bus on >secret {RIGHTS}")
    url = f"redis://bus:secret@127.0.0.1:{stage.server.port}/0"
    try:
        seen = await opened(stage, nursery, "a", url=url)
        await still_works(seen)
        assert await seen.bus.raise_number("k", 1, 60.0) == 0
        plain.execute_command("ACL SETUSER bus -publish")
        await until(lambda: seen.bus.trouble is not None)
        await until(lambda: "does not let this user do what the bus needs: grant it" in str(seen.bus.trouble))
        assert "secret" not in str(seen.bus.trouble)
        assert seen.bus.errors > 0
        plain.execute_command("ACL SETUSER bus +publish")
        await still_works(seen)
    finally:
        plain.execute_command("ACL DELUSER bus")


async def test_a_wrong_password_is_said_without_it(stage: RedisStage, nursery: trio.Nursery) -> None:
    """And tried again, since somebody may set it right on Redis's side."""
    seen = Seen(stage.bus(url=f"redis://:not-this@127.0.0.1:{stage.server.port}"), "a")
    nursery.start_soon(seen.bus.run)
    await until(lambda: "refuses the user name or password" in str(seen.bus.trouble))
    assert "not-this" not in str(seen.bus.trouble)
    assert "not-this" not in repr(vars(seen.bus))


async def test_something_that_is_no_redis_is_said(stage: RedisStage, nursery: trio.Nursery) -> None:
    """A port of a web server, say."""

    async def greet(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    listeners = await nursery.start(trio.serve_tcp, greet, 0)
    port = listeners[0].socket.getsockname()[1]
    seen = Seen(stage.bus(url=f"redis://127.0.0.1:{port}"))
    nursery.start_soon(seen.bus.run)
    await until(lambda: "does not speak Redis's protocol" in str(seen.bus.trouble))


# Its owner


async def test_what_the_owner_raises_is_logged_and_ends_nothing(
    stage: RedisStage, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """The bus outlives a bug in what is made of its news."""
    seen = await opened(stage, nursery, "a")
    taken = seen.bus.on_messages

    def broken(messages: Sequence[Message]) -> None:
        taken(messages)
        raise ValueError("a bug")

    seen.bus.on_messages = broken
    with caplog.at_level(logging.ERROR):
        seen.bus.publish("a", b"1")
        await seen.hears(b"1")
        await still_works(seen)
    assert "the bus's news could not be taken" in caplog.text


async def test_a_cancelled_bus_leaves_no_link(
    stage: RedisStage,
    plain: redis.Redis,  # noqa: F811
) -> None:
    """And says that it is away."""
    async with trio.open_nursery() as nursery:
        seen = await opened(stage, nursery, "a", node="leaving")
        assert "name=readback-leaving" in str(plain.execute_command("CLIENT", "LIST"))
        nursery.cancel_scope.cancel()
    assert seen.bus.trouble is not None
    seen.bus.publish("a", b"1")
    assert seen.bus.dropped == 1
    await until(lambda: "name=readback-leaving" not in str(plain.execute_command("CLIENT", "LIST")))


def test_a_url_that_cannot_be_meant_is_refused_at_once() -> None:
    """Before anything is opened."""
    with pytest.raises(BusRefused, match="must begin with"):
        RedisBus("http://localhost", cell="c", node="n")


async def test_a_socket_in_the_file_system(tmp_path: Path, nursery: trio.Nursery) -> None:
    """unix:// with a password."""
    with embedded_redis(args=("--unixsocket", str(tmp_path / "redis.sock"))) as server:
        stage = RedisStage(server)
        seen = await opened(stage, nursery, "a", url=f"unix://:{server.password}@{tmp_path}/redis.sock")
        await still_works(seen)
        nursery.cancel_scope.cancel()
