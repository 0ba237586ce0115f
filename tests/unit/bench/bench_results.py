"""A result with a bit of everything, for the tests of what is made from results."""

from __future__ import annotations

from bench.model import PeerResult, Result, at_least, at_most
from bench.proc import Machine
from bench.stats import Histogram, Spread, Summary


def summary() -> Summary:
    made = Histogram()
    made.record_all(range(1_000_000, 41_000_000, 20_000))
    found = made.summary()
    assert found is not None
    return found


def result(scenario: str = "fanout", *, quick: bool = False) -> Result:
    ours = PeerResult(
        "readback",
        durable=True,
        cpu_us={
            "server per delivery, one": Spread(2.4, 2.2, 2.9, 3),
            "postgres per delivery, one": Spread(0.4, 0.3, 0.5, 3),
        },
        rates={"echoes/s": Spread(81_234.0, 79_000.0, 84_000.0, 3)},
        values={"RSS an idle connection (KB)": Spread(2.5, 2.5, 2.5, 1)},
        latency_us={"send to delivery": summary()},
        counts={"deliveries": 1_200_000, "missing": 0},
        series={"RSS (MiB), run 1": [(0.0, 80.0), (0.5, 80.5)]},
    )
    floor = PeerResult("floor", cpu_us={"server per delivery, one": Spread(1.9, 1.8, 2.0, 3)})
    absent = PeerResult("ws", missing="Node is not installed")
    return Result(
        scenario=scenario,
        at="2026-11-21T21:00:00Z",
        quick=quick,
        machine=Machine(2, 24.0, "6.18.44", "3.11.7", None, 0.1),
        parameters={"subscribers": 1000, "rate": 2.0, "label": "x", "on": True},
        peers=[floor, ours, absent],
        targets=[at_most("CPU a delivery", 1.5, 1.26, "x floor"), at_least("sends", 25_000, 20_000, "sends/s")],
        notes=["A note | with a bar."],
        took_s=12.5,
    )
