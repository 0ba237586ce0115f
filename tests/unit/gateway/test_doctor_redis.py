"""gateway.doctor_redis: a Redis that can carry the bus, and all the ways in which one cannot."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from gateway import doctor_redis
from gateway.config import Config
from gateway.doctor import Finding
from gateway.doctor_redis import look_at_redis
from store.embedded_redis import EmbeddedRedis, embedded_redis


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with embedded_redis() as running:
        yield running


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data=tmp_path, port=0, http_port=0)


def look(config: Config, url: str) -> list[Finding]:
    findings = list(look_at_redis(replace(config, redis_url=url)))
    for finding in findings:
        assert finding.level == "ok" or finding.advice, "what is not well comes with what to do"
    return findings


def test_none_is_needed_for_one_worker(config: Config) -> None:
    """Without a Redis one node, or several, serve; workers do not start, but for those of `dev`, which brings one."""
    (finding,) = look_at_redis(config)
    assert (finding.level, "within a second" in finding.seen) == ("ok", True)
    (finding,) = look_at_redis(replace(config, workers=2))
    assert (finding.level, "brings its own" in finding.seen) == ("ok", True)
    (finding,) = look_at_redis(replace(config, workers=2, database_url="postgresql://db/x"))
    assert (finding.level, "READBACK_REDIS_URL" in finding.advice) == ("fail", True)


def test_a_good_one(config: Config, server: EmbeddedRedis) -> None:
    """Version, room and the time of a round trip are told; no name of ours is left in it, and no password shown."""
    server_found, round_trip = look(config, server.url)
    assert (server_found.level, round_trip.check) == ("ok", "redis round trip")
    assert server_found.seen.startswith(f"Redis {'.'.join(map(str, server.version))} at 127.0.0.1:")
    assert " ms" in round_trip.seen
    assert server.password not in str((server_found, round_trip))
    with redis.Redis.from_url(server.url) as client:
        keys = list(client.scan_iter("*"))
        assert all(client.pttl(key) > 0 for key in keys), keys


def test_one_that_is_not_there(config: Config) -> None:
    """Said with what nodes do meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # bound, and nobody listens
        (finding,) = look(config, f"redis://:hunter2@127.0.0.1:{sock.getsockname()[1]}/0")
    assert finding.level == "fail"
    assert "through the log" in finding.advice
    assert "hunter2" not in str(finding)


def test_a_wrong_password(config: Config, server: EmbeddedRedis) -> None:
    """One finding, without the password."""
    (finding,) = look(config, f"redis://:hunter2@127.0.0.1:{server.port}/0")
    assert finding.level == "fail"
    assert "hunter2" not in str(finding)


def test_a_replica(config: Config, server: EmbeddedRedis) -> None:
    """It would take nothing: where to look instead is said."""
    with embedded_redis(args=("--replicaof", "127.0.0.1", str(server.port)), password=server.password) as replica:
        (finding,) = look(config, replica.url)
    assert (finding.level, "primary" in finding.advice) == ("fail", True)


def test_one_that_evicts(config: Config) -> None:
    """It works, and may forget a session's number."""
    with embedded_redis(args=("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")) as server:
        findings = look(config, server.url)
    assert [finding.level for finding in findings] == ["ok", "warn", "ok"]
    assert "of 64 MB used" in findings[0].seen


def test_one_that_is_nearly_full() -> None:
    """Told before it refuses anything."""
    memory = {"used_memory": "90", "maxmemory": "100", "maxmemory_policy": "noeviction"}
    assert doctor_redis._server("h:1", {}, memory).level == "warn"
    assert doctor_redis._server("h:1", {}, {**memory, "used_memory": "10"}).level == "ok"
    assert doctor_redis._server("h:1", {}, {}).level == "ok"  # this user may not ask


def test_a_sentence_becomes_what_was_seen_and_what_to_do() -> None:
    """The bus writes its refusals so; one without advice gets a place to look."""
    finding = doctor_redis._parted("fail", "Redis h:1 is a replica: give its primary")
    assert (finding.seen, finding.advice) == ("Redis h:1 is a replica", "give its primary")
    assert doctor_redis._parted("warn", "Something is odd").advice
