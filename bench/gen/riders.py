"""The connections of `bench.trips`: who gives commands, devices under way, who sees arrival times, and who reads an inbox.

Each notes when something left or came, into `Figures` that they share; nothing is decided here.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from bench.gen.devices import Device
from bench.gen.dialect import Dialect
from bench.gen.raw import Raw, Swarm


@dataclass(slots=True)
class Figures:
    """Nanoseconds from a position's leaving, over the rounds; and what must not have been."""

    eta: list[int] = field(default_factory=list)
    """To the arrival time that it made."""
    alert: list[int] = field(default_factory=list)
    """To the word in an inbox."""
    answer: list[int] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    """To the first arrival time of a trip that nobody had heard of, alone."""
    taken_up: list[int] = field(default_factory=list)
    """From following a trip whose past is in the store, on a new node, to its arrival time."""
    past_ms: list[float] = field(default_factory=list)
    """Of the node's CPU per 1,000 samples of a past, one a round."""
    busy: list[float] = field(default_factory=list)
    """Of a core, by the node with its worker."""
    fixes: int = 0
    unshown: int = 0
    """Positions that made no arrival time."""
    early: int = 0
    """People told before the position left that was to tell them."""
    missing: int = 0
    doubled: int = 0
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Run:
    """A trip under way, and who is to be told of it."""

    device: Device
    rider: str = ""
    shown: bool = False
    """Its arrival time, once."""
    left_ns: int | None = None
    """When its position of now left."""
    sent_ns: int | None = None
    """The same, until an arrival time came of it."""
    told: bool = False


class Dispatch(Raw):
    """The owner of all trips, who gives commands."""

    def __init__(self, swarm: Swarm, token: str) -> None:
        super().__init__(swarm, Dialect(), Dialect().hello(token, {}))
        self.waiting: set[int] = set()
        """Commands not answered yet."""
        self.refused: Counter[str] = Counter()
        self.next_id = 1

    def command(self, stream: str, verb: str, **body: Any) -> None:
        self.next_id += 1
        self.waiting.add(self.next_id)
        frame = {"op": "command", "id": self.next_id, "stream": stream, "type": verb, "key": str(uuid.uuid4())}
        self.send(orjson.dumps({**frame, "body": body}))

    def on_answer(self, payload: bytes) -> None:
        answer = orjson.loads(payload)
        self.waiting.discard(answer.get("id", 0))
        if answer["op"] == "error":
            self.refused[f"{answer['code']} {answer.get('message', '')}"] += 1

    def on_gone(self, reason: str) -> None:
        self.refused[f"the dispatcher's connection: {reason}"] += 1


class Vehicle(Raw):
    def __init__(self, swarm: Swarm, token: str, run: Run, figures: Figures) -> None:
        super().__init__(swarm, Dialect(), Dialect().hello(token, {}))
        self.run = run
        self.figures = figures
        self.waiting: dict[int, int] = {}
        self.next_id = 1

    def say_late(self, times_ms: Sequence[int]) -> None:
        """What it saw then."""
        self.next_id += 1
        self.figures.fixes += len(times_ms)
        self.send(self.run.device.message(self.next_id, times_ms))

    def say(self) -> None:
        """Where it is now."""
        self.next_id += 1
        message = self.run.device.message(self.next_id, (time.time_ns() // 1_000_000,))
        self.waiting[self.next_id] = self.run.left_ns = self.run.sent_ns = time.monotonic_ns()
        self.figures.fixes += 1
        self.send(message)

    def on_answer(self, payload: bytes) -> None:
        now_ns, answer = time.monotonic_ns(), orjson.loads(payload)
        began_ns = self.waiting.pop(answer.get("id", 0), None)
        if began_ns is not None:
            self.figures.answer.append(now_ns - began_ns)
        if answer["op"] == "error":
            self.figures.refused[str(answer["code"])] += 1
        for verdict in answer.get("verdicts", ()):
            if verdict["verdict"] != "accepted":
                self.figures.refused[f"{verdict['verdict']} {verdict.get('reason', '')}"] += 1

    def on_gone(self, reason: str) -> None:
        self.figures.refused[f"a device's connection: {reason}"] += 1


class Follower(Raw):
    """Sees arrival times. The first one after a position of now is taken for what that made."""

    def __init__(self, swarm: Swarm, token: str, runs: Sequence[Run], figures: Figures) -> None:
        super().__init__(swarm, Dialect(), Dialect().hello(token, {run.device.trip: {} for run in runs}))
        self.runs = {run.device.trip: run for run in runs}
        self.figures = figures

    def on_answer(self, payload: bytes) -> None:
        now_ns = time.monotonic_ns()
        if b'"kind":"eta"' not in payload:
            return
        run = self.runs[orjson.loads(payload)["stream"]]
        run.shown = True
        if run.sent_ns is not None:
            self.figures.eta.append(now_ns - run.sent_ns)
            run.sent_ns = None

    def on_gone(self, reason: str) -> None:
        self.figures.refused[f"a follower's connection: {reason}"] += 1


class Rider(Raw):
    """Who reads an inbox."""

    def __init__(self, swarm: Swarm, token: str, run: Run, figures: Figures) -> None:
        super().__init__(swarm, Dialect(), Dialect().hello(token, {run.rider: {"after": 0}}))
        self.run = run
        self.figures = figures

    def on_event(self, payload: bytes) -> None:
        now_ns, event = time.monotonic_ns(), orjson.loads(payload)
        if event["type"] != "trip.alert":
            return
        run = self.run
        if run.told:
            self.figures.doubled += 1
        elif run.left_ns is None:
            self.figures.early += 1
        else:
            self.figures.alert.append(now_ns - run.left_ns)
        run.told = True

    def on_gone(self, reason: str) -> None:
        self.figures.refused[f"a reader's connection: {reason}"] += 1
