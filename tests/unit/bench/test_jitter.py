"""bench.gen.jitter and bench.gen.resume: every seq is accounted for, and nothing but the truth is counted as whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from bench.gen import jitter, resume
from bench.gen.dialect import Dialect, SocketIO
from bench.gen.link import monotonic_ns
from bench.gen.raw import GONE, OPEN, Swarm

JOB = {"stream": "chat:a", "messages": 5, "cut_every_s": 1.0, "away_s": 0.1, "resume": True, "seed": 1}


def event(seq: int, stream: str = "chat:a") -> bytes:
    return b'{"op":"event","stream":"%s","seq":%d,"body":{"t":%d,"text":""}}' % (stream.encode(), seq, monotonic_ns())


def played(script: Callable[[jitter.Client], None], dialect: Dialect | None = None, **job: Any) -> dict[str, Any]:
    """The account of one client that went through a script, its connection imagined."""

    async def play() -> dict[str, Any]:
        swarm = Swarm(0)
        ledger = jitter.Ledger({**JOB, **job})
        client = jitter.Client(swarm, dialect or Dialect(), "token", ledger)
        client.state = OPEN
        client.on_welcome({"log": "e", "resume": "r", "streams": {"chat:a": {"head": 10, "after": 10}}})
        ledger.base = client.cursor
        script(client)
        told = jitter.account([client], ledger)
        swarm.close()
        return told

    return asyncio.run(play())


def test_a_client_that_got_everything_once_is_whole() -> None:
    """Five messages, five deliveries, nothing else."""
    told = played(lambda client: [client.on_event(event(seq)) for seq in range(11, 16)] and None)
    assert (told["expected"], told["delivered"], told["duplicates"], told["out_of_order"]) == (5, 5, 0, 0)
    assert told["not_whole"] == 0


def test_what_never_came_is_missing() -> None:
    """A hole is counted even when later messages came."""
    told = played(lambda client: [client.on_event(event(seq)) for seq in (11, 12, 14, 15)] and None)
    assert (told["delivered"], told["duplicates"], told["out_of_order"]) == (4, 0, 0)


def test_a_message_that_came_twice_is_a_duplicate() -> None:
    """Delivered once, doubled once; and the second one came out of order."""
    told = played(lambda client: [client.on_event(event(seq)) for seq in (11, 12, 11)] and None)
    assert (told["delivered"], told["duplicates"], told["out_of_order"], told["not_whole"]) == (2, 1, 1, 1)


def test_a_message_after_a_higher_one_is_out_of_order() -> None:
    """Late is not lost, and not in order either."""
    told = played(lambda client: [client.on_event(event(seq)) for seq in (11, 13, 12)] and None)
    assert (told["delivered"], told["out_of_order"]) == (3, 1)


def test_events_of_before_are_not_counted() -> None:
    """What was in the stream before the first message belongs to no message."""
    told = played(lambda client: client.on_event(event(9)))
    assert told["delivered"] == 0


def test_a_replay_ends_at_the_head_that_the_welcome_named() -> None:
    """Caught up is known from the head, not from silence; what was replayed is counted."""

    def script(client: jitter.Client) -> None:
        client.on_event(event(11))
        client.returning = True
        client.on_welcome({"log": "e", "resume": "r2", "streams": {"chat:a": {"head": 13, "after": 11}}})
        assert not client.whole()
        client.on_event(event(12))
        client.on_event(event(13))
        client.on_event(event(14))
        client.on_event(event(15))
        assert client.whole()

    told = played(script)
    assert (told["replayed"], told["replays"]["count"], told["reconnects"]["count"]) == (2, 1, 1)


def test_coming_back_to_nothing_missed_is_caught_up_at_once() -> None:
    """A head that is held already leaves nothing to wait for."""

    def script(client: jitter.Client) -> None:
        client.returning = True
        client.on_welcome({"log": "e", "resume": "r2", "streams": {"chat:a": {"head": 10, "after": 10}}})

    assert played(script)["replays"]["count"] == 1


def test_without_resume_what_was_missed_stays_missed() -> None:
    """A server that starts a returning client at its head loses what lies between, and that shows."""

    def script(client: jitter.Client) -> None:
        client.on_event(event(11))
        client.returning = True
        client.on_welcome({"streams": {"chat:a": {"head": 14, "after": 14}}})
        client.on_event(event(15))

    told = played(script, resume=False)
    assert told["delivered"] == 2
    assert told["replays"]["count"] == 0, "where nothing is replayed there is no replay to time"
    assert told["reconnects"]["count"] == 1


def test_a_resume_carries_the_cursor_and_the_newest_token() -> None:
    """What the next connection opens with is what this one learned last."""

    def script(client: jitter.Client) -> None:
        client.on_event(event(11))
        client.state = GONE
        client.connect = lambda: None  # type: ignore[method-assign]
        client.come_back()
        assert client.first_frame == Dialect().resume("r", "e", {"chat:a": 11})

    played(script)


def test_socketio_remembers_its_offset() -> None:
    """The last argument of an event is the place that its recovery starts from."""
    theirs = SocketIO()
    theirs.recover = {"pid": "p"}

    def script(client: jitter.Client) -> None:
        payload = b'42["event",{"op":"event","seq":11,"body":{"t":%d,"text":""}},"off-1"]' % monotonic_ns()
        client.on_event(payload)

    played(script, theirs)
    assert theirs.recover == {"pid": "p", "offset": "off-1"}


def test_a_storm_client_is_whole_when_all_streams_are() -> None:
    """Five streams, each up to its own head, each seq the next."""

    async def play() -> None:
        whole: list[int] = []
        swarm = Swarm(0)
        client = resume.Client(swarm, Dialect(), "t", ["chat:a", "chat:b"], lambda: whole.append(1))
        client.state = OPEN
        client.on_welcome(
            {"log": "e", "resume": "r", "streams": {n: {"head": 3, "after": 3} for n in ("chat:a", "chat:b")}}
        )
        assert len(whole) == 1
        client.behind = -1
        client.on_welcome(
            {
                "log": "e",
                "resume": "r",
                "streams": {"chat:a": {"head": 4, "after": 3}, "chat:b": {"head": 5, "after": 3}},
            }
        )
        client.on_event(event(4, "chat:a"))
        client.on_event(event(4, "chat:b"))
        assert len(whole) == 1
        client.on_event(event(5, "chat:b"))
        assert len(whole) == 2
        client.on_event(event(5, "chat:b"))
        client.on_event(event(9, "chat:a"))
        assert client.errors == 2
        swarm.close()

    asyncio.run(play())
