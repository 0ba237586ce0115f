"""The port of tracks, what somebody asked for: fences, keys of apps, pushes; in memory and in Postgres."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from core.ports import Refused, Unavailable
from core.tracks import FENCES_MAX, PUSHES_MAX, Tracks
from tests.servers import run_sql
from tests.tracks import NOW, TRIP, TRUCK, VAN, Couple, fence, key, last, push, sample, secret, whole

TRIANGLE = ((0.0, 0.0), (0.0, 1.5), (1.0, -179.999))


async def refused(call: Awaitable[object], code: str = "bad_request") -> None:
    with pytest.raises(Refused) as caught:
        await call
    assert caught.value.code == code


# Fences


async def test_fences_are_kept_and_replaced(couple: Couple) -> None:
    """By id; whether one is new is said; read by id at any node."""
    polygon = fence("yard", points=TRIANGLE, radius_m=0, dwell_s=600, streams=("trip:9", "flight:q"), name="Hof č. 3")
    assert await couple.one.put_fence("demo", polygon)
    assert await couple.one.put_fence("demo", fence("depot"))
    assert await couple.two.fences("demo") == [fence("depot"), polygon]
    assert not await couple.two.put_fence("demo", fence("yard", radius_m=3.5))
    assert await couple.one.fences("demo") == [fence("depot"), fence("yard", radius_m=3.5)]


async def test_fences_are_dropped(tracks: Tracks) -> None:
    """Once; and another of the same id is new again."""
    await tracks.put_fence("demo", fence())
    assert await tracks.drop_fence("demo", "depot")
    assert not await tracks.drop_fence("demo", "depot")
    assert not await tracks.drop_fence("demo", "no id\0")
    assert await tracks.put_fence("demo", fence())


async def test_a_tenant_has_so_many_fences(tracks: Tracks) -> None:
    """One more is refused; those that are there may still change, and others have room of their own."""
    for n in range(FENCES_MAX):
        await tracks.put_fence("demo", fence(f"f{n}"))
    await refused(tracks.put_fence("demo", fence("more")), "conflict")
    assert not await tracks.put_fence("demo", fence("f7", radius_m=1))
    assert await tracks.put_fence("other", fence("more"))
    await tracks.drop_fence("demo", "f8")
    assert await tracks.put_fence("demo", fence("more"))
    assert len(await tracks.fences("demo")) == FENCES_MAX


@pytest.mark.parametrize("fields", [
    {"fence": ""}, {"fence": "a b"}, {"fence": "a\0"}, {"fence": "x" * 129}, {"name": ""}, {"name": "a\0"}, {"name": "x" * 201},
    {"points": ()}, {"points": TRIANGLE[:2]}, {"points": TRIANGLE}, {"points": TRIANGLE * 400, "radius_m": 0},
    {"points": ((91.0, 0.0),)}, {"points": ((float("nan"), 0.0),)}, {"radius_m": 0}, {"radius_m": -1}, {"radius_m": 1e9},
    {"radius_m": float("nan")}, {"dwell_s": -1}, {"dwell_s": 10**9}, {"streams": ("x",)}, {"streams": ("audit:tenant",)},
    {"streams": ("trip:9",) * 1_001},
])  # fmt: skip
async def test_a_fence_that_is_none(tracks: Tracks, fields: dict[str, Any]) -> None:
    """Is refused in words, and nothing is kept."""
    await refused(tracks.put_fence("demo", fence()._replace(**fields)))
    await refused(tracks.put_fence("No Tenant", fence()))
    assert await tracks.fences("demo") == []


# Keys of apps


async def test_a_secret_says_whose_it_is(couple: Couple) -> None:
    """And in which stream; what nobody has is nobody's."""
    await couple.one.put_app_key(key(), secret("a"))
    assert await couple.two.app_key(secret("a")) == key()
    assert await couple.two.app_key(secret("b")) is None
    assert await couple.two.app_key(b"short") is None


async def test_a_subject_has_one_key_at_a_time(tracks: Tracks) -> None:
    """The new one takes the old one's place, and the old secret opens nothing."""
    await tracks.put_app_key(key(), secret("a"))
    await tracks.put_app_key(key(made_ms=NOW + 1, stream="trip:10"), secret("b"))
    assert await tracks.app_key(secret("a")) is None
    assert await tracks.app_key(secret("b")) == key(made_ms=NOW + 1, stream="trip:10")
    await tracks.put_app_key(key(), secret("b"))
    assert await tracks.app_keys("demo") == [key()]


async def test_a_secret_is_one_subject_s(tracks: Tracks) -> None:
    """Nobody takes another's by naming it, in this tenant or another; and who tried keeps what it had."""
    await tracks.put_app_key(key(), secret("a"))
    await tracks.put_app_key(key(VAN), secret("v"))
    await refused(tracks.put_app_key(key(VAN), secret("a")), "conflict")
    await refused(tracks.put_app_key(key(tenant="other"), secret("a")), "conflict")
    assert await tracks.app_key(secret("a")) == key()
    assert await tracks.app_key(secret("v")) == key(VAN)


async def test_keys_are_listed_bound_and_dropped(couple: Couple) -> None:
    """By subject; who has none is told so."""
    await couple.one.put_app_key(key(VAN), secret("v"))
    await couple.one.put_app_key(key(), secret("a"))
    assert await couple.two.app_keys("demo") == [key(), key(VAN)]
    assert await couple.two.bind("demo", TRUCK, "trip:10")
    assert await couple.one.app_key(secret("a")) == key(stream="trip:10")
    assert not await couple.one.bind("demo", "device:nobody", TRIP)
    assert await couple.two.drop_app_key("demo", TRUCK)
    assert not await couple.two.drop_app_key("demo", TRUCK)
    assert await couple.one.app_key(secret("a")) is None
    assert await couple.one.app_keys("demo") == [key(VAN)]


async def test_a_key_that_is_none(tracks: Tracks) -> None:
    """Is refused in words that do not repeat the secret."""
    for wrong in (key("truck"), key(tenant="A"), key(stream="audit:tenant"), key(made_ms=-1)):
        await refused(tracks.put_app_key(wrong, secret("a")))
    await refused(tracks.put_app_key(key(), b"31 bytes"))
    await refused(tracks.bind("demo", TRUCK, "nowhere"))
    assert await tracks.app_keys("demo") == []


# Pushes


async def test_where_somebody_is_reached(couple: Couple) -> None:
    """The newest registration first; one that comes again moves to the front."""
    await couple.one.add_push("demo", "user:amy", push("t1", NOW))
    await couple.one.add_push("demo", "user:amy", push("t1", NOW + 1, service="apns", app="com.example.App"))
    assert [each.service for each in await couple.two.pushes("demo", "user:amy")] == ["apns", "fcm"]
    await couple.two.add_push("demo", "user:amy", push("t1", NOW + 2, app="com.example.other"))
    assert await couple.one.pushes("demo", "user:amy") == [
        push("t1", NOW + 2, app="com.example.other"),
        push("t1", NOW + 1, service="apns", app="com.example.App"),
    ]
    assert await couple.one.pushes("demo", "user:bob") == []


async def test_a_token_moves_to_whoever_registers_it(tracks: Tracks) -> None:
    """A phone that changed hands, also to another tenant's people: who had it is reached there no more."""
    await tracks.add_push("demo", "user:amy", push())
    await tracks.add_push("demo", "user:bob", push())
    assert await tracks.pushes("demo", "user:amy") == []
    await tracks.add_push("other", "user:amy", push())
    assert await tracks.pushes("demo", "user:bob") == []
    assert await tracks.pushes("other", "user:amy") == [push()]


async def test_somebody_has_so_many_phones(tracks: Tracks) -> None:
    """The oldest goes when one more comes, and never the one that comes."""
    await tracks.add_push("demo", "user:bob", push("bob's", NOW - 9))
    for n in range(PUSHES_MAX + 2):
        await tracks.add_push("demo", "user:amy", push(f"t{n}", NOW + n))
    assert [each.token for each in await tracks.pushes("demo", "user:amy")] == [
        f"t{n}" for n in reversed(range(2, PUSHES_MAX + 2))
    ]
    await tracks.add_push("demo", "user:amy", push("slow clock", NOW - 1))
    found = [each.token for each in await tracks.pushes("demo", "user:amy")]
    assert (len(found), found[-1]) == (PUSHES_MAX, "slow clock")
    assert len(await tracks.pushes("demo", "user:bob")) == 1


async def test_a_dead_token_is_dropped(tracks: Tracks) -> None:
    """Since when it was dead decides: one registered after that stays."""
    await tracks.add_push("demo", "user:amy", push("t1", NOW))
    assert not await tracks.drop_push("apns", "t1")
    assert not await tracks.drop_push("fcm", "t1", NOW - 1)
    assert await tracks.drop_push("fcm", "t1", NOW)
    await tracks.add_push("demo", "user:amy", push("t1", NOW))
    assert await tracks.drop_push("fcm", "t1")
    assert not await tracks.drop_push("fcm", "t1")
    assert not await tracks.drop_push("fcm\0", "t\0")
    assert await tracks.pushes("demo", "user:amy") == []


@pytest.mark.parametrize("fields", [
    {"service": "sms"}, {"token": ""}, {"token": "a\0"}, {"token": "ž"}, {"token": "x" * 4_097}, {"app": ""}, {"app": "a b"},
    {"app": "x" * 256}, {"at_ms": -1}, {"at_ms": 2**60},
])  # fmt: skip
async def test_a_push_that_is_none(tracks: Tracks, fields: dict[str, Any]) -> None:
    """Is refused in words that do not repeat the token."""
    with pytest.raises(Refused) as caught:
        await tracks.add_push("demo", "user:amy", push()._replace(**fields))
    assert caught.value.code == "bad_request"
    assert not fields.get("token") or fields["token"] not in str(caught.value)
    await refused(tracks.add_push("demo", "amy", push()))
    assert await tracks.pushes("demo", "user:amy") == []


# Tenants, and trouble


async def test_what_is_asked_for_crosses_no_tenant(tracks: Tracks) -> None:
    """The same names in two: what one does leaves the other's as it was; who has nothing is answered nothing."""
    for tenant in ("demo", "other"):
        await tracks.put_fence(tenant, fence(name=tenant))
        await tracks.put_app_key(key(tenant=tenant), secret(tenant))
        await tracks.add_push(tenant, "user:amy", push(tenant))
    assert await tracks.bind("demo", TRUCK, "trip:10")
    assert await tracks.drop_fence("demo", "depot")
    assert await tracks.fences("other") == [fence(name="other")]
    assert await tracks.app_keys("other") == [key(tenant="other")]
    assert await tracks.drop_app_key("demo", TRUCK)
    assert await tracks.app_key(secret("other")) == key(tenant="other")
    assert await tracks.pushes("other", "user:amy") == [push("other")]
    for stranger in ("void", "", "Demo", "de\0mo", "demo' or true --"):
        assert await tracks.fences(stranger) == []
        assert await tracks.app_keys(stranger) == []
        assert await tracks.pushes(stranger, "user:amy") == []
        assert not await tracks.drop_fence(stranger, "depot")
        assert not await tracks.drop_app_key(stranger, TRUCK)
        assert not await tracks.bind(stranger, TRUCK, TRIP)


CALLS: dict[str, Callable[[Tracks], Awaitable[object]]] = {
    "keep": lambda tracks: tracks.keep([sample()], [last()]),
    "lasts": lambda tracks: tracks.lasts("demo", [TRUCK]),
    "shown": lambda tracks: tracks.shown("demo", TRIP),
    "track": whole,
    "retain": lambda tracks: tracks.retain({}, 1, NOW),
    "put_fence": lambda tracks: tracks.put_fence("demo", fence()),
    "drop_fence": lambda tracks: tracks.drop_fence("demo", "depot"),
    "fences": lambda tracks: tracks.fences("demo"),
    "put_app_key": lambda tracks: tracks.put_app_key(key(), secret("a")),
    "app_key": lambda tracks: tracks.app_key(secret("a")),
    "app_keys": lambda tracks: tracks.app_keys("demo"),
    "bind": lambda tracks: tracks.bind("demo", TRUCK, TRIP),
    "drop_app_key": lambda tracks: tracks.drop_app_key("demo", TRUCK),
    "add_push": lambda tracks: tracks.add_push("demo", "user:amy", push()),
    "pushes": lambda tracks: tracks.pushes("demo", "user:amy"),
    "drop_push": lambda tracks: tracks.drop_push("fcm", "t1"),
}


async def test_a_store_that_cannot_be_reached_says_so(couple: Couple) -> None:
    """`Unavailable` from every method."""
    assert CALLS.keys() == {name for name in vars(Tracks) if not name.startswith("_")}
    if couple.log is not None:
        couple.log.down = "the database is shutting down"
    else:
        assert couple.database is not None
        name = couple.database.name
        script = (
            f"alter database {name} allow_connections false; "
            f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
        )
        run_sql(couple.database.server.url(database="postgres"), script, couple.database.server)
    for call in CALLS.values():
        with pytest.raises(Unavailable):
            await call(couple.one)
