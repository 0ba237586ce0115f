"""Latencies of a crowd by the stretch of the run in which they ended: before, while and after something is broken."""

from __future__ import annotations

from typing import Any

from bench.gen.link import monotonic_ns
from bench.stats import Histogram

SERIES_NS = 100_000_000
"""Steps of the picture over time."""


class Phases:
    """Latencies by the stretch of the run in which they ended, with the worst of each client and of each moment.

    What a client gets while it catches up after a return is kept apart: its time away is in it.
    """

    def __init__(self, clients: int) -> None:
        self.began_ns = monotonic_ns()
        self.clients = clients
        self.names: list[str] = []
        self.since_ack: list[list[int]] = []
        self.since_send: list[list[int]] = []
        self.worst: list[list[int]] = []
        self.replayed: list[list[int]] = []
        self.series: dict[int, int] = {}
        self.enter("opening")

    def enter(self, name: str) -> None:
        self.names.append(name)
        self.since_ack.append([])
        self.since_send.append([])
        self.worst.append([0] * self.clients)
        self.replayed.append([])

    def record(self, client: int, now_ns: int, since_ack_ns: int, since_send_ns: int) -> None:
        self.since_ack[-1].append(since_ack_ns)
        self.since_send[-1].append(since_send_ns)
        if since_ack_ns > self.worst[-1][client]:
            self.worst[-1][client] = since_ack_ns
        step = (now_ns - self.began_ns) // SERIES_NS
        if since_ack_ns > self.series.get(step, -1):
            self.series[step] = since_ack_ns

    def told(self) -> dict[str, Any]:
        found = {}
        for at, name in enumerate(self.names):
            acks, sends, worst, replayed = Histogram(), Histogram(), Histogram(), Histogram()
            acks.record_all(self.since_ack[at])
            sends.record_all(self.since_send[at])
            worst.record_all(self.worst[at])
            replayed.record_all(self.replayed[at])
            found[name] = {
                "since_ack": acks.to_json(),
                "since_send": sends.to_json(),
                "worst": worst.to_json(),
                "replayed": replayed.to_json(),
            }
        return found
