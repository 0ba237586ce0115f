"""The small parts: backoff, feeds, signal sets, the wire's readers and writers, cursor files."""

# ruff: noqa: ASYNC240  (paths of a test's own temporary folder)
from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import readback_client
from readback_client import Cursors, FileCursorStore, Limits, Signal, Typing
from readback_client._backoff import Backoff
from readback_client._errors import BY_CODE, BYE_CODES, CLOSE_CODES, ends_for_good, wire_error
from readback_client._feed import Feed, FeedState, Offer, Reader, Start
from readback_client._link import address_of
from readback_client._signals import SignalSet
from readback_client._wire import Malformed, decode, event_of, maybe_seconds, seq_of, spliced, time_of

EVENT = {
    "op": "event", "stream": "chat:ops", "seq": 1, "type": "message", "key": "k", "by": "user:bob",
    "at": "2026-11-21T09:30:00.000Z", "body": {},
}  # fmt: skip


@given(st.integers(0, 10_000), st.floats(0, 100), st.integers())
def test_backoff_stays_between_its_floor_and_its_cap(attempt: int, floor_s: float, seed: int) -> None:
    """However many attempts, whatever the floor."""
    backoff = Backoff(0.5, 30.0, random.Random(seed).uniform)
    backoff.attempt = attempt
    assert floor_s <= backoff.next_s(floor_s) <= floor_s + 30.0


@given(st.lists(st.integers(1, 12)), st.integers(1, 6))
def test_a_feed_takes_each_seq_once_in_order(offered: list[int], buffer: int) -> None:
    """Whatever arrives in whatever order, what the reader gets is 1, 2, 3 … and bounded."""
    feed = Feed("chat:ops", Start(after=0), Limits(buffer_events_max=buffer))
    feed.reader = Reader("chat:ops")
    feed.state = FeedState.LIVE
    got = []
    for seq in offered:
        offer = feed.offer(event_of({**EVENT, "seq": seq}), 100)
        assert len(feed.reader.queue) <= buffer
        if offer is Offer.FILLED:
            while (event := feed.reader.take()) is not None:
                got.append(event.seq)
    while (event := feed.reader.take()) is not None:
        got.append(event.seq)
    assert got == list(range(1, len(got) + 1))


def test_signal_sets_are_bounded() -> None:
    """Past the bound the key that waited longest gives way; a newer value under a key takes no room."""
    signals = SignalSet(3)
    for n in range(5):
        for age in range(3):
            signals.put(Signal("trip:9", "position", f"device:{n}", age, 0.0), 0.0, 6.0)
    found = [signals.take() for _ in range(3)]
    assert [signal.by for signal in found if isinstance(signal, Signal)] == ["device:2", "device:3", "device:4"]
    assert signals.take() is None


def test_typing_expires_from_its_age() -> None:
    """A signal already 4 s old goes off 2 s later; repeated in time, it does not."""
    signals = SignalSet(9)
    assert signals.put(Typing("chat:ops", "user:bob", True, 4.0), 10.0, 6.0) == 12.0
    signals.put(Typing("chat:ops", "user:bob", True, 0.0), 11.0, 6.0)
    signals.take()
    signals.expire("chat:ops", 12.0)
    assert signals.take() is None
    signals.expire("chat:ops", 17.0)
    assert signals.take() == Typing("chat:ops", "user:bob", False, 0.0)


@pytest.mark.parametrize(
    "bad",
    [{"seq": -1}, {"seq": "1"}, {"seq": True}, {"stream": 7}, {"at": "yesterday"}, {"by": None}, {"type": None}],
)
def test_events_that_cannot_be_trusted_are_malformed(bad: dict[str, object]) -> None:
    """A wrong seq or stream would break a promise, so it is never guessed at."""
    with pytest.raises(Malformed):
        event_of({**EVENT, **bad})


def test_the_wire_is_read_with_its_types() -> None:
    """Bodies may be gone, offsets are turned to UTC, numbers that are no times are none."""
    assert event_of({**EVENT, "body": None}).body is None
    assert event_of({**EVENT, "body": None}).text == ""
    assert time_of({"at": "2026-11-21T10:30:00+01:00"}, "at").isoformat() == "2026-11-21T09:30:00+00:00"
    assert maybe_seconds({"retry_after": float("inf")}, "retry_after") is None
    assert maybe_seconds({"retry_after": True}, "retry_after") is None
    assert seq_of({"n": 3}, "n") == 3
    assert spliced("ping", 4, "{}") == '{"op":"ping","id":4}'
    for junk in ("", "[]", "nul", b"{}"):
        with pytest.raises(Malformed):
            decode(junk)


def test_codes_are_whole() -> None:
    """Every close code has a name and a class, and its range agrees with the class."""
    for code, name in CLOSE_CODES.items():
        assert BYE_CODES[name] == code
        if name in BY_CODE:
            assert BY_CODE[name].retryable is not ends_for_good(code)
    assert wire_error("conflict", "m", head=4).head == 4
    assert str(wire_error("rejected", "")) == "rejected"


def test_addresses() -> None:
    """IPv6, TLS and a path of one's own."""
    assert address_of("wss://example.org/custom").resource == "/custom"
    assert address_of("wss://example.org").port == 443
    assert address_of("ws://[::1]:8400/").host == "::1"


async def test_cursor_files_are_replaced_whole(tmp_path: Path) -> None:
    """Saved and loaded alike, private, without leftovers; absent is empty."""
    store = FileCursorStore(tmp_path / "ops.cursors")
    assert await store.load() == Cursors()
    for n in range(3):
        await store.save(Cursors("e1", {"chat:ops": n}))
    assert await store.load() == Cursors("e1", {"chat:ops": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["ops.cursors"]
    assert store.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "junk", [b"", b"[]", b"{}", b'{"format":2,"log":"e","streams":{}}', b'{"format":1,"log":"e","streams":{"a":-1}}']
)
async def test_a_damaged_cursor_file_is_said_not_ignored(tmp_path: Path, junk: bytes) -> None:
    """Starting from the head instead would lose what lay between."""
    path = tmp_path / "ops.cursors"
    path.write_bytes(junk)
    with pytest.raises(ValueError, match="not a cursor file"):
        await FileCursorStore(path).load()


async def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    """Nothing half-written, nothing left behind."""
    store = FileCursorStore(tmp_path / "ops.cursors")
    await store.save(Cursors("e1", {"chat:ops": 1}))
    with pytest.raises(TypeError):
        await store.save(Cursors("e1", {"chat:ops": object()}))  # type: ignore[dict-item]
    store.path = tmp_path / "gone" / "ops.cursors"
    with pytest.raises(FileNotFoundError):
        await store.save(Cursors("e1", {}))
    assert await FileCursorStore(tmp_path / "ops.cursors").load() == Cursors("e1", {"chat:ops": 1})
    assert len(list(tmp_path.iterdir())) == 1


MODULES = sorted(module.name for module in pkgutil.iter_modules(readback_client.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    """Every ``>>>`` of the package runs."""
    assert doctest.testmod(importlib.import_module(f"readback_client.{name}")).failed == 0


CORE = [
    "_answers",
    "_backoff",
    "_calls",
    "_credentials",
    "_errors",
    "_feed",
    "_machine",
    "_manners",
    "_renewal",
    "_rota",
    "_signals",
    "_streams",
    "_values",
    "_wire",
]


@pytest.mark.parametrize("name", CORE)
def test_the_core_does_no_io(name: str) -> None:
    """The deciding modules import no loop, socket, clock or randomness: that is what lets them be tested alone."""
    source = Path(readback_client.__path__[0], f"{name}.py").read_text()
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert not {top.split(".")[0] for top in imported} & {
        "trio",
        "trio_websocket",
        "socket",
        "time",
        "random",
        "uuid",
        "os",
    }
