"""gateway.collect: what an app's key is good for, and for how long; over a real node, with tracks and positions in memory."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
import trio

from core.collectors.values import Report, make_fix
from core.directory import Note
from core.limits import Limits
from core.pings import Fix
from core.ports import Unavailable
from core.stream import Stream
from core.tenants import Arrivals, Quotas, Tenants
from core.tokens import Identity
from core.tracks import AppKey, Tracks
from gateway import collect
from gateway.collect import Collector
from gateway.collect_service import NewAppKey
from gateway.live.positions import Positions, Taken
from gateway.service import WireError
from store.memory import MemoryLog
from tests.devices import audit_of, names
from tests.nodes import TestNode, serving_node, until

ADDRESS = "192.0.2.7"
TRUCK = "device:truck-7"
ROOT = Identity("demo", "user:root", frozenset({"admin"}), 2e9)


class FakeTracks:
    """Keys of apps in memory; looks are counted, and may fail."""

    def __init__(self) -> None:
        self.by_hash: dict[bytes, AppKey] = {}
        self.looks = 0
        self.away = False

    async def put_app_key(self, key: AppKey, secret_hash: bytes) -> None:
        await self.drop_app_key(key.tenant, key.subject)
        self.by_hash[secret_hash] = key

    async def app_key(self, secret_hash: bytes) -> AppKey | None:
        self.looks += 1
        if self.away:
            raise Unavailable("away")
        return self.by_hash.get(secret_hash)

    async def app_keys(self, tenant: str) -> list[AppKey]:
        return sorted(key for key in self.by_hash.values() if key.tenant == tenant)

    async def bind(self, tenant: str, subject: str, stream: str) -> bool:
        for hashed, key in self.by_hash.items():
            if (key.tenant, key.subject) == (tenant, subject):
                self.by_hash[hashed] = key._replace(stream=stream)
                return True
        return False

    async def drop_app_key(self, tenant: str, subject: str) -> bool:
        before = len(self.by_hash)
        self.by_hash = {h: key for h, key in self.by_hash.items() if (key.tenant, key.subject) != (tenant, subject)}
        return len(self.by_hash) < before


class FakePositions:
    def __init__(self) -> None:
        self.taken: list[tuple[str, str, str, list[Fix]]] = []

    async def take(self, tenant: str, subject: str, stream: Stream, fixes: Sequence[Fix]) -> Taken:
        self.taken.append((tenant, subject, stream.name, list(fixes)))
        return Taken([{"seq": fix.seq, "verdict": "accepted"} for fix in fixes], len(fixes), 2.0)


@dataclass
class Scene:
    node: TestNode
    tracks: FakeTracks
    positions: FakePositions
    collector: Collector

    async def mint(self, device: str = TRUCK, stream: str = "trip:9", who: Identity = ROOT) -> NewAppKey:
        return await self.collector.mint(who, device, stream, "http://readback.test")

    async def send(self, secret: str, *, address: str = ADDRESS, **report: Any) -> Taken:
        return await self.collector.collect("osmand", address, secret, Report(**(report or {"fixes": (fix(),)})))


@asynccontextmanager
async def scene(limits: Limits | None = None, **options: Any) -> AsyncIterator[Scene]:
    async with serving_node(limits=limits, **options) as node:
        await node.stream("trip:9", open=False)
        tracks, positions = FakeTracks(), FakePositions()
        collector = Collector(node.node, cast(Tracks, tracks), cast(Positions, positions))
        yield Scene(node, tracks, positions, collector)


def fix(at_ms: int = 1_795_253_400_000) -> Fix:
    found = make_fix(at_ms, -33.9, 151.2)
    assert found is not None
    return found


def refused(caught: pytest.ExceptionInfo[WireError]) -> tuple[str, str]:
    return caught.value.code, caught.value.message


# -- what a key is good for -----------------------------------------------------------------------------------------------


async def test_an_app_s_fixes_are_its_device_s_in_the_stream_that_it_is_bound_to() -> None:
    """Though the device is no member there: an admin has bound it."""
    async with scene() as made:
        key = await made.mint()
        taken = await made.send(key.secret)
        assert (taken.accepted, made.positions.taken) == (1, [("demo", TRUCK, "trip:9", [fix()])])


async def test_a_key_can_be_typed() -> None:
    """26 letters and digits, none of which is taken for another; capitals, hyphens and blanks do not matter."""
    async with scene() as made:
        secrets = {(await made.mint(f"device:d{n}")).secret for n in range(30)}
        assert len(secrets) == 30
        assert all(re.fullmatch("[0-9a-hjkmnp-tv-z]{26}", secret) for secret in secrets)
        key = await made.mint()
        capitals = key.secret.upper().replace("0", "O").replace("1", "L")
        await made.send(f"{capitals[:13]}-{capitals[13:]} ")
        assert len(made.positions.taken) == 1


async def test_only_a_hash_of_a_key_is_kept() -> None:
    """And nothing prints it."""
    async with scene() as made:
        key = await made.mint()
        assert key.secret not in repr(key)
        assert key.secret not in repr(made.tracks.by_hash)


async def test_a_new_key_ends_the_one_before() -> None:
    """At once where it is made, though it was used a moment ago."""
    async with scene() as made:
        old = await made.mint()
        await made.send(old.secret)
        new = await made.mint()
        with pytest.raises(WireError) as caught:
            await made.send(old.secret)
        assert refused(caught)[0] == "unauthorized"
        await made.send(new.secret)


async def test_a_key_that_is_removed_while_it_is_looked_up_is_not_remembered() -> None:
    """What was under way is taken; the next is refused."""
    async with scene() as made, trio.open_nursery() as nursery:
        key = await made.mint()
        looking, go_on = trio.Event(), trio.Event()
        look = made.tracks.app_key

        async def slowly(hashed: bytes) -> AppKey | None:
            found = await look(hashed)
            looking.set()
            await go_on.wait()
            return found

        made.tracks.app_key = slowly  # type: ignore[method-assign]
        nursery.start_soon(made.send, key.secret)
        await looking.wait()
        await made.collector.drop(ROOT, TRUCK)
        go_on.set()
        await until(lambda: made.positions.taken)
        with pytest.raises(WireError):
            await made.send(key.secret)


async def test_what_changes_at_another_node_holds_here_within_a_second(autojump_clock: trio.abc.Clock) -> None:
    """A key is remembered so long, and costs one look then."""
    async with scene() as made:
        key = await made.mint()
        for _ in range(3):
            await made.send(key.secret)
        assert made.tracks.looks == 1
        await made.tracks.bind("demo", TRUCK, "trip:10")
        await made.node.stream("trip:10")
        await trio.sleep(made.node.limits.device_key_s + 0.1)
        await made.send(key.secret)
        assert [stream for _, _, stream, _ in made.positions.taken] == ["trip:9"] * 3 + ["trip:10"]
        await made.tracks.drop_app_key("demo", TRUCK)
        await trio.sleep(made.node.limits.device_key_s + 0.1)
        with pytest.raises(WireError):
            await made.send(key.secret)


async def test_an_app_is_bound_anew_and_cut_off() -> None:
    """Here at once; both are for who has one."""
    async with scene() as made:
        key = await made.mint()
        await made.node.stream("trip:10")
        await made.send(key.secret)
        await made.collector.bind(ROOT, TRUCK, "trip:10")
        await made.send(key.secret)
        assert [stream for _, _, stream, _ in made.positions.taken] == ["trip:9", "trip:10"]
        assert await made.collector.keys(ROOT) == [key.key._replace(stream="trip:10")]
        await made.collector.drop(ROOT, TRUCK)
        with pytest.raises(WireError):
            await made.send(key.secret)
        for again in (made.collector.drop(ROOT, TRUCK), made.collector.bind(ROOT, TRUCK, "trip:9")):
            with pytest.raises(WireError) as caught:
                await again
            assert refused(caught) == ("not_found", f"{TRUCK} has no key of an app")


async def test_keys_of_others_stay_as_they_are() -> None:
    """What one device's app loses, another's of the same name in another tenant does not."""
    async with scene() as made:
        await made.node.stream("trip:9", tenant="other")
        other = replace(ROOT, tenant="other")
        mine, theirs = await made.mint(), await made.mint(who=other)
        beside = await made.mint("device:truck-8")
        for key in (mine, theirs, beside):
            await made.send(key.secret)
        await made.collector.drop(ROOT, TRUCK)
        await made.send(theirs.secret)
        await made.send(beside.secret)
        assert await made.collector.keys(other) == [theirs.key]
        assert [tenant for tenant, *_ in made.positions.taken] == ["demo", "other", "demo", "other", "demo"]


@pytest.mark.parametrize(
    ("device", "stream", "code"),
    [
        ("user:amy", "trip:9", "bad_request"),
        ("device:", "trip:9", "bad_request"),
        (TRUCK, "audit:log", "forbidden"),
        (TRUCK, "9", "bad_request"),
        (TRUCK, "trip:none", "not_found"),
    ],
)
async def test_keys_are_of_devices_for_streams_that_exist(device: str, stream: str, code: str) -> None:
    """A mistyped trip is told to the admin, not found out by the driver."""
    async with scene() as made:
        await made.mint()
        for asked in (
            made.collector.mint(ROOT, device, stream, ""),
            made.collector.bind(ROOT, device, stream),
        ):
            with pytest.raises(WireError) as caught:
                await asked
            assert caught.value.code == code


@pytest.mark.parametrize("roles", [(), ("service",), ("auditor",)])
async def test_keys_are_for_admins(roles: tuple[str, ...]) -> None:
    """Auditors see which there are."""
    who = replace(ROOT, roles=frozenset(roles))
    async with scene() as made:
        for asked in (
            made.collector.mint(who, TRUCK, "trip:9", ""),
            made.collector.bind(who, TRUCK, "trip:9"),
            made.collector.drop(who, TRUCK),
        ):
            with pytest.raises(WireError) as caught:
                await asked
            assert caught.value.code == "forbidden"
        if "auditor" in roles:
            assert await made.collector.keys(who) == []
        else:
            with pytest.raises(WireError):
                await made.collector.keys(who)


async def test_what_is_done_with_keys_is_in_the_audit_stream() -> None:
    """By whom, for which device and stream; no key."""
    async with scene(audit=True) as made:
        key = await made.mint()
        await made.collector.bind(ROOT, TRUCK, "trip:9")
        await made.collector.drop(ROOT, TRUCK)
        events = await audit_of(made.node)
        assert names(events) == ["app.made", "app.bound", "app.removed"]
        assert all(b'"user:root"' in event.body and TRUCK.encode() in event.body for event in events)
        assert all(key.secret.encode() not in event.body for event in events)


# -- whom it is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret", ["", "x" * 26, "7h3k9m2q5v8x0c4e6g1j3n5p7", "\ud800", "7h3k9m2q5v8x0c4e6g1j3n5p7r\n"]
)
async def test_what_is_no_key_is_refused(secret: str) -> None:
    """What cannot be one without a look."""
    async with scene() as made:
        with pytest.raises(WireError) as caught:
            await made.send(secret)
        assert refused(caught) == ("unauthorized", "the app's key is unknown, or was taken back")
        assert made.tracks.looks == (secret == "x" * 26)


async def test_who_tries_many_is_not_listened_to() -> None:
    """Nor with a good key meanwhile; others are."""
    limits = Limits(guesses_per_address_burst=5)
    async with scene(limits) as made:
        key = await made.mint()
        for n in range(6):
            with pytest.raises(WireError):
                await made.send(f"guess{n}")
        with pytest.raises(WireError) as caught:
            await made.send(key.secret)
        assert caught.value.code == "rate_limited"
        assert caught.value.retry_after_s
        await made.send(key.secret, address="192.0.2.8")


async def test_an_app_that_goes_on_with_a_dead_key_guesses_nothing(autojump_clock: trio.abc.Clock) -> None:
    """OsmAnd says it again at once and for minutes: whoever is behind the same address is still listened to, and the store is
    asked once a minute."""
    limits = Limits(guesses_per_address_burst=5)
    async with scene(limits) as made:
        dead, good = await made.mint(), await made.mint("device:truck-8")
        await made.collector.drop(ROOT, TRUCK)
        for _ in range(50):
            with pytest.raises(WireError) as caught:
                await made.send(dead.secret)
            assert caught.value.code == "unauthorized"
        assert made.tracks.looks == 1
        await made.send(good.secret)
        await trio.sleep(collect.DEAD_S + 1)
        with pytest.raises(WireError):
            await made.send(dead.secret)
        assert made.tracks.looks == 3


async def test_what_is_remembered_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest make room."""
    monkeypatch.setattr(collect, "KEYS_MAX", 3)
    async with scene() as made:
        for n in range(5):
            key = await made.mint(f"device:d{n}")
            await made.send(key.secret)
            with pytest.raises(WireError):
                await made.send(f"guess {n}")
        assert (len(made.collector._known), len(made.collector._dead)) == (3, 3)


async def test_a_revoked_device_s_app_is_refused() -> None:
    """What it was given until then; a key that is made later is good again."""
    async with scene() as made:
        key = await made.mint()
        await made.send(key.secret)
        directory, revoking = made.node.node.directory, made.node.node.revoking
        assert directory is not None
        assert revoking is not None
        at_ms = int(1000 * made.node.node.wall()) + 5
        note = Note("user:root", b"{}")
        revoking.made(
            await directory.revoke("demo", "principal", TRUCK, at_ms=at_ms, until_ms=None, reason="lost", note=note)
        )
        with pytest.raises(WireError) as caught:
            await made.send(key.secret)
        assert refused(caught) == ("unauthorized", "what this principal was given until then was revoked")


async def test_a_tenant_that_takes_signed_positions_only_takes_none_from_apps() -> None:
    """Nor can a key be made there; one from before is refused."""
    tenants = Tenants(arrivals=Arrivals(signed_only=True))
    async with scene() as made:
        key = await made.mint()
        made.node.node.gatekeeper.tenants = tenants
        for asked in (made.mint(), made.send(key.secret)):
            with pytest.raises(WireError) as caught:
                await asked
            assert caught.value.code == "forbidden"


async def test_quotas_hold_for_apps(autojump_clock: trio.abc.Clock) -> None:
    """A request is a send of its device; who is told to wait may come then."""
    async with scene(tenants=Tenants(quotas=Quotas(principal_sends_per_s=1.0, burst_s=2.0))) as made:
        key = await made.mint()
        await made.send(key.secret)
        await made.send(key.secret)
        with pytest.raises(WireError) as caught:
            await made.send(key.secret)
        assert caught.value.code == "rate_limited"
        await trio.sleep(caught.value.retry_after_s or 0.0)
        await made.send(key.secret)


# -- what comes of it -------------------------------------------------------------------------------------------------------


async def test_a_request_that_holds_no_fix_is_told_so_to_who_may_send() -> None:
    """Nobody else learns what would be right."""
    async with scene() as made:
        key = await made.mint()
        with pytest.raises(WireError) as caught:
            await made.send(key.secret, problem="lat and lon: degrees")
        assert refused(caught) == ("bad_request", "lat and lon: degrees")
        with pytest.raises(WireError) as caught:
            await made.send(key.secret, problem="at most 500", too_large=True)
        assert caught.value.code == "too_large"
        with pytest.raises(WireError) as caught:
            await made.send("guessed", problem="lat and lon: degrees")
        assert caught.value.code == "unauthorized"
        assert await made.send(key.secret, skipped=1) == Taken([], 0, 0.0)
        assert made.positions.taken == []


async def test_a_store_that_is_away_is_no_reason_to_forget() -> None:
    """The app is told to come back; afterwards its key is as good as before."""
    async with scene() as made:
        key = await made.mint()
        made.tracks.away = True
        with pytest.raises(Unavailable):
            await made.send(key.secret)
        made.tracks.away = False
        await made.send(key.secret)


async def test_a_stream_that_cannot_be_looked_up_now_is_not_one_that_is_gone() -> None:
    """An app that is told 503 comes back."""
    async with scene() as made:
        key = await made.mint()
        await made.node.stream("trip:10")
        await made.tracks.bind("demo", TRUCK, "trip:10")
        assert isinstance(made.node.log, MemoryLog)
        made.node.log.down = "away"
        with pytest.raises(WireError) as caught:
            await made.send(key.secret)
        assert caught.value.code == "unavailable"
        made.node.log.down = None
        await made.send(key.secret)


async def test_requests_of_apps_are_counted() -> None:
    """By protocol and by what became of them."""
    async with scene() as made:
        key = await made.mint()
        await made.send(key.secret)
        await made.send(key.secret, skipped=1)
        with pytest.raises(WireError):
            await made.send("guessed")
        text = made.node.node.measures.registry.text().decode()
        for outcome in ("taken", "skipped", "refused"):
            assert f'readback_app_requests_total{{app="osmand",outcome="{outcome}"}} 1' in text
            assert f'readback_app_requests_total{{app="owntracks",outcome="{outcome}"}} 0' in text


async def test_what_says_no_time_is_of_now() -> None:
    """By the node's clock."""
    async with scene() as made:
        assert abs(made.collector.now_ms() - 1000 * made.node.node.wall()) < 60_000
