"""The log under simulation: one `store.memory.MemoryLog` for all nodes, and for each node a way there that fails.

`TruthLog` writes down every commit where it takes place. `NodeLog` is what a node is given: each call takes a while to get
there and a while to come back, may be refused, and may be lost before its effect or after it (commit unknown), or have its
effect long after the node was told that there is no answer. A node that crashes amid a call leaves it as far as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import orjson
import trio

from core import wire
from core.flight import times
from core.model import Decided, Entry, Epoch, Event, Judged, Mark, Member, MyStream, StreamFacts, Verdict
from core.ports import Unavailable
from proof import history
from proof.sim.meters import Meters
from proof.sim.net import Host
from proof.sim.recorder import Recorder
from proof.sim.timers import Timers
from store.memory import MemoryLog, _Stream

T = TypeVar("T")
ALERT: Final = "trip.alert"


def what(type: str, at: str, body: str) -> str:
    """All of an event, beside its sender and key, that is the same for everybody."""
    return f"{type} {at} {body}"


class TruthLog(MemoryLog):
    """Tells the recorder what is committed. ``restore`` puts it back to a copy made earlier, under a new epoch."""

    def __init__(
        self,
        recorder: Recorder,
        meters: Meters,
        *,
        now_ms: Callable[[], int],
        new_key: Callable[[], str],
        partitions: int,
    ) -> None:
        super().__init__(now_ms=now_ms, new_key=new_key, partitions=partitions)
        self._recorder = recorder
        self._meters = meters

    def _commit(self, stream: _Stream, key: str, type: str, by: str, body: bytes, now_ms: int) -> Event:
        event = super()._commit(stream, key, type, by, body, now_ms)
        text = what(type, wire.at_bytes(event.at_ms).decode(), body.decode())
        self._recorder.add(
            history.Committed(
                self._recorder.now(), stream.tenant, stream.name, event.seq, key, by, text, self._epoch.log
            )
        )
        if type == ALERT and stream.name.startswith("user:"):
            said = orjson.loads(body)
            self._recorder.add(
                history.Noticed(
                    self._recorder.now(),
                    stream.tenant,
                    stream.name,
                    event.seq,
                    said["trip"],
                    said["stop"],
                    said["threshold_s"],
                )
            )
        if type.startswith("member."):
            change = orjson.loads(body)
            role = change.get("role")
            self._recorder.add(
                history.Member(self._recorder.now(), stream.tenant, stream.name, change["principal"], role, event.seq)
            )
        return event

    def _keep(self, stream: _Stream, command: Decided, now_ms: int) -> Judged:
        judged = super()._keep(stream, command, now_ms)
        t, facts = self._recorder.now(), len(command.facts)
        reason = "" if judged.refusal is None else orjson.loads(judged.refusal)["reason"]
        self._recorder.add(
            history.Kept(
                t, stream.tenant, stream.name, command.key, command.by, judged.seq, judged.events, facts, reason,
                self._epoch.log,
            )
        )  # fmt: skip
        for seq, (_, type, body) in enumerate(command.facts, judged.seq):
            if type.startswith("timer."):
                fact = orjson.loads(body)
                self._meters.seen("timer fired", type == "timer.fired")
                due_t = self._run_t(fact["due"]) if type == "timer.set" else 0.0
                self._recorder.add(
                    history.Timer(
                        t, stream.tenant, stream.name, fact["name"], type[6:], seq, due_t, fact.get("fence", 0)
                    )
                )
            elif type == ALERT:
                self._meters.seen("alert given")
                fact = orjson.loads(body)
                self._recorder.add(
                    history.Alerted(
                        t, stream.tenant, stream.name, seq, fact["stop"], fact["recipient"], fact["threshold_s"],
                        fact.get("merged", []),
                    )
                )  # fmt: skip
            self._meters.seen("trip completed", type == "trip.completed")
        return judged

    def _run_t(self, text: str) -> float:
        """A time of somebody's on the run's clock."""
        return self._recorder.now() + (times.read(text).ms - self._now_ms()) / 1000

    async def trim(self, tenant: str, stream: str, before: int) -> int:
        first = await super().trim(tenant, stream, before)
        self._recorder.add(history.Trimmed(self._recorder.now(), tenant, stream, first))
        return first

    def events_of(self, tenant: str, name: str) -> list[Event]:
        return self._by_name[tenant, name].events

    def ruled_of(self, tenant: str, name: str) -> set[int]:
        """Seqs of the events that commands became."""
        return self._by_name[tenant, name].ruling

    def role_in(self, tenant: str, name: str, principal: str) -> str | None:
        return self._by_name[tenant, name].role(principal)

    def head_of(self, tenant: str, name: str) -> int:
        return self._by_name[tenant, name].head

    def first_of(self, tenant: str, name: str) -> int:
        return self._by_name[tenant, name].first

    def marks_of(self, tenant: str, name: str) -> dict[str, tuple[int, int]]:
        return dict(self._by_name[tenant, name].marks)

    def backup(self) -> _Backup:
        streams = []
        for stream in self._by_sid.values():
            streams.append(_clone(stream))
        return _Backup(streams, [list(log) for log in self._partitions], list(self._at_ms), dict(self._seen))

    def restore(self, backup: _Backup) -> None:
        """Nobody may be using the log meanwhile."""
        copies = [_clone(stream) for stream in backup.streams]
        self._by_sid = {stream.sid: stream for stream in copies}
        self._by_name = {(stream.tenant, stream.name): stream for stream in copies}
        self._partitions = [list(log) for log in backup.partitions]
        self._at_ms = list(backup.at_ms)
        self._seen = dict(backup.seen)
        self._epoch = Epoch(self._new_key(), self._epoch.partitions)
        heads = {f"{stream.tenant}/{stream.name}": stream.head for stream in copies}
        self._recorder.add(history.Restored(self._recorder.now(), self._epoch.log, heads))


@dataclass(slots=True)
class _Backup:
    streams: list[_Stream]
    partitions: list[list[Event]]
    at_ms: list[int]
    seen: dict[tuple[str, str], int]


def _clone(stream: _Stream) -> _Stream:
    copy = _Stream(stream.sid, stream.tenant, stream.name, stream.partition, stream.open)
    copy.first = stream.first
    copy.events = list(stream.events)
    copy.keys = dict(stream.keys)
    copy.members = dict(stream.members)
    copy.marks = dict(stream.marks)
    copy.commands = dict(stream.commands)
    copy.ruled = stream.ruled
    copy.ruling = set(stream.ruling)
    return copy


@dataclass(slots=True)
class Weather:
    """How the way to the log is now; shares are probabilities of a call."""

    down: str | None = None
    slow_s: tuple[float, ...] = (0.0,)
    """Each way takes one of these."""
    refused: float = 0.0
    lost_before: float = 0.0
    lost_after: float = 0.0
    late: float = 0.0
    """An append that is answered by nothing in time and has its effect afterwards."""


def at_once(coroutine: Coroutine[Any, Any, object]) -> None:
    """Without anybody who waits for it: what is in memory never waits, so one step is all of it."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("a store in memory waited")


class Way:
    """A host's way to ``store``, as the weather has it; ``effect`` is what comes of its writes."""

    def __init__(
        self,
        store: str,
        effect: str,
        host: Host,
        timers: Timers,
        meters: Meters,
        recorder: Recorder,
        weather: Callable[[], Weather],
        timeout_s: float,
    ) -> None:
        self._store = store
        self._effect = effect
        self._host = host
        self._timers = timers
        self._meters = meters
        self._recorder = recorder
        self._weather = weather
        self._timeout_s = timeout_s

    async def call(self, method: str, make: Callable[[], Coroutine[Any, Any, T]], *, writes: bool) -> T:
        rng, weather = self._host.rng, self._weather()
        self._recorder.trace(f"{self._store} {method} {self._host.name}".encode())
        if weather.down is not None or (weather.refused and rng.random() < weather.refused):
            await trio.lowlevel.checkpoint()
            raise Unavailable(weather.down or "refused, as the seed has it", rng.choice((0.05, 0.3)))
        there_s, back_s = rng.choice(weather.slow_s), rng.choice(weather.slow_s)
        fate = rng.random()
        if writes and fate < weather.late:
            self._meters.seen(f"{self._effect} late: after its sender was told that it is unknown")
            self._timers.after(self._timeout_s * (1.0 + rng.random()), lambda: self._lands(make, "late"))
            await trio.sleep(self._timeout_s)
            raise Unavailable("no answer in time", 0.05)
        try:
            await trio.sleep(there_s)
        except trio.Cancelled:
            # The node crashed with this on its way: it may have been sent already.
            if writes and self._host.dead and rng.random() < 0.5:
                self._lands(make, "orphaned")
            raise
        if self._host.dead:
            await trio.sleep_forever()
        if fate < weather.late + weather.lost_before:
            if writes:
                self._meters.seen(f"{self._effect} unknown: lost before")
            raise Unavailable("the link broke, as the seed has it", 0.05)
        answer = await make()
        await trio.sleep(back_s)
        if fate < weather.late + weather.lost_before + weather.lost_after:
            if writes:
                self._meters.seen(f"{self._effect} unknown: lost after")
            raise Unavailable("the link broke, as the seed has it", 0.05)
        return answer

    def _lands(self, make: Callable[[], Coroutine[Any, Any, object]], how: str) -> None:
        self._meters.seen(f"{self._effect} {how}")
        at_once(make())


class NodeLog:
    """A node's way to the log; a `core.ports.Log`."""

    def __init__(self, truth: TruthLog, way: Way) -> None:
        self._truth = truth
        self._way = way

    async def _call(self, method: str, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await self._way.call(method, make, writes=method in ("append", "command"))

    async def epoch(self) -> Epoch:
        return await self._call("epoch", self._truth.epoch)

    async def append(self, entries: Sequence[Entry]) -> list[Verdict]:
        return await self._call("append", lambda: self._truth.append(entries))

    async def command(self, commands: Sequence[Decided]) -> list[Judged]:
        return await self._call("command", lambda: self._truth.command(commands))

    async def ruled(self, tenant: str, sid: int, after: int, limit: int) -> list[Event]:
        return await self._call("ruled", lambda: self._truth.ruled(tenant, sid, after, limit))

    async def names(self, sids: Sequence[int]) -> dict[int, tuple[str, str]]:
        return await self._call("names", lambda: self._truth.names(sids))

    async def open_streams(self, asked: Sequence[tuple[str, str, str]]) -> list[StreamFacts | None]:
        return await self._call("open_streams", lambda: self._truth.open_streams(asked))

    async def read(self, tenant: str, sid: int, after: int, limit: int) -> list[Event]:
        return await self._call("read", lambda: self._truth.read(tenant, sid, after, limit))

    async def read_before(self, tenant: str, sid: int, before: int, limit: int) -> list[Event]:
        return await self._call("read_before", lambda: self._truth.read_before(tenant, sid, before, limit))

    async def tail(self, partition: int, after_pos: int, limit: int) -> list[Event]:
        return await self._call("tail", lambda: self._truth.tail(partition, after_pos, limit))

    async def heads(self) -> list[int]:
        return await self._call("heads", self._truth.heads)

    async def create_stream(
        self, tenant: str, stream: str, *, open: bool, members: Sequence[Member], by: str
    ) -> StreamFacts:
        return await self._call(
            "create_stream", lambda: self._truth.create_stream(tenant, stream, open=open, members=members, by=by)
        )

    async def put_member(self, tenant: str, stream: str, principal: str, role: str, by: str) -> Event | None:
        return await self._call("put_member", lambda: self._truth.put_member(tenant, stream, principal, role, by))

    async def remove_member(self, tenant: str, stream: str, principal: str, by: str) -> Event:
        return await self._call("remove_member", lambda: self._truth.remove_member(tenant, stream, principal, by))

    async def members(self, tenant: str, stream: str) -> list[Member] | None:
        return await self._call("members", lambda: self._truth.members(tenant, stream))

    async def my_streams(self, tenant: str, principal: str) -> list[MyStream]:
        return await self._call("my_streams", lambda: self._truth.my_streams(tenant, principal))

    async def load_marks(self, tenant: str, sids: Sequence[int]) -> list[Mark]:
        return await self._call("load_marks", lambda: self._truth.load_marks(tenant, sids))

    async def save_marks(self, tenant: str, marks: Sequence[Mark]) -> None:
        await self._call("save_marks", lambda: self._truth.save_marks(tenant, marks))

    async def save_seen(self, tenant: str, seen: Mapping[str, int]) -> None:
        await self._call("save_seen", lambda: self._truth.save_seen(tenant, seen))

    async def load_seen(self, tenant: str, sid: int, principals: Sequence[str]) -> dict[str, int]:
        return await self._call("load_seen", lambda: self._truth.load_seen(tenant, sid, principals))

    async def trim(self, tenant: str, stream: str, before: int) -> int:
        return await self._call("trim", lambda: self._truth.trim(tenant, stream, before))

    async def aclose(self) -> None:
        pass
