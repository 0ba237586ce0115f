"""Errors planted in the product, one at a time, to see that the simulator finds them: what bites nobody proves nothing.

Each is a piece of the source of one function, and what stands there instead while it is `planted`. A piece that is no
longer in the source is an error at once, so that a mutant never turns into a harmless one unnoticed.
"""

from __future__ import annotations

import importlib
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any, Final


class Unfit(Exception):
    """The source that a mutant changes is not there any more."""


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    where: str
    """``module:Class.function`` or ``module:function``."""
    old: str
    new: str
    also: Mutant | None = None
    """Where a promise is kept twice over: what keeps it the second time."""
    needs: str = ""
    """A field of `proof.sim.swarm.Swarm`: it is looked for where that is drawn, and is not there elsewhere."""


MUTANTS: Final = (
    Mutant("resume-off-by-one", "core.replay:Replay._gather", "start = cursor + 1 - stream.base",
           "start = cursor + 2 - stream.base"),
    Mutant("resume-one-too-early", "gateway.opening:start", "return position.after\n", "return max(position.after - 1, 0)\n"),
    Mutant("resume-at-head", "gateway.opening:_cursor_of", "return Position(after=spec)", "return AT_HEAD"),
    Mutant("ack-before-commit", "gateway.lanes:Lane.run", "verdicts = await self._commit(batch)",
           "node = self._committed.__self__\n"
           "                seqs = {}\n"
           "                for entry in batch:\n"
           "                    stream = node.hub.by_sid.get(entry.sid)\n"
           "                    if entry.ticket.__class__ is tuple and stream is not None:\n"
           "                        seqs[entry.sid] = seqs.get(entry.sid, stream.head) + 1\n"
           "                        node.ops.answer(entry, Verdict(0, 0, 0, seqs[entry.sid], 0))\n"
           "                        entry.ticket = None\n"
           "                node.settle()\n"
           "                verdicts = await self._log.append(batch)"),
    Mutant("ack-of-an-unknown-commit", "gateway.node:Node._failed", "self.ops.unanswered(sockets, error)",
           "[self.ops.answer(entry, Verdict(_OK, 0, 0, self.hub.by_sid[entry.sid].head + 1, 0))"
           " for entry in sockets if entry.sid in self.hub.by_sid]"),
    Mutant("accepted-send-dropped", "gateway.lanes:Lane._next_batch", "batch = self._waiting\n",
           "batch = self._waiting[:1]\n"),
    Mutant("key-used-twice", "store.memory:MemoryLog._append_one", "if used is not None:", "if False:"),
    Mutant("tenant-filter-dropped", "gateway.opening:_welcome", "stream = hub.by_name.get((connection.tenant, name))",
           "stream = next((stream for (_, known), stream in hub.by_name.items() if known == name), None)"),
    Mutant("gap-shown-before-fill", "core.hub:Hub.ingest", "if seq == stream.head + 1:", "if seq > stream.head:"),
    Mutant("hole-never-filled", "gateway.follower:Follower.fill_soon", "self._spawn(self._fill, stream)", "pass"),
    Mutant("silence-believed", "gateway.follower:Follower._watch_heads",
           "if alone or asked or behind.get(partition) == pos or not lane.busy:", "if False:"),
    Mutant("trim-not-told", "core.replay:Replay.page",
           "if after < stream.first - 1 or (events and events[0].seq != after + 1):", "if False:"),
    Mutant("cursor-past-head-guessed", "core.hub:Hub.subscribe", 'reset = "ahead"', "after = stream.head"),
    Mutant("epoch-not-compared", "gateway.opening:_welcome",
           "other_epoch = entrance.epoch is not None and entrance.epoch != node.epoch.log", "other_epoch = False"),
    Mutant("stale-token-accepted", "core.session:Sessions.may_resume", 'return "used before"', "return None"),
    Mutant("token-used-elsewhere-accepted", "gateway.sessions:Claims.claim", "return before < generation", "return True"),
    Mutant("expired-token-stays", "gateway.shard:Shard._look_after", "elif not self.ops.still_welcome(connection):",
           "elif False:"),
    Mutant("removed-follows-on", "core.hub:Hub._member_changed", 'if event.type == "member.left" and not stream.open:',
           "if False:"),
    Mutant("removal-one-too-late", "core.hub:Hub.remove", "port.until[stream] = min(seq, port.until.get(stream, seq))",
           "port.until[stream] = seq + 1"),
    Mutant("typing-ahead-of-events", "core.shows:Shows._tell",
           "if port.blocked or port not in stream.live:", "if port.blocked:"),
    Mutant("marker-before-its-event", "core.signals:Signals._take_marks",
           "early = {by for by in marks if stream.marks[by][0] > stream.floor}", "early = set()"),
    Mutant("marker-moves-back", "core.signals:Signals.mark",
           "delivered = max(old_delivered, min(delivered, stream.head), read)", "delivered = min(delivered, stream.head)"),
    Mutant("unbounded-dirty-set", "core.signals:Signals._note", "port.signal_keys[stream, key] = None",
           "port.signal_keys[stream, key] = None\n"
           "        if '.' not in str(key[1]):\n"
           "            port.signal_keys[stream, (key[0], f'{key[1]}.{len(port.signal_keys)}')] = None"),
    Mutant("answers-without-bound", "gateway.shard:Shard._full",
           "return many or connection.reply_bytes > limits.reply_bytes_per_connection_max", "return False"),
    Mutant("ring-off-by-one", "core.stream:Stream.shrink", "self.base += cut", "self.base += cut + 1"),
    Mutant("slow-reader-skips-one", "core.outbox:Outbox._cut", "seq = item.first + at", "seq = item.first + at + 1"),
    Mutant("slow-reader-gets-one-twice", "core.outbox:Outbox._cut", "seq = item.first + at",
           "seq = item.first + max(at - 1, 0)"),
    Mutant("cut-frame-forgotten", "core.outbox:Outbox.pump", "waiting = [port.rest] if port.rest is not None else []",
           "waiting = []"),
    Mutant("ghosts-of-the-vanished", "gateway.shard:Shard._look_after", "if silent_for > 2 * heartbeat_s:", "if False:"),
    Mutant("ghosts-of-a-dead-node", "core.gossip:Gossip._forget", "if streams:", "if False:"),
    Mutant("bad-frame-ends-all", "gateway.ops:Ops.message", "self.shard.bye(connection, Close.BAD_FRAME, message.reason)",
           "[self.shard.bye(one, Close.BAD_FRAME, message.reason) for one in list(self.shard.connections.values())]"),
    Mutant("drain-tells-nobody", "gateway.drain:Drain.run", "await self._tell(began_s)", "pass"),
    Mutant("drain-overruns", "gateway.drain:Drain.run", "await self._see_off(end_s - RESERVED * self._window_s)",
           "await trio.sleep(1.5 * self._window_s)"),
    Mutant("followers-left-behind", "core.hub:Hub.drop", "self.unsubscribe(port, stream, now_s)", "pass"),
    Mutant("leeway-not-counted", "core.identity:identity_of", "expires_at_s + rules.leeway_s, ", "expires_at_s, "),
    Mutant("trimmed-shown-without-body", "core.hub:Hub.ingest_events",
           "if event.body is None and event.seq > stream.head and not member:", "if False:"),
    Mutant("signals-kept-as-bytes", "core.outbox:Outbox._cut", "self._not_now(port, item, at)",
           "self.reply(port, b''.join(item.frames[at:]))"),
    Mutant("snapshot-without-markers", "gateway.loader:Loader._load",
           "marks = await self._load_marks(facts)", "marks = []"),
    Mutant("markers-not-read-again", "gateway.rereading:Rereading.run", "if doubts == self._settled:", "if True:"),
    Mutant("half-a-command", "store.memory:MemoryLog._keep", "for fact in command.facts]", "for fact in command.facts[:1]]"),
    Mutant("command-decided-twice", "store.memory:MemoryLog._judge", "if kept is not None:", "if False:"),
    Mutant("stale-decision-kept", "store.memory:MemoryLog._judge", "if not is_first or command.state != stream.ruled:",
           "if not is_first:"),
    Mutant("stale-state-decided-on-again", "gateway.commander:Commander._settle",
           "self.stale += 1\n            book.behind = True", "self.stale += 1"),
    Mutant("verdict-not-looked-up", "gateway.commander:Commander._next",
           "if ask.command.type not in book.machine.table:", "if True:"),
    Mutant("fence-not-compared", "store.memory_work:MemoryWork._leased", "cursor.fence != lease.fence or ", ""),
    Mutant("cursor-not-compared", "store.memory_work:MemoryWork._leased", " or cursor.pos != lease.pos", ""),
    Mutant("lease-taken-too-soon", "store.memory_work:MemoryWork._share",
           "(cursor.until_ms <= now_ms and cursor not in mine)", "cursor not in mine"),
    Mutant("cursor-moved-without-effects", "gateway.work.following:Following._step",
           "effects = await self._take(events)", "effects = await self._take(events[:-1])"),
    Mutant("uncommitted-remembered", "gateway.work.following:Following.run",
           "self._consumer.forget(self.lease.partition)\n                    self._worker.failed(error)",
           "self._worker.failed(error)"),
    Mutant("parked-stream-overtaken", "gateway.work.following:Following._look_at_parked",
           "self._parked = {one.sid: one for one in parked if one.partition == partition}", "self._parked = {}"),
    Mutant("names-thrown-away", "gateway.work.worker:Worker.places", "return found", "return known"),
    Mutant("claim-never-runs-out", "store.memory_tasks:MemoryTasks.claim",
           'kept.state == "claimed" and kept.until_ms <= now_ms', "False"),
    Mutant("timer-of-another-setting", "core.flight.timers:Timed._timer", "if fence != timer.fence:", "if False:"),
    Mutant("timer-by-the-nodes-clock", "gateway.work.timers:TimerRunner.run", 'not_before_ms=body["due_ms"]',
           "not_before_ms=0"),
    Mutant("moved-timer-left-as-it-was", "gateway.work.timers:TimerRows.take", "replace=True", "replace=False"),
    Mutant("job-under-a-new-key", "gateway.work.jobs:JobRunner.run", 'task.body.get("key", "")',
           "__import__('core.commands').commands.derived_key(task.body['key'], task.fence)"),
    Mutant("rules-forget", "gateway.work.rules:Rules.take", "if known.memory != before:", "if False:"),
    Mutant("saga-step-under-another-key", "gateway.work.sagas:SagaRunner._make", "self._deeds.do(tenant, order, move.key)",
           "self._deeds.do(tenant, order, __import__('core.commands').commands.derived_key(move.key, orders.wall()))"),
    Mutant("turned-without-its-last-step", "core.sagas:_went_on", "marks=_marked(saga, step, mark)",
           "marks=saga.marks if wanted else _marked(saga, step, mark)"),
    Mutant("booked-and-not-taken-off", "core.saga_kinds:_leave", "return [left]", "return []"),
    Mutant("abort-forgets-what-was-done", "gateway.work.sagas:abort", "aborted=True, reason", "aborted=True, marks={}, reason"),
    Mutant("rebuild-skips-one", "gateway.work.rebuild:Rebuild._take_partition",
           "effects = await self._take(partition, events)", "effects = await self._take(partition, events[:-1])"),
    Mutant("rebuilt-into-the-live-rows", "store.memory_work:MemoryWork._write_rows",
           "generation = model.building if is_building else model.live", "generation = model.live"),
    Mutant("board-read-and-not-told", "gateway.board:Boards._load", "self._tell(board, changed)", "board.rows = fresh"),
    Mutant("board-skips-one", "gateway.board:Boards._read", "max(known[partition], reached)",
           "max(known[partition], reached + bool(rows))"),
    *(replace(mutant, needs="trips") for mutant in (
        Mutant("position-answered-before-it-is-kept", "gateway.live.positions:Positions.keep",
               "if each.last is not None], told)", "if each.last is not None], lambda error: None)\n            told(None)"),
        Mutant("duplicate-before-it-is-kept", "gateway.live.positions:Positions.keep",
               "any(each.waits for each in judged)", "samples"),
        Mutant("samples-given-up", "gateway.live.keeper:Keeper._keep",
               "await trio.sleep(max(RETRY_S, min(error.retry_after_s or 0.0, 1.0)))", "return"),
        Mutant("older-place-shown", "core.live:Live.show", "elif place.at_ms <= shown.place.at_ms:", "elif False:"),
        Mutant("age-since-it-was-heard", "gateway.live.showing:Showing._show",
               "trio.current_time() - max(now_ms - place.at_ms, 0) / 1000", "trio.current_time()"),
        Mutant("quarantined-shown", "gateway.live.positions:Positions.judge", "if live:", "if True:"),
        Mutant("quarantined-in-trails", "gateway.live.showing:Showing._load", 'if sample.verdict != "quarantined"', "if True"),
        Mutant("last-places-not-read", "gateway.live.showing:Showing.hold", "if stream.name.startswith(KEPT_KINDS):",
               "if False:"),
        Mutant("places-kept-to-themselves", "gateway.live.showing:Showing.tell_others",
               "cluster.publish_live(partition, payload)", "pass"),
        Mutant("alert-forgotten", "core.trip.trips:Trips.evolve", "return state.evolve(state_, event)",
               "return state_ if event.type == 'trip.alert' else state.evolve(state_, event)",
               Mutant("", "core.trip.alerts:waiting", "in trip.alerts.items():", "in ():",
                      Mutant("", "core.trip.arriving:Arriving._tell", "due.body(now_ms), due.key)",
                             "due.body(now_ms), derived_key(due.key, now_ms))"))),
        Mutant("notice-under-another-key", "gateway.work.jobs:Deeds._do", '"notice"), _said(what), key)',
               '"notice"), _said(what), __import__("core.commands").commands.derived_key(key, orders.wall()))'),
        Mutant("own-thresholds-ignored", "core.trip.alerts:_thresholds",
               "arrivals.thresholds_s if wish.thresholds_s is None else wish.thresholds_s", "arrivals.thresholds_s"),
        Mutant("no-look-without-a-position", "gateway.arrivals.engine:Arrivals.run",
               "look_ms is not None and look_ms <= now_ms", "False",
               Mutant("", "gateway.arrivals.engine:Arrivals._tell_workers", "if not self._arm:", "if True:")),
        Mutant("arrival-ends-nothing", "core.trip.arriving:Arriving._at_stops", 'deeds += self._give("complete"',
               'deeds += () and self._give("complete"'),
        Mutant("trip-shown-as-it-was", "gateway.past:Past.facts", "while True:", "while not known:"),
    )),
)  # fmt: skip

BY_NAME: Final = {mutant.name: mutant for mutant in MUTANTS}


def _find(where: str) -> FunctionType:
    module_name, _, path = where.partition(":")
    holder: Any = importlib.import_module(module_name)
    *classes, name = path.split(".")
    for part in classes:
        holder = getattr(holder, part)
    function = inspect.getattr_static(holder, name)
    assert isinstance(function, FunctionType), where
    return function


def source_of(mutant: Mutant) -> str:
    """The function's source with the error in it. Raises `Unfit`."""
    function = _find(mutant.where)
    source = textwrap.dedent(inspect.getsource(function))
    # Indentation within a class is four more than after the dedent.
    old, new = (part.replace("\n    ", "\n") if "." in mutant.where.partition(":")[2] else part
                for part in (mutant.old, mutant.new))  # fmt: skip
    if source.count(old) != 1:
        raise Unfit(f"{mutant.name}: {mutant.old!r} stands {source.count(old)} times in {mutant.where}")
    return source.replace(old, new)


@contextmanager
def planted(name: str) -> Iterator[None]:
    """With this error in the product; with an empty name, with none. Raises `KeyError` for an unknown name, `Unfit`."""
    if not name:
        yield
        return
    with _planted(BY_NAME[name]):
        yield


@contextmanager
def _planted(mutant: Mutant) -> Iterator[None]:
    if mutant.also is not None:
        with _planted(mutant.also), _planted(replace(mutant, also=None)):
            yield
        return
    function = _find(mutant.where)
    local: dict[str, FunctionType] = {}
    code = "from __future__ import annotations\n" + source_of(mutant)
    exec(compile(code, f"<{mutant.name}>", "exec"), dict(function.__globals__), local)
    # Within the function itself, so that whoever took it from its module by name calls the planted one too.
    original, function.__code__ = function.__code__, local[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = original
