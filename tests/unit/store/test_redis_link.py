"""The links themselves, against a peer that a test plays by hand over a socket pair."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import trio
import trio.testing

from core.bus import Message
from core.ports import Unavailable
from store.bus_limits import BusCounters, BusLimits
from store.redis_link import CommandLink, ListeningLink, RedisLink
from store.redis_wire import ReplyError, Server, Wire, code_of, explain, pack
from tests.nodes import until

SERVER = Server("there", 6379)
LIMITS = BusLimits(publish_bytes_max=1_000)


class Far:
    """The other end: what was written to it, and a hand to answer."""

    def __init__(self) -> None:
        near, self.sock = socket.socketpair()
        near.setblocking(False)
        self.sock.setblocking(False)
        self.counters = BusCounters()
        self.wire = Wire(near, SERVER, self.counters, None)
        self.read = bytearray()

    def written(self) -> bytes:
        try:
            while data := self.sock.recv(1_048_576):
                self.read += data
        except BlockingIOError:
            pass
        return bytes(self.read)

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)


@pytest.fixture
def far() -> Iterator[Far]:
    made = Far()
    yield made
    made.sock.close()
    made.wire.sock.close()


def commands(far: Far, refused: list[ReplyError] | None = None, limits: BusLimits = LIMITS) -> CommandLink:
    return CommandLink(far.wire, limits, far.counters, (refused if refused is not None else []).append)


class Ear:
    def __init__(self, far: Far) -> None:
        self.heard: list[Message | str] = []
        self.calls = 0
        self.canaries: list[bytes] = []
        self.link = ListeningLink(
            far.wire,
            LIMITS,
            far.counters,
            sharded=False,
            on_messages=self._messages,
            on_listening=self.heard.append,
            on_canary=self.canaries.append,
        )

    def _messages(self, messages: Sequence[Message]) -> None:
        self.calls += 1
        self.heard += messages


def confirm(name: bytes, count: int, kind: bytes = b"subscribe") -> bytes:
    return b"*3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n:%d\r\n" % (len(kind), kind, len(name), name, count)


def message(name: bytes, payload: bytes) -> bytes:
    return b"*3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(payload), payload)


# Writing


async def test_the_first_write_of_a_turn_goes_out_at_once_and_the_rest_together(
    far: Far, nursery: trio.Nursery
) -> None:
    """No wait for a lone message, one system call for many."""
    link = commands(far)
    nursery.start_soon(link.run)
    await trio.testing.wait_all_tasks_blocked()
    assert link.write(b"1")
    assert link.write(b"2")
    assert link.write(b"3")
    assert far.written() == b"1"
    await trio.testing.wait_all_tasks_blocked()
    assert far.written() == b"123"
    assert link.write(b"4")
    assert far.written() == b"1234"
    assert far.counters.bytes_out == 4


async def test_what_is_not_taken_is_kept_in_order_up_to_the_bound(far: Far, nursery: trio.Nursery) -> None:
    """The peer does not read: whole writes are refused, never halves; it reads on, and gets all that was accepted."""
    link = commands(far)
    nursery.start_soon(link.run)
    accepted = b""
    refused = 0
    for number in range(100_000):
        data = b"%07d\n" % number * 50
        if link.write(data):
            accepted += data
        else:
            refused += 1
            if refused == 3:
                break
        await trio.lowlevel.checkpoint()
    assert refused == 3
    with trio.fail_after(10):
        while len(far.written()) < len(accepted):  # noqa: ASYNC110  a socket that is read by hand
            await trio.sleep(0.001)
    assert far.written() == accepted
    assert link.write(b"again")


async def test_a_link_that_is_lost_takes_nothing_and_says_why(far: Far, nursery: trio.Nursery) -> None:
    """The first reason stays; its task ends."""
    link = commands(far)
    nursery.start_soon(link.run)
    await trio.testing.wait_all_tasks_blocked()
    far.sock.close()
    await until(lambda: link.lost)
    assert link.lost == "Redis there:6379 closed the link"
    link.lose("another")
    assert link.lost == "Redis there:6379 closed the link"
    assert not link.write(b"x")
    await trio.testing.wait_all_tasks_blocked()
    assert not nursery.child_tasks


async def test_a_write_finds_a_dead_link_before_its_reader_does(far: Far) -> None:
    """Nothing is raised at whoever publishes."""
    link: RedisLink = commands(far)
    far.sock.close()
    link.write(b"1")
    assert link.lost is not None
    assert "broke" in link.lost
    await link.run()


async def test_a_cancelled_link_closes_its_socket(far: Far) -> None:
    """The server sees an end."""
    link = commands(far)
    with trio.move_on_after(0):
        await link.run()
    assert link.lost is not None
    assert far.sock.recv(1) == b""


# Replies


async def test_replies_go_to_who_asked_in_order(far: Far, nursery: trio.Nursery) -> None:
    """Publishes between them take theirs, in whatever pieces they come."""
    link = commands(far)
    nursery.start_soon(link.run)
    answers: dict[bytes, object] = {}

    async def ask(word: bytes) -> None:
        answers[word] = await link.ask(("ECHO", word))

    for word in (b"one", b"two"):
        nursery.start_soon(ask, word)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            link.tell(("PUBLISH", "c", b"x"))
    for byte in b"$3\r\none\r\n:1\r\n:1\r\n:0\r\n$3\r\ntwo\r\n:1\r\n:1\r\n:1\r\n":
        far.say(bytes([byte]))
        await trio.testing.wait_all_tasks_blocked(0.0)
    await until(lambda: len(answers) == 2)
    assert answers == {b"one": b"one", b"two": b"two"}
    assert link.lost is None


async def test_an_error_to_a_publish_is_counted_and_told(far: Far, nursery: trio.Nursery) -> None:
    """Nobody waits for it, and it matters."""
    refused: list[ReplyError] = []
    link = commands(far, refused)
    nursery.start_soon(link.run)
    for _ in range(3):
        link.tell(("PUBLISH", "c", b"x"))
    far.say(b":1\r\n-OOM command not allowed\r\n:1\r\n")
    await until(lambda: refused)
    assert [code_of(error) for error in refused] == ["OOM"]
    assert far.counters.errors == 1
    assert link.lost is None


@pytest.mark.parametrize("said", [b":1\r\n", b"+OK\r\n", b"\x16\x03\x01", b"*3\r\n:1\r\n:2\r\n:3\r\n"])
async def test_what_nobody_asked_for_ends_the_link(far: Far, nursery: trio.Nursery, said: bytes) -> None:
    """Replies are matched by their order: one too many, and none can be trusted."""
    link = commands(far)
    nursery.start_soon(link.run)
    far.say(said)
    await until(lambda: link.lost)


async def test_a_reply_that_does_not_come_is_unavailable(
    far: Far, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """After its time; one that comes later goes to nobody else."""
    link = commands(far)
    nursery.start_soon(link.run)
    with pytest.raises(Unavailable, match="did not answer within 1 s"):
        await link.ask(("GET", "a"))
    answer: list[object] = []

    async def ask() -> None:
        answer.append(await link.ask(("GET", "b")))

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    far.say(b"$1\r\na\r\n$1\r\nb\r\n")
    await until(lambda: answer)
    assert answer == [b"b"]


async def test_who_waits_when_the_link_ends_is_told_at_once(far: Far, nursery: trio.Nursery) -> None:
    """Not after the time-out."""
    link = commands(far, limits=replace(LIMITS, reply_timeout_s=3600.0))
    nursery.start_soon(link.run)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(lambda: trio.to_thread.run_sync(far.sock.shutdown, socket.SHUT_RDWR))
    with pytest.raises(Unavailable, match="closed the link"):
        await link.ask(("GET", "a"))
    with pytest.raises(Unavailable, match="closed the link"):
        await link.ask(("GET", "a"))


async def test_those_who_wait_are_bounded(far: Far, nursery: trio.Nursery) -> None:
    """A Redis that is slow does not gather everybody's questions."""
    link = commands(far, limits=replace(LIMITS, commands_max=2))
    nursery.start_soon(link.run)
    for _ in range(2):
        nursery.start_soon(link.ask, ("GET", "a"))
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(Unavailable, match="too much waits"):
        await link.ask(("GET", "a"))
    far.say(b"$-1\r\n$-1\r\n")
    await trio.testing.wait_all_tasks_blocked(0.01)


# Listening


async def test_one_read_is_one_call_and_a_confirmation_keeps_its_place(far: Far, nursery: trio.Nursery) -> None:
    """Messages before and after it are told before and after it; names that are not wanted are passed over."""
    ear = Ear(far)
    ear.link.listen({b"n:a": "a", b"n:canary": ""})
    ear.link.listen({b"n:b": "b"})
    said = confirm(b"n:a", 1) + confirm(b"n:canary", 2) + message(b"n:a", b"1") + message(b"n:canary", b"tweet")
    far.say(said + message(b"n:a", b"2") + confirm(b"n:b", 3) + message(b"n:b", b"3") + message(b"n:x", b"4"))
    nursery.start_soon(ear.link.run)
    await until(lambda: len(ear.heard) == 6)
    assert ear.heard == ["a", "", ("a", b"1"), ("a", b"2"), "b", ("b", b"3")]
    assert ear.calls == 2
    assert ear.canaries == [b"tweet"]
    assert far.counters.received == 3


async def test_only_what_was_forgotten_is_told_again(far: Far, nursery: trio.Nursery) -> None:
    """The counts in the answers to a repeated subscription say which it was, among others that come and go."""
    ear = Ear(far)
    names = {b"n:canary": "", b"n:a": "a", b"n:b": "b", b"n:c": "c"}
    ear.link.listen(names)
    far.say(b"".join(confirm(name, count) for count, name in enumerate(names, 1)))
    nursery.start_soon(ear.link.run)
    await until(lambda: len(ear.heard) == 4)
    ear.heard.clear()
    ear.link.listen_again()
    assert ear.link.waits_since_s() is not None
    ear.link.listen({b"n:d": "d"})
    await trio.testing.wait_all_tasks_blocked(0.01)
    order = [
        name for name in (b"n:canary", b"n:a", b"n:b", b"n:c", b"n:d") if pack(("SUBSCRIBE", name)) in far.written()
    ]
    assert len(order) == 5
    # The server had forgotten b.
    far.say(confirm(b"n:canary", 3) + confirm(b"n:a", 3) + confirm(b"n:b", 4) + confirm(b"n:c", 4) + confirm(b"n:d", 5))
    await until(lambda: len(ear.heard) == 2)
    assert ear.heard == ["b", "d"]
    assert far.counters.deaf_found == 1
    assert ear.link.waits_since_s() is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"-NOPERM no\r\n", "does not let this user"),
        (b"+OK\r\n", "what nobody asked"),
        (b"*2\r\n:1\r\n:2\r\n", "what nobody asked"),
        (confirm(b"n:other", 1), "what nobody asked"),
        (confirm(b"n:a", 0, b"unsubscribe"), "taken a channel away"),
        (b"", "closed the link"),
    ],
)
async def test_anything_else_ends_the_listening_link(far: Far, nursery: trio.Nursery, said: bytes, why: str) -> None:
    """With words for it."""
    ear = Ear(far)
    ear.link.listen({b"n:a": "a"})
    nursery.start_soon(ear.link.run)
    if said:
        far.say(said)
    else:
        far.written()
        far.sock.close()
    await until(lambda: ear.link.lost)
    assert why in str(ear.link.lost)
    assert ear.heard == []


def test_errors_are_explained_by_their_code() -> None:
    """Before Redis 7 a script's error hides it; one that is not known is quoted."""
    inner = ReplyError(
        "ERR Error running script (call to f_ab): @user_script:4: @user_script: 4: -OOM command not allowed"
    )
    assert code_of(inner) == "OOM"
    assert explain(SERVER, inner).startswith("Redis there:6379 is full")
    assert explain(SERVER, ReplyError("WEIRD thing")) == "Redis there:6379 answered with an error: WEIRD thing"
    assert str(Server("::1", 7)) == "[::1]:7"
    assert str(Server("", 0, "/run/r.sock")) == "/run/r.sock"
