"""The directory's port: what cannot be is refused or finds nothing, and changes nothing."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace

from core.directory import Directory, Note
from store.directory_input import NOTE_BYTES_MAX
from tests.directories import (
    ADMIN,
    LATER,
    NOTE,
    NOW,
    OK,
    TRUCK,
    VAN,
    World,
    client,
    enrolled,
    mint,
    public,
    redeem,
    refresh,
    refused,
    revoke,
    secret,
    thumb,
)
from tests.servers import TEST_PARTITIONS

BAD_TENANTS = ("", "Demo", "a b", "x" * 64, "de\0mo", "-a", "demo' or '1'='1", "demo\n")
BAD_DEVICES = ("", "truck-7", "user:amy", "device:", "device:a b", "device:" + "x" * 129, "device:\0", "device:'; --")
BAD_SUBJECTS = [
    ("device", "x"),
    ("", "x"),
    ("token\0", "x"),
    ("token", ""),
    ("token", "a\0b"),
    ("token", "a\nb"),
    ("token", "\ud800"),
    ("token", "x" * 257),
    ("session", ""),
    ("principal", "amy"),
    ("principal", "user:a b"),
    ("tenant", "demo"),
]
ODD_VALUES = ["'; drop table readback.revocations; --", "%", "\\", '"', "$1", "žluť", "x" * 256]
BAD_CLIENT_IDS = ["", "a b", "a\0b", "'; drop table readback.service_clients; --", "x" * 129, "-x", "a\n"]
BAD_CLIENTS: list[dict[str, object]] = [
    {"principal": "billing"},
    {"roles": ("Admin",)},
    {"roles": ("a,b",)},
    {"roles": ("x",) * 33},
    {"secret_hash": b"short"},
    {"made_ms": -1},
    {"made_ms": 2**63},
]
BAD_NOTES = [
    Note("root", b"{}"),
    Note("user:a\0b", b"{}"),
    Note(ADMIN, b""),
    Note(ADMIN, b"[]"),
    Note(ADMIN, b'{"a":"\0"}'),
    Note(ADMIN, b'{"a":"\xff"}'),
    Note(ADMIN, b"{} {}"),
    Note(ADMIN, b'{"a":"' + b"x" * NOTE_BYTES_MAX + b'"}'),
]
BAD_TIMES = [-1, 2**53, 2**70]
BAD_REASONS = ["x" * 501, "a\nb", "a\0b"]


async def test_tenants_that_cannot_be(world: World) -> None:
    """Changes are a bad request; reading finds nothing."""
    directory = world.one
    for tenant in BAD_TENANTS:
        for call in (
            revoke(directory, "t-1", tenant=tenant),
            directory.lift(tenant, "token", "t-1", at_ms=NOW, note=NOTE),
            directory.add_client(client(tenant=tenant), NOTE),
            directory.remove_client(tenant, "billing", at_ms=NOW, note=NOTE),
            mint(directory, tenant=tenant),
            directory.revoke_device(tenant, TRUCK, at_ms=NOW, note=NOTE),
        ):
            assert await refused(call) == "bad_request"
        assert await directory.revoked(tenant) == []
        assert await directory.clients(tenant) == []
        assert await directory.devices(tenant) == []
        assert await directory.device(tenant, TRUCK) is None


async def test_devices_that_cannot_be(directory: Directory) -> None:
    """Changes are a bad request; reading finds nothing."""
    for device in BAD_DEVICES:
        assert await refused(mint(directory, device=device)) == "bad_request"
        assert await refused(directory.revoke_device("demo", device, at_ms=NOW, note=NOTE)) == "bad_request"
        assert await directory.device("demo", device) is None


async def test_what_cannot_be_revoked(directory: Directory) -> None:
    """A bad request, of revoking and of lifting."""
    for scope, value in BAD_SUBJECTS:
        assert await refused(revoke(directory, value, scope)) == "bad_request"
        assert await refused(directory.lift("demo", scope, value, at_ms=NOW, note=NOTE)) == "bad_request"


async def test_values_are_only_values(directory: Directory) -> None:
    """What looks like SQL is kept and found as it is."""
    for value in ODD_VALUES:
        made = await revoke(directory, value, reason=value)
        assert made in await directory.revoked("demo")
        assert (made.value, made.reason) == (value, value)
        assert (await directory.lift("demo", "token", value, at_ms=NOW, note=NOTE)).lifted


async def test_client_ids_that_cannot_be(directory: Directory) -> None:
    """A bad request to add, not found to remove, nothing to read."""
    for name in BAD_CLIENT_IDS:
        assert await refused(directory.add_client(replace(client(), client_id=name), NOTE)) == "bad_request"
        assert await refused(directory.remove_client("demo", name, at_ms=NOW, note=NOTE)) == "not_found"
        assert await directory.client(name) is None


async def test_clients_that_cannot_be(directory: Directory) -> None:
    """Each field is looked at."""
    for change in BAD_CLIENTS:
        assert await refused(directory.add_client(replace(client(), **change), NOTE)) == "bad_request"  # type: ignore[arg-type]
        assert await directory.clients("demo") == []


async def test_notes_that_cannot_be(world: World) -> None:
    """Refused by every method that takes one, and nothing happens."""
    directory = world.one
    await enrolled(directory)
    await directory.add_client(client(), NOTE)
    await revoke(directory, "t-1")
    before = await world.events(), await directory.revocations(0, 10), await directory.devices("demo")
    key, token, other = thumb("k1"), secret("r1"), secret("r2")
    for note in BAD_NOTES:
        for call in (
            revoke(directory, "t-2", note=note),
            directory.lift("demo", "token", "t-1", at_ms=NOW, note=note),
            directory.add_client(client("more"), note),
            directory.remove_client("demo", "billing", at_ms=NOW, note=note),
            directory.mint_claim("demo", VAN, secret("c"), at_ms=NOW, expires_ms=LATER, note=note),
            directory.redeem_claim(
                secret("claim"),
                key=key,
                public_key=public("k"),
                refresh_hash=other,
                at_ms=NOW,
                refresh_until_ms=LATER,
                note=note,
            ),
            directory.refresh(token, other, key=key, at_ms=NOW, until_ms=LATER, note=note),
            directory.rotate_key(
                token, other, key=key, next_key=key, public_key=public("k"), at_ms=NOW, until_ms=LATER, note=note
            ),
            directory.revoke_device("demo", TRUCK, at_ms=NOW, note=note),
        ):
            assert await refused(call) == "bad_request"
        assert (await world.events(), await directory.revocations(0, 10), await directory.devices("demo")) == before


async def test_times_that_cannot_be(directory: Directory) -> None:
    """A bad request wherever a time is."""
    await enrolled(directory)
    key, token, other = thumb("k1"), secret("r1"), secret("r2")
    for time_ms in BAD_TIMES:
        for call in (
            revoke(directory, "t-1", at_ms=time_ms),
            revoke(directory, "t-1", until_ms=time_ms),
            directory.lift("demo", "token", "t-1", at_ms=time_ms, note=NOTE),
            directory.remove_client("demo", "billing", at_ms=time_ms, note=NOTE),
            directory.mint_claim("demo", TRUCK, secret("c"), at_ms=time_ms, expires_ms=LATER, note=NOTE),
            directory.mint_claim("demo", TRUCK, secret("c"), at_ms=NOW, expires_ms=time_ms, note=NOTE),
            redeem(directory, at_ms=time_ms),
            refresh(directory, "r1", "r2", at_ms=time_ms),
            refresh(directory, "r1", "r2", until_ms=time_ms),
            directory.rotate_key(
                token, other, key=key, next_key=key, public_key=public("k"), at_ms=time_ms, until_ms=LATER, note=NOTE
            ),
            directory.revoke_device("demo", TRUCK, at_ms=time_ms, note=NOTE),
        ):
            assert await refused(call) == "bad_request"


async def test_secrets_and_keys_that_cannot_be(directory: Directory) -> None:
    """Hashes and public keys are 32 bytes, a thumbprint 43 characters; a successor is not its predecessor."""
    await enrolled(directory)
    good, other, key, raw = secret("r1"), secret("r2"), thumb("k1"), public("k1")

    def redeeming(claim: bytes, key: str, raw: bytes, token: bytes) -> Awaitable[object]:
        return directory.redeem_claim(
            claim, key=key, public_key=raw, refresh_hash=token, at_ms=NOW, refresh_until_ms=LATER, note=NOTE
        )

    def rotating(token: bytes, following: bytes, key: str, next_key: str, raw: bytes) -> Awaitable[object]:
        return directory.rotate_key(
            token, following, key=key, next_key=next_key, public_key=raw, at_ms=NOW, until_ms=LATER, note=NOTE
        )

    for call in (
        directory.mint_claim("demo", TRUCK, b"", at_ms=NOW, expires_ms=LATER, note=NOTE),
        redeeming(good[1:], key, raw, other),
        redeeming(good, key, raw, b""),
        redeeming(good, key, raw, good),
        redeeming(good, key, raw[1:], other),
        redeeming(good, key[1:], raw, other),
        redeeming(good, "'" * 43, raw, other),
        directory.refresh(b"x", other, key=key, at_ms=NOW, until_ms=LATER, note=NOTE),
        directory.refresh(good, good, key=key, at_ms=NOW, until_ms=LATER, note=NOTE),
        directory.refresh(good, other, key="", at_ms=NOW, until_ms=LATER, note=NOTE),
        directory.refresh(good, other, key=key[:-1] + "\0", at_ms=NOW, until_ms=LATER, note=NOTE),
        rotating(good, other, key, key + "=", raw),
        rotating(good, other, key, key, b""),
        rotating(good, b"", key, key, raw),
    ):
        assert await refused(call) == "bad_request"
    assert await refresh(directory, "r1", "r2") == OK


async def test_reasons_that_cannot_be(directory: Directory) -> None:
    """Long ones, and those that would break a line of a log."""
    for reason in BAD_REASONS:
        assert await refused(revoke(directory, "t-1", reason=reason)) == "bad_request"


async def test_closing_it_leaves_the_log_open(world: World) -> None:
    """The links are the log's."""
    await world.one.aclose()
    assert await world.log.heads() == [0] * TEST_PARTITIONS
