"""The harness end to end: a quick floor and echo, with real processes, and the structure of what they write.

Figures are never asserted: a test is not a measurement.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli, model
from bench.scenarios import redis_loss
from proof.files import read_all
from proof.guarantees import Report, check
from proof.history import Committed, Fault, Record, Stand, Took


def quick(path: Path, *arguments: str) -> model.Result:
    made = CliRunner().invoke(cli.app, [*arguments, "--quick", "--json", str(path)], env={"NO_COLOR": "1"})
    assert made.exit_code == 0, made.output
    return model.from_json(path.read_bytes())


@pytest.mark.slow
def test_a_quick_floor_counts_echoes_and_sends(tmp_path: Path) -> None:
    """Both halves of the floor are measured, with counts, CPU and latencies that belong together."""
    found = quick(tmp_path / "floor.json", "floor", "--connections", "10", "--subscribers", "10")
    assert (found.scenario, found.quick) == ("floor", True)
    floor = found.peer("floor")
    assert floor is not None
    assert floor.counts["echoes"] > 0
    assert floor.counts["sends"] > 0
    assert set(floor.cpu_us) == {"server per bare echo", "server per bare send"}
    assert floor.latency_us["bare echo"].count == floor.counts["echoes"]
    assert floor.latency_us["bare send to delivery"].count > 0


@pytest.mark.slow
def test_a_quick_echo_measures_peers_beside_the_floor(tmp_path: Path) -> None:
    """Every peer asked for has a row, in the order asked, with every echo's latency recorded."""
    peers = ("picows", "websockets", "trio-websocket")
    options = [word for peer in peers for word in ("--peer", peer)]
    found = quick(tmp_path / "echo.json", "echo", "--connections", "10", *options)
    assert [one.peer for one in found.peers] == ["floor", *peers]
    for one in found.peers:
        assert one.missing is None
        assert one.counts["connections lost"] == 0
        assert one.counts["echoes"] == one.latency_us["ping to pong"].count > 0
        assert "server per echo" in one.cpu_us
    assert found.targets == []


@pytest.mark.slow
def test_a_quick_jitter_accounts_for_every_seq_on_readback(tmp_path: Path) -> None:
    """A node with its Postgres, clients cut again and again: every message at every client, once, in order."""
    kept = tmp_path / "jitter.jsonl"
    found = quick(tmp_path / "jitter.json", "jitter", "--clients", "20", "--peer", "readback", "--history", str(kept))
    (ours,) = found.peers
    assert ours.missing is None
    assert ours.durable
    assert ours.counts["connections killed"] > 0
    assert ours.counts["delivered"] == ours.counts["expected"] == 20 * 20
    assert ours.counts["duplicates"] == ours.counts["out of order"] == 0
    assert ours.counts["clients not caught up at the end"] == 0
    assert ours.counts["delivered, Python client"] == ours.counts["expected, Python client"] == 5 * 20
    assert ours.counts["distinct seqs of them, Python client"] == ours.counts["sends acknowledged, Python client"] == 20
    assert all(target.met for target in found.targets if target.name != "replay p99, from reconnecting to caught up")
    report, records = judged(kept)
    assert report.holds, report.findings[:3]
    assert report.judged["Resumable"] == ours.counts["connections killed"]
    assert sum(isinstance(record, Took) for record in records) == 20 * 20


@pytest.mark.slow
def test_a_quick_redis_loss_audits_every_event_on_three_nodes(tmp_path: Path) -> None:
    """Three nodes, a Redis killed, started, frozen and thawed: each stretch has its latencies, and nothing is lost."""
    kept = tmp_path / "kept" / "redis-loss.jsonl"
    options = ("--clients", "12", "--rooms", "3", "--stretch", "1", "--history", str(kept))
    found = quick(tmp_path / "redis-loss.json", "redis-loss", *options)
    (ours,) = found.peers
    assert ours.missing is None
    assert ours.counts["sends acknowledged"] > 0
    assert ours.counts["deliveries"] == 4 * ours.counts["sends acknowledged"], "four clients a room"
    promised = {target.name: target.met for target in found.targets if not target.name.startswith("Redis")}
    assert len(promised) == 5
    assert all(promised.values()), promised
    for stretch in redis_loss.PHASES:
        assert ours.latency_us[f"ack to delivery, {stretch}"].count > 0
    report, records = judged(kept)
    assert report.holds, report.findings[:3]
    for name in ("Ordered", "Unique", "Reliable-or-told", "Durable-ack", "Exactly-one-effect", "Deadlines", "Progress"):
        assert report.state(name) == "holds", name
    assert report.state("Presence-converges") == "holds"
    assert [one.what for one in records if isinstance(one, Fault)] == [
        "redis killed", "redis back", "redis frozen", "redis thawed",
    ]  # fmt: skip
    tooks = [at for at, record in enumerate(records) if isinstance(record, Took)]
    middle = tooks[len(tooks) // 2]
    for damage, named in (
        (left_out, "Reliable-or-told"),
        (given_twice, "Unique"),
        (another_event, "Ordered"),
        (never_committed, "Durable-ack"),
        (left_behind, "Progress"),
    ):
        damaged = damage(records, middle)
        assert named in {finding.guarantee for finding in check(damaged).findings}, named


def judged(path: Path) -> tuple[Report, list[Record]]:
    """What the guarantees say of a recorded run, and the run."""
    records = list(read_all([path]))
    return check(records), records


def left_out(records: list[Record], at: int) -> list[Record]:
    return records[:at] + records[at + 1 :]


def given_twice(records: list[Record], at: int) -> list[Record]:
    return [*records[: at + 1], *records[at:]]


def another_event(records: list[Record], at: int) -> list[Record]:
    took = records[at]
    assert isinstance(took, Took)
    return [*records[:at], replace(took, what="another"), *records[at + 1 :]]


def never_committed(records: list[Record], at: int) -> list[Record]:
    last = max(at for at, record in enumerate(records) if isinstance(record, Committed))
    return left_out(records, last)


def left_behind(records: list[Record], at: int) -> list[Record]:
    return [replace(one, cursor=one.cursor - 1) if isinstance(one, Stand) else one for one in records]
