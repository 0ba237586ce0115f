"""The consumer of rules: each event goes through the engine (`core.rules.engine`), and what that answers becomes effects.

What the engine remembers of a stream is committed with the cursor, as are firings (kept for good) and actions, which become
jobs whose keys are the engine's: an event that is taken again leads to the same jobs, which are there already. Rules that
wait do so by timers of the stream itself, and schedules too, so that a time that comes is fired once, by `gateway.work.timers`.

An event recorded longer than `ACTS_WITHIN_MS` ago is history: rules are folded over it, timers are set, but nobody is told,
and no command given; the firing says `held`, and why. So rules can be turned on in an installation that has a past.

Does not: do what rules want done (`gateway.work.jobs`), nor bound their loops (the engine does).
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from core.flight.machine import Machine, Recorded
from core.flight.registry import machine_of
from core.ports import Log
from core.rules.engine import step
from core.rules.expr import State
from core.rules.limits import FILE_BYTES_MAX
from core.rules.load import Problem, load
from core.rules.loops import FACTS
from core.rules.model import Action, RuleSet
from core.work import Effects, Firing, Work
from gateway.work.folding import fold_pasts
from gateway.work.jobs import job
from gateway.work.ports import Place, Seen

log = logging.getLogger("readback.work")

NAME: Final = "rules"
KINDS: Final = ("flight:", "trip:", "chat:")
STREAMS_MAX: Final = 20_000
"""Streams whose state and memory are kept here: some 5 KB each, 100 MB if ever full."""
ACTS_WITHIN_MS: Final = 86_400_000
FILES_MAX: Final = 500


def read_rules(folder: Path) -> RuleSet | list[Problem]:
    """All ``*.toml`` of a folder, by name; all of it or what is wrong. A folder that is not there is a problem too."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".toml" and path.is_file())
        if len(paths) > FILES_MAX:
            return [Problem(str(folder), 0, "", "", f"{len(paths)} files of rules, at most {FILES_MAX} are read")]
        files = [(path.name, _text(path)) for path in paths]
    except OSError as error:
        return [Problem(error.filename or str(folder), 0, "", "", f"cannot be read: {error.strerror}")]
    except UnicodeDecodeError:
        return [Problem(str(folder), 0, "", "", "a file of it is no UTF-8 text")]
    return load(files, FACTS)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(FILE_BYTES_MAX + 1).decode()


class _Known:
    """A stream as far as it was taken. ``machine`` is ``None`` where no rule looks at its state, or it has none."""

    __slots__ = ("error", "machine", "memory", "partition", "rules", "state")

    def __init__(self, partition: int, rules: RuleSet, machine: Machine[Any] | None, memory: dict[str, Any]) -> None:
        self.partition = partition
        self.rules = rules
        self.machine = machine
        self.state = None if machine is None else machine.initial()
        self.memory = memory
        self.error: Exception | None = None

    def evolve(self, event: Recorded) -> None:
        if self.machine is not None:
            self.state = self.machine.evolve(self.state, event)

    def show(self) -> dict[str, Any]:
        return {} if self.machine is None else self.machine.show(self.state)


class Rules:
    """`gateway.work.ports.Consumer`."""

    name = NAME

    def __init__(
        self, store: Log, work: Work, rules: RuleSet, wall: Callable[[], float], *, streams_max: int = STREAMS_MAX
    ) -> None:
        self._log = store
        self._work = work
        self._rules = rules
        self._wall = wall
        self._streams_max = streams_max
        self._known: OrderedDict[int, _Known] = OrderedDict()
        """By sid, the longest unused first."""
        self.fired = 0
        self.history = 0
        """Firings that were held because their event was history; both count what was taken, committed or not."""

    def __len__(self) -> int:
        return len(self._known)

    @property
    def rules(self) -> RuleSet:
        return self._rules

    def use(self, rules: RuleSet) -> None:
        """Other rules from the next events on. What the old ones waited with is called off as their streams go on."""
        self._rules = rules

    def concerns(self, stream: str) -> bool:
        return stream.startswith(KINDS)

    # -- memory ---------------------------------------------------------------------------------------------------------

    async def prepare(self, places: Sequence[tuple[Place, int]]) -> None:
        # Another partition's turn may let go of what this one has while it waits: looked at until all are there at once.
        while missing := [each for each in places if not self._is_known(each[0].sid)]:
            await self._learn(missing)
        for place, _ in places:
            self._known.move_to_end(place.sid)
        while len(self._known) > max(self._streams_max, len(places)):
            self._known.popitem(last=False)

    def _is_known(self, sid: int) -> bool:
        known = self._known.get(sid)
        return known is not None and known.rules is self._rules

    async def _learn(self, missing: Sequence[tuple[Place, int]]) -> None:
        rules = self._rules
        memories = await self._work.memories(NAME, [place.sid for place, _ in missing])
        pasts = []
        for place, before in missing:
            machine = machine_of(place.stream)
            looked_at = rules.of(place.tenant, place.stream, timed=machine is not None)
            known = _Known(place.partition, rules, machine if looked_at else None, memories.get(place.sid, {}))
            pasts.append((place, 1 if known.machine is None else before, known))
        await fold_pasts(self._log, pasts, self._keep)

    def _keep(self, place: Place, known: _Known) -> None:
        self._known[place.sid] = known

    def forget(self, partition: int, sid: int | None = None) -> None:
        gone = [sid] if sid is not None else [each for each, one in self._known.items() if one.partition == partition]
        for each in gone:
            self._known.pop(each, None)

    # -- events ---------------------------------------------------------------------------------------------------------

    def take(self, place: Place, events: Sequence[Seen]) -> Effects:
        known = self._known[place.sid]
        if known.error is not None:
            raise known.error
        effects, before = Effects(), known.memory
        history_ms = int(1000 * self._wall()) - ACTS_WITHIN_MS
        for _, event in events:
            known.evolve(event)
            state: State = known.show
            taken = step(known.rules, known.memory, place.tenant, place.stream, event, state)
            known.memory = taken.memory
            firings, actions = taken.firings, taken.actions
            if event.at_ms < history_ms and actions:
                firings, actions = self._held(firings, actions)
            self.fired += sum(firing.verdict == "fired" for firing in firings)
            effects.firings += firings
            effects.tasks += [
                job(place.tenant, action.key, event.at_ms, to_do(action), place.stream, place.sid) for action in actions
            ]
        if known.memory != before:
            effects.memories.append((place.tenant, place.sid, known.memory or None))
        return effects

    def _held(self, firings: Sequence[Firing], actions: Sequence[Action]) -> tuple[list[Firing], list[Action]]:
        reason = "the event was recorded too long ago for anybody to be told, or anything to be done"
        held = [
            firing._replace(verdict="held", inputs={**firing.inputs, "reason": reason}, actions=[])
            if firing.verdict == "fired"
            else firing
            for firing in firings
        ]
        self.history += sum(firing.verdict == "fired" for firing in firings)
        return held, [action for action in actions if action.type in ("timer.set", "timer.cancel")]


def to_do(action: Action) -> dict[str, Any]:
    """The body of the job that an action becomes (`gateway.work.jobs`)."""
    body: dict[str, Any] = {"do": action.kind, "body": action.body, "key": action.key}
    if action.kind == "command":
        return {**body, "stream": action.stream, "type": action.type, "via": list(action.via)}
    if action.kind == "message":
        return {**body, "stream": action.stream}
    if action.kind == "notify":
        return {**body, "to": action.stream}
    return {**body, "url": action.url}
