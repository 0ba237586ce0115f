"""A Redis that cannot carry the bus is refused at start, in one sentence that says what to do."""

from __future__ import annotations

import datetime
import re
import ssl
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
import redis
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from core.ports import StoreError
from store.bus import BusRefused, BusUnreachable, check_redis
from store.embedded_redis import EmbeddedRedis, embedded_redis, free_port
from store.redis_wire import RIGHTS
from tests.buses import PATIENT, Proxy, RedisStage, Seen, module_redis, plain, redis_server  # noqa: F401
from tests.nodes import until

CELL = "the-cell"


async def refusal(url: str, kind: type[StoreError] = BusRefused) -> str:
    with pytest.raises(kind) as refused:
        await check_redis(url, CELL)
    words = str(refused.value)
    assert "\n" not in words
    assert type(refused.value) is kind
    return words


@pytest.fixture
def user(redis_server: EmbeddedRedis, plain: redis.Redis) -> Iterator[str]:  # noqa: F811
    """The URL of a user with exactly the rights that are advised."""
    plain.execute_command(f"ACL SETUSER bus on >geheim {RIGHTS}")
    yield f"redis://bus:geheim@127.0.0.1:{redis_server.port}/0"
    plain.execute_command("ACL DELUSER bus")


async def test_a_good_one_passes_and_keeps_nothing(redis_server: EmbeddedRedis, plain: redis.Redis) -> None:  # noqa: F811
    """What the check writes is this cell's own and goes by itself."""
    assert await check_redis(redis_server.url, CELL) == []
    with trio.fail_after(20):
        while plain.keys("*"):  # noqa: ASYNC110  # Redis's clock makes no event
            await trio.sleep(0.01)


async def test_the_advised_rights_are_enough(user: str) -> None:
    """And no more than that has to be granted."""
    assert await check_redis(user, CELL) == []


@pytest.mark.parametrize(
    "taken",
    ["-publish", "-subscribe", "-eval", "-evalsha", "-set", "-select", "resetkeys ~other:*", "resetchannels &other:*"],
)
async def test_each_missing_right_is_found(user: str, plain: redis.Redis, taken: str) -> None:  # noqa: F811
    """By doing what the bus will do; database 1 needs SELECT."""
    plain.execute_command(f"ACL SETUSER bus {taken}")
    words = await refusal(user[:-1] + "1")
    assert "does not let this user do what the bus needs: grant it resetchannels ~readback:*" in words


async def test_a_wrong_password_a_wrong_user_and_none(redis_server: EmbeddedRedis) -> None:  # noqa: F811
    """None is repeated."""
    port = redis_server.port
    for login in (":geheim@", "somebody:geheim@"):
        words = await refusal(f"redis://{login}127.0.0.1:{port}")
        assert words == f"Redis 127.0.0.1:{port} refuses the user name or password of the URL"
    assert "asks for a password" in await refusal(f"redis://127.0.0.1:{port}")


async def test_a_password_for_one_that_has_none() -> None:
    """Redis's own words would repeat it."""
    with embedded_redis(password="") as server:
        words = await refusal(f"redis://:geheim@127.0.0.1:{server.port}")
        assert words.endswith("knows no such login: leave out the user or the password of the URL")


async def test_one_that_is_not_there_is_unreachable() -> None:
    """A node may start without it."""
    port = free_port()
    assert await refusal(f"redis://127.0.0.1:{port}", BusUnreachable) == (
        f"Redis 127.0.0.1:{port} is not reachable: Connection refused"
    )
    assert "not reachable" in await refusal("unix:///nowhere/redis.sock", BusUnreachable)
    assert "not reachable" in await refusal("redis://no-such-host.invalid", BusUnreachable)


async def test_one_that_hangs_is_unreachable(redis_server: EmbeddedRedis) -> None:  # noqa: F811
    """Within a time that a start can bear."""
    redis_server.freeze()
    try:
        assert "does not answer" in await refusal(redis_server.url, BusUnreachable)
    finally:
        redis_server.thaw()


async def test_a_full_one_a_replica_and_one_that_cannot_save(
    redis_server: EmbeddedRedis,  # noqa: F811
    plain: redis.Redis,  # noqa: F811
) -> None:
    """Each by the write that fails."""
    plain.config_set("maxmemory", "1")
    assert "is full: raise its maxmemory" in await refusal(redis_server.url)
    plain.config_set("maxmemory", "0")
    plain.replicaof("127.0.0.1", 1)
    assert "is a replica: give the URL of its primary" in await refusal(redis_server.url)
    plain.replicaof("NO", "ONE")
    assert await check_redis(redis_server.url, CELL) == []


async def test_one_that_may_evict_is_warned_of(redis_server: EmbeddedRedis, plain: redis.Redis) -> None:  # noqa: F811
    """Sessions' numbers have a time to live: every policy but one may take them."""
    plain.config_set("maxmemory", "100mb")
    plain.config_set("maxmemory-policy", "volatile-lru")
    (warning,) = await check_redis(redis_server.url, CELL)
    assert "may evict the numbers of sessions (maxmemory-policy volatile-lru)" in warning
    plain.config_set("maxmemory-policy", "noeviction")
    assert await check_redis(redis_server.url, CELL) == []
    plain.config_set("maxmemory", "0")


async def test_one_too_full_of_clients(redis_server: EmbeddedRedis, plain: redis.Redis) -> None:  # noqa: F811
    """Its refusal comes before any login."""
    assert plain.ping()
    before = plain.config_get("maxclients")["maxclients"]
    plain.config_set("maxclients", 1)
    try:
        words = await refusal(redis_server.url, BusUnreachable)
        assert "as many clients as it may have" in words or "closed the link" in words or "broke" in words
    finally:
        plain.config_set("maxclients", before)


async def test_one_too_old_says_its_version(nursery: trio.Nursery) -> None:
    """Feigned: there is no such old server here."""

    async def old(stream: trio.SocketStream) -> None:
        async with stream:
            while data := await stream.receive_some():
                if b"HELLO" in data:
                    await stream.send_all(
                        b"*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n6.0.9\r\n+OK\r\n"
                    )

    listeners = await nursery.start(trio.serve_tcp, old, 0)
    port = listeners[0].socket.getsockname()[1]
    words = await refusal(f"redis://127.0.0.1:{port}")
    assert words == f"Redis 127.0.0.1:{port} is 6.0.9, and the bus needs 6.2 or newer: upgrade it"
    nursery.cancel_scope.cancel()


async def test_a_url_that_cannot_be_meant() -> None:
    """Before anything is asked."""
    assert "must begin with" in await refusal("memcached://localhost")


# TLS


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """One that signs itself, for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    certificate_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_path, key_path


async def test_the_bus_goes_through_tls(
    redis_server: EmbeddedRedis,  # noqa: F811
    tmp_path: Path,
    nursery: trio.Nursery,
) -> None:
    """Large messages both ways; an unknown certificate is refused, in words; so is a server without TLS."""
    good, key = certificate(tmp_path, "good")
    other, _ = certificate(tmp_path, "other")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(good, key)
    proxy = Proxy(redis_server.port, context)
    await nursery.start(proxy.serve)
    url = re.sub(r"redis://(.*):\d+/0", rf"rediss://\1:{proxy.port}/0", redis_server.url)
    trusting = f"{url}?ssl_ca_certs={good}"
    assert await check_redis(trusting, CELL) == []
    stage = RedisStage(redis_server)
    seen = Seen(stage.bus(url=trusting), "a")
    nursery.start_soon(seen.bus.run)
    await seen.well()
    payloads = [bytes([number]) * 1_000_000 for number in range(8)]
    for payload in payloads:
        seen.bus.publish("a", payload)
    await until(lambda: len(seen.messages) == 8)
    assert seen.on("a") == payloads
    assert "its certificate does not pass" in await refusal(f"{url}?ssl_ca_certs={other}")
    assert await check_redis(f"{url}?ssl_cert_reqs=none", CELL) == []
    words = await refusal(redis_server.url.replace("redis://", "rediss://"), BusUnreachable)
    assert "or speaks no TLS there: then the URL must begin with redis" in words
    nursery.cancel_scope.cancel()
