"""People who talk through whatever happens to nodes, Redis and Postgres, and what each of them saw.

A `Person` follows some streams on one node, over trio-websocket, and says one message after the other. When its
connection ends it comes back to the next node, with its resume token and its cursors, and repeats under the same key
what was not acknowledged. Nothing is forgiven: events are written down as they come, and `crowd_on` ends by holding
them against the log (`tests.faults.histories`).
"""

from __future__ import annotations

import functools
import itertools
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import trio
from trio_websocket import ConnectionClosed, HandshakeError

from core import wire
from store.postgres import open_postgres_log
from tests.faults.histories import History, Life, Seen, findings
from tests.nodes import token
from tests.servers import Database
from tests.together import Together
from tests.wire_client import WireClient, wire_client

Frame = dict[str, Any]

PATIENCE_S = 15.0
"""For anything that is waited for; on an idle machine nothing takes a tenth of it."""
REPEAT_S_MAX = 0.2
"""Come back no later than this, whatever ``retry_after`` allows: the case should not last."""
PAUSE_S = 0.05
"""Between two messages of a person."""
TEMPORARY = frozenset(("unavailable", "overloaded", "rate_limited"))
SUPERSEDED = 4504


def what(by: str, type: str, at: str, body: object) -> str:
    """All of an event that is the same for everybody."""
    return f"{by} {type} {at} {orjson.dumps(body, option=orjson.OPT_SORT_KEYS).decode()}"


class Person:
    def __init__(self, crowd: Crowd, name: str, node: str, streams: Sequence[str]) -> None:
        self.crowd = crowd
        self.name = name
        self.principal = f"user:{name}"
        self.node = node
        """Where it is, or tries to be next."""
        self.streams = list(streams)
        self.welcomed = 0
        self.resumed = 0
        self.rejected = 0
        """Resume tokens that were refused, so that it had to say hello."""
        self.closes: list[int] = []
        """Codes with which its connections ended."""
        self.superseded = False
        self.credentials: Frame = {}
        """What it would resume with now."""
        self.present: dict[tuple[str, str], str] = {}
        """(stream, principal) → what presence it was told last."""
        self.client: WireClient | None = None
        self._seqs = dict.fromkeys(self.streams, 0)
        self._asked: dict[int, Callable[[Frame | None], None]] = {}
        self._pause_s = 0.0

    @property
    def online(self) -> bool:
        return self.client is not None

    def cursor(self, stream: str) -> int:
        return self._seqs[stream]

    # -- being connected ----------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Be somewhere, until superseded or cancelled."""
        while not self.superseded:
            self._pause_s = 0.02
            try:
                async with wire_client(self.crowd.urls[self.node]) as client:
                    await self._live(client)
            except (HandshakeError, OSError):
                pass
            await trio.sleep(min(self._pause_s, REPEAT_S_MAX))
            self.node = self.crowd.after(self.node)

    async def _live(self, client: WireClient) -> None:
        history = self.crowd.history
        life = Life(self.node, dict(self._seqs))
        try:
            if self.credentials:
                opening = await client.say("resume", **self.credentials, streams=self._seqs)
            else:
                opening = await self._hello(client)
            while True:
                frame = orjson.loads(await client.websocket.get_message())
                if frame["op"] == "error" and frame.get("id") == opening and frame["code"] == "resume_rejected":
                    self.rejected += 1
                    opening = await self._hello(client)
                    continue
                if frame["op"] == "welcome":
                    history.lives.setdefault(self.name, []).append(life)
                    self.welcomed += 1
                    self.resumed += frame.get("resumed", False)
                    self.credentials = {"resume": frame["resume"], "log": frame["log"]}
                    self.client = client
                    refused = {name: at for name, at in frame["streams"].items() if "error" in at}
                    if refused:
                        self.crowd.problem(f"{self.name} was refused {refused} by {self.node}")
                self._heard(frame, life)
                self.crowd.stir()
        except ConnectionClosed as closed:
            code = 1006 if closed.reason is None else int(closed.reason.code)
            self.closes.append(code)
            if code == SUPERSEDED:
                self.superseded = True
            elif code >= 4500:
                self.crowd.problem(f"{self.name} was closed with {closed.reason}")
        finally:
            self.client = None
            asked, self._asked = self._asked, {}
            for answered in asked.values():
                answered(None)
            self.crowd.stir()

    async def _hello(self, client: WireClient) -> int:
        streams = {name: {"after": seq} for name, seq in self._seqs.items()}
        return await client.say("hello", token=token(self.principal), streams=streams)

    def _heard(self, frame: Frame, life: Life) -> None:
        match frame["op"]:
            case "event":
                stream, seq = frame["stream"], frame["seq"]
                seen = Seen(seq, frame["key"], what(frame["by"], frame["type"], frame["at"], frame["body"]))
                life.events.setdefault(stream, []).append(seen)
                self._seqs[stream] = seq
            case "signal" if frame["kind"] == "presence":
                self.present[frame["stream"], frame["by"]] = frame["value"]
            case "reset" | "unsub":
                self.crowd.problem(f"{self.name} was told {frame} by {life.node}")
            case "bye":
                self._pause_s = frame.get("retry_after") or 0.0
            case "drain":
                self.credentials["resume"] = frame["resume"]
                self.crowd.nursery.start_soon(self._leave, self.client, frame["after_ms"] / 1000)
        if (answered := self._asked.pop(frame.get("id", 0), None)) is not None:
            answered(frame)

    async def _leave(self, client: WireClient | None, after_s: float) -> None:
        await trio.sleep(after_s)
        if client is not None and client is self.client:
            try:
                await client.websocket.aclose()
            except (ConnectionClosed, OSError):
                pass

    # -- talking ------------------------------------------------------------------------------------------------------

    async def ask(self, op: str, **fields: Any) -> Frame | None:
        """The answer; ``None`` where the connection ended before it came."""
        client = self.client
        if client is None:
            return None
        got: list[Frame | None] = []
        done = trio.Event()

        def answered(frame: Frame | None) -> None:
            got.append(frame)
            done.set()

        self._asked[client._id + 1] = answered
        try:
            await client.say(op, **fields)
        except (ConnectionClosed, OSError):
            # It is known to be over here before the reader knows; who asked again at once would not let it find out.
            await self.crowd.until(lambda: self.client is not client)
            return None
        await done.wait()
        return got[0]

    async def send(self, stream: str, text: str) -> int:
        """Until it is acknowledged, with one key, wherever this person is; the seq, or 0 where it was superseded."""
        crowd, key = self.crowd, str(uuid.uuid4())
        while True:
            await crowd.until(lambda: self.online or self.superseded)
            if self.superseded:
                return 0
            answer = await self.ask("send", stream=stream, key=key, body={"text": text})
            if answer is None:
                crowd.unanswered += 1
            elif answer["op"] == "ok":
                crowd.history.acknowledge(stream, key, answer["seq"])
                crowd.acks += 1
                crowd.stir()
                return int(answer["seq"])
            else:
                if answer["code"] not in TEMPORARY:
                    crowd.problem(f"{self.name}'s send was answered {answer}")
                crowd.refusals += 1
                crowd.stir()
                await trio.sleep(min(answer["retry_after"], REPEAT_S_MAX))

    async def talk(self) -> None:
        crowd = self.crowd
        for number in itertools.count():
            if crowd.quiet or self.superseded:
                break
            await self.send(self.streams[number % len(self.streams)], f"{self.name} {number}")
            await trio.sleep(PAUSE_S)
        crowd.talking -= 1
        crowd.stir()

    async def roster(self, stream: str) -> list[str]:
        """Who is online, as this person's node says."""
        answer = await self.ask("presence", stream=stream)
        return [] if answer is None else sorted(row["by"] for row in answer.get("online", ()))


class Crowd(Together):
    """Use `crowd_on`."""

    def __init__(self, urls: Mapping[str, str], nursery: trio.Nursery) -> None:
        super().__init__(PATIENCE_S)
        self.urls = urls
        """Node → URL; looked up at every dial, so that a node may come back elsewhere."""
        self.nursery = nursery
        self.people: list[Person] = []
        self.history = History()
        self.acks = 0
        self.refusals = 0
        self.unanswered = 0
        """Sends whose connection ended before their answer came."""
        self.talking = 0
        self.quiet = False

    def after(self, node: str) -> str:
        names = sorted(self.urls)
        return names[(names.index(node) + 1) % len(names)]

    def on(self, node: str) -> list[Person]:
        return [person for person in self.people if person.node == node]

    async def acknowledged(self, more: int) -> None:
        """Wait for so many more acknowledgements."""
        goal = self.acks + more
        await self.until(lambda: self.acks >= goal)

    async def delivered(self, more: int = 30) -> None:
        """Wait until so many more were acknowledged, and everybody stands behind the last of them."""
        await self.acknowledged(more)
        heads: dict[str, int] = {}
        for (stream, _), seqs in self.history.acknowledged.items():
            heads[stream] = max(heads.get(stream, 0), *seqs)
        await self.until(
            lambda: all(
                person.cursor(stream) >= heads.get(stream, 0) for person in self.people for stream in person.streams
            )
        )

    async def join(self, name: str, node: str, streams: Sequence[str], *, talks: bool = True) -> Person:
        person = Person(self, name, node, streams)
        self.people.append(person)
        self.nursery.start_soon(person.live)
        await self.until(lambda: person.online)
        if talks:
            self.talking += 1
            self.nursery.start_soon(person.talk)
        return person


async def eventually(question: Callable[[], Any], *, every_s: float = 0.02) -> Any:
    """Ask (an async question) until the answer is true; returns it."""
    with trio.fail_after(PATIENCE_S):
        while not (answer := await question()):  # noqa: ASYNC110  # the world outside has no event
            await trio.sleep(every_s)
    return answer


async def read_log(database: Database, streams: Sequence[str], *, tenant: str = "demo") -> dict[str, list[Seen]]:
    """What Postgres holds of these streams; what `readback check` finds wrong with the log is an error."""
    held: dict[str, list[Seen]] = {}
    async with open_postgres_log(database.admin_url) as log:
        wrong = [finding async for _done, _all, finding in log.check() if finding is not None]
        assert wrong == []
        facts = await log.open_streams([(tenant, stream, "user:nobody") for stream in streams])
        for stream, fact in zip(streams, facts, strict=True):
            assert fact is not None, stream
            events: list[Seen] = []
            while page := await log.read(tenant, fact.sid, len(events), 1_000):
                for event in page:
                    at = wire.at_bytes(event.at_ms).decode()
                    body = None if event.body is None else orjson.loads(event.body)
                    events.append(Seen(event.seq, event.key, what(event.by, event.type, at, body)))
            held[stream] = events
    return held


async def make_streams(database: Database, streams: Sequence[str], *, tenant: str = "demo") -> None:
    async with open_postgres_log(database.url) as log:
        for stream in streams:
            await log.create_stream(tenant, stream, open=True, members=[], by="service:test")


@asynccontextmanager
async def crowd_on(
    urls: Mapping[str, str], database: Database, streams: Sequence[str], *, a_node: int = 3
) -> AsyncIterator[Crowd]:
    """Some people on each node, who all follow all the streams and talk; well under way when the block begins.

    At its end they fall silent; everything is acknowledged and with everyone, and the histories are judged.
    """
    await make_streams(database, streams)
    async with trio.open_nursery() as nursery:
        crowd = Crowd(urls, nursery)
        async with trio.open_nursery() as joining:
            for node in urls:
                for number in range(a_node):
                    joining.start_soon(functools.partial(crowd.join, f"{node}{number}", node, streams))
        await crowd.delivered(30)
        yield crowd
        crowd.quiet = True
        await crowd.until(lambda: crowd.talking == 0)
        log = await read_log(database, streams)
        there = [person for person in crowd.people if not person.superseded]
        try:
            await crowd.until(lambda: all(p.online and p.cursor(s) >= len(log[s]) for p in there for s in p.streams))
        except trio.TooSlowError:
            pass  # the judge says it better
        gone = [person.name for person in crowd.people if person.superseded]
        found = findings(crowd.history, await read_log(database, streams), gone)
        assert found == [], found[:8]
        assert crowd.acks == len(crowd.history.acknowledged)
        nursery.cancel_scope.cancel()
