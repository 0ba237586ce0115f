"""bench.scenarios.noisy and bench.gen.noise: what is compared, and what the noise does with what it is told."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli, model
from bench.gen import __main__ as generators
from bench.gen.dialect import Dialect, body
from bench.gen.noise import Replayer, Shouter, shares
from bench.gen.raw import OPEN, Swarm
from bench.model import PeerResult
from bench.scenarios import noisy
from bench.stats import spread
from gateway.tenants import load_tenants

SHAPE = noisy.Shape(200.0, 20, 50.0, 130, 300, 100, 2_000, 3.0)


def test_a_rise_is_in_percent_of_what_it_was() -> None:
    """Half as much again is 50; less is below nothing; of nothing there is no rise."""
    assert [noisy.rise(2.0, 3.0), noisy.rise(4.0, 2.0), noisy.rise(0.0, 1.0)] == [50.0, -50.0, 0.0]


def test_the_noisy_tenants_quota_is_the_quiet_ones_share() -> None:
    """The file is one that a node reads; the quiet tenant has no bound."""
    with noisy.quota_file(SHAPE) as path:
        tenants = load_tenants(path)
    quotas = tenants.quotas_of("noisy")
    assert (quotas.sends_per_s, quotas.resumes_per_s) == (200.0, 20.0)
    assert tenants.quotas_of("quiet").sends_per_s == 0.0
    assert not Path(path).exists()


def test_what_has_a_target() -> None:
    """The p99 of what was measured and is bounded by a quota or by turns; and that the quiet one is never refused."""
    values = {
        f"rise of the p99 of send to {what}, {name} (%)": spread([rise])
        for what in ("ack", "delivery")
        for name, rise in (("sends", 300.0), ("replays", 19.0), ("sends over a quota", 21.0))
    }
    ours = PeerResult("readback", values=values, counts={"quiet sends refused or never answered": 1})
    found = {target.name: target.met for target in noisy.targets(ours, noisy.VARIANTS)}
    assert found == {
        "rise of others' p99, send to ack: replays": True,
        "rise of others' p99, send to delivery: replays": True,
        "rise of others' p99, send to ack: sends over a quota": False,
        "rise of others' p99, send to delivery: sends over a quota": False,
        "quiet sends refused or never answered": False,
    }
    assert len(noisy.targets(ours, ("sends",))) == 1


def test_an_unknown_noise_is_answered_with_those_that_exist() -> None:
    """Status 2, and the list."""
    made = CliRunner().invoke(cli.app, ["noisy-neighbour", "--noise", "brass"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert made.exit_code == 2
    assert "no noise 'brass'" in made.output
    assert "replays" in made.output
    assert "noise" in generators.JOBS


def test_clients_share_the_streams_alike() -> None:
    """Each has as many as it is to have, and all streams are used."""
    job = {"streams": ["a", "b", "c"], "each": 2}
    assert [shares(job, number) for number in range(3)] == [["a", "b"], ["c", "a"], ["b", "c"]]


async def _heard() -> tuple[int, int, int, list[int], bytes]:
    swarm = Swarm(0)
    ours, theirs = socket.socketpair()
    try:
        loud = Shouter(swarm, Dialect(), b"", "chat:a", lambda: None)
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_608)
        loud.sock, loud.state = ours, OPEN
        for number in range(200):
            loud.shout(number, b"key", body(1, 130))
        sent = len(theirs.recv(1 << 20))
        loud.on_answer(b'{"op":"ok","id":1}')
        loud.on_answer(b'{"op":"error","id":2,"code":"rate_limited"}')
        loud.on_answer(b'{"op":"signal"}')
        whole: list[int] = []
        reader = Replayer(swarm, Dialect(), b"", "chat:a", lambda one: whole.append(one.events))
        reader.on_welcome({"streams": {"chat:a": {"head": 2, "after": 2}}})
        reader.on_event(b'{"op":"event","stream":"chat:a","seq":1,"type":"m"}')
        reader.on_event(b'{"op":"event","stream":"chat:a","seq":2,"type":"m"}')
        reader.on_answer(b'{"op":"error","code":"forbidden"}')
        assert sent > 0
        return loud.answered, loud.refused, loud.held, whole, reader.refused.encode()
    finally:
        ours.close()
        theirs.close()
        swarm.close()


def test_the_noise_counts_what_became_of_it() -> None:
    """Answers, refusals, what the socket did not take; a replay is over with the event at the head."""
    answered, refused, held, whole, why = asyncio.run(_heard())
    assert (answered, refused, whole) == (1, 1, [0, 2])
    assert held > 0
    assert b"forbidden" in why


@pytest.mark.slow
def test_a_quick_run_measures_every_noise(tmp_path: Path) -> None:
    """A node with and without a quota: each kind of noise was made, and the quiet tenant was answered throughout."""
    path = tmp_path / "noisy.json"
    noises = ("--noise", "replays", "--noise", "sends over a quota")
    made = CliRunner().invoke(cli.app, ["noisy-neighbour", *noises, "--quick", "--json", str(path)])
    assert made.exit_code == 0, made.output
    found = model.from_json(path.read_bytes())
    (ours,) = found.peers
    assert ours.counts["quiet sends answered in windows"] > 0
    assert ours.counts["quiet sends refused or never answered"] == 0
    assert ours.rates["noisy events replayed/s, replays"].median > 0
    assert ours.rates["noisy sends refused/s, sends over a quota"].median > 0
    assert {name for name in ours.latency_us if "ack" in name} == {
        f"send to ack, {name}, {when}" for name in ("replays", "sends over a quota") for when in ("with", "without")
    }
