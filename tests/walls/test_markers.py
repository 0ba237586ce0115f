"""What bears one tenant's mark is nowhere but with that tenant: no frame, header, error, metric, document, reason, log line.

Both tenants live on two nodes and use the same names; the rival and a stranger ask for all there is to ask for, before, while
and after the other says it, with the log in trouble, and as the nodes leave. See `tests.walls.marked`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest
import trio

from gateway.measures import TENANTS_SHOWN
from tests.nodes import until
from tests.walls.marked import RIVAL, Records, Town, live, pry, town

TENANTS_MAY_BE_NAMED_BY = ("readback.audit",)
"""Loggers whose lines name a tenant where its record could not be written: its operator has to know whose."""


@pytest.fixture
def records() -> Iterator[Records]:
    kept, root = Records(), logging.getLogger()
    usual = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(kept)
    yield kept
    root.removeHandler(kept)
    root.setLevel(usual)


async def whole_life(made: Town) -> None:
    """Everything, in an order in which whatever can be left over is looked for afterwards."""
    await pry(made)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(live, made)
        nursery.start_soon(pry, made)
    await pry(made)
    made.log.down = "the log was stopped"
    await until(lambda: made.nodes[0].node.follower.trouble is not None)
    await pry(made)
    made.log.down = None
    await until(lambda: all(node.node.follower.trouble is None for node in made.nodes))
    for node in (0, 1):
        await made.nodes[node].node.drain(0.2)
        for path in ("/livez", "/readyz", "/metrics"):
            await made.call("GET", path, node=node)
        await made.call("GET", "/v1/me/streams", "user:eve", RIVAL, node=node)
    for peer in made.others.peers:
        await peer.ended()


async def test_nothing_with_a_mark_is_heard_by_another(records: Records) -> None:
    """Of thousands of answers; and the tenant itself does hear its marks, so that there is something to be kept apart."""
    async with town() as made:
        await whole_life(made)
        own = made.found_in(made.own.heard())
        assert own["mark"] > 250, own
        assert all(own[kind] for kind in ("session", "token", "client", "secret", "claim")), own
        heard = made.others.heard()
        assert len(heard) > 500_000
        assert not made.found_in(heard)

        assert len(records.lines) > 3
        for logger, line in records.lines:
            assert not made.found_in(line.replace(made.tenant, "").encode()), line
            assert made.tenant not in line or logger in TENANTS_MAY_BE_NAMED_BY, line

        assert len(made.bus) > 50
        for channel, payload in made.bus:
            assert made.sealed(channel, payload), channel
            assert not made.found_in(channel.encode()), channel
        assert {channel.partition(":")[0] for channel, _ in made.bus} <= {
            "nodes", "sessions", "trims", "revocations", "events", "signals",
        }  # fmt: skip
        for key in made.numbers:
            assert not made.found_in(key.encode(), but=("session",)), key


async def test_metrics_name_tenants_only_where_they_are_counted_and_bounded() -> None:
    """A thousand of them: those with most connections are named, the others counted together; every other label has a handful
    of values that are the gateway's own words."""
    async with town() as made:
        await live(made)
        await pry(made)
        accounts = made.nodes[0].node.gatekeeper.accounts
        for n in range(1_000):
            accounts.account(f"tenant-{n}", 0.0)
        text = (await made.call("GET", "/metrics")).text
        labels: dict[str, set[str]] = {}
        for name, value in re.findall(r'(\w+)="([^"]*)"', text):
            labels.setdefault(name, set()).add(value)
        assert {RIVAL, made.tenant} <= labels["tenant"]
        assert len(labels.pop("tenant")) <= TENANTS_SHOWN + 1
        labels.pop("le")  # the bounds of histograms
        assert all(len(values) <= 30 for values in labels.values()), labels
        for line in text.splitlines():
            if RIVAL in line or made.mark in line or "tenant-" in line:
                assert re.match(
                    r'readback_tenant_(connections|streams|throttled_total)\{tenant="[^"]+"\} \d+$', line
                ), line


async def test_a_seal_holds_for_its_channel_and_its_bytes_alone() -> None:
    """Whoever writes to the bus can neither change what was said nor say it elsewhere."""
    async with town() as made:
        await live(made)
        loud = [(channel, payload) for channel, payload in made.bus if made.mark.encode() in payload]
        assert loud, "nothing of the tenant was on the bus"
        for channel, payload in loud:
            assert not made.sealed(f"{channel}1", payload)
            forged = payload.replace(made.mark.encode(), b"0" * len(made.mark))
            assert not made.sealed(channel, forged)
