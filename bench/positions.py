"""What a fix costs: ``python -m bench.positions [--seconds S] [--watchers] [--pin]``.

A node on a Postgres of its own; devices with keys send signed messages, each connection several at a time (a closed loop: the
most that the node takes). Once with ten fixes a message, once with one. Fixes taken a second, CPU of the node and of Postgres a
fix, and how long answers took; every answer means that its samples are committed. Messages are signed before the clock starts.
``--apart`` gives the node a core of its own, and Postgres the first say on the others (`bench.apart`).

``--watchers``: a thousand devices move, each in a trip of its own, watched by twenty of a thousand connections that follow
twenty trips each, while people chat in rooms. In turns with and without the movement: how long a send took to be answered and
to be delivered. The promise is that movement adds less than a tenth to chat's p99.

Both are windows of `bench.moving`, which `bench.scenarios.arrivals` measures too.
"""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext

from bench import moving
from bench.apart import apart
from bench.load import Measured
from bench.node import Cluster, readback_cluster
from bench.stats import Histogram

SUBJECTS = 1_000
WATCHERS = 1_000
SENDS_PER_S = 200.0


def quantiles(took: Histogram) -> str:
    return "  ".join(f"p{q:g} {took.quantile(q / 100) / 1e6:6.1f} ms" for q in (50, 99))


def throughput(fixes: int, how: str, found: Measured) -> None:
    accepted, judged, node_s = found.total("accepted"), found.total("fixes"), found.cpu_s["nodes"]
    print(
        f"{fixes:3} fixes a message, {how}:  {accepted / found.seconds:8.0f} fixes/s accepted  "
        f"node {found.cpu_us('nodes', judged):5.1f} us/fix ({found.busy('nodes'):.0%} of a core: "
        f"{accepted / max(node_s, 1e-9):.0f} a core)  postgres {found.cpu_us('postgres', judged):5.1f} us/fix  "
        f"answers {quantiles(found.histogram('took'))}",
        flush=True,
    )
    _refused(found.results[0]["refused"])


def told(turn: moving.Turn) -> str:
    chat = turn.chat
    line = (
        f"{'moving ' if turn.moving else 'resting'}  chat answered {quantiles(chat.histogram('acks'))}  delivered "
        f"{quantiles(chat.histogram('deliveries'))}  node {chat.busy('nodes'):.0%}  "
        f"postgres {chat.busy('postgres'):.0%}"
    )
    if not turn.moving:
        return line
    answers = quantiles(Histogram.from_json(turn.moving["took"]))
    return f"{line}  positions told {turn.moving['told']}, in {quantiles(turn.shown())}  fixes answered {answers}"


def watched(cluster: Cluster, seconds: float, rounds: int) -> None:
    delivered = {False: Histogram(), True: Histogram()}
    with moving.watching(cluster, moving.Numbers(), SUBJECTS, WATCHERS, SENDS_PER_S, _quiet) as windows:
        for _ in range(rounds):
            for is_moving in (False, True):
                turn = windows.turn(seconds, moving=is_moving)
                delivered[is_moving].merge(turn.chat.histogram("deliveries"))
                print(told(turn), flush=True)
                if turn.moving:
                    _refused(turn.moving["refused"])
    print(f"all rounds, delivered: resting {quantiles(delivered[False])}  moving {quantiles(delivered[True])}")


def _refused(refused: dict[str, int]) -> None:
    if refused:
        print(f"    not all accepted: {refused}")


def _quiet(done: int, of: int, what: str) -> None:
    pass


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.positions", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=200, help="that send (default: %(default)s)")
    parser.add_argument(
        "--depth", type=int, default=moving.DEPTH, help="messages of each under way (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of resting and moving (default: %(default)s)")
    parser.add_argument("--watchers", action="store_true", help="measure what chat feels instead")
    parser.add_argument("--only", type=int, default=0, help="fixes a message, of this kind alone")
    parser.add_argument(
        "--apart", action="store_true", help="the node on a core of its own, Postgres first on the others"
    )
    chosen = parser.parse_args()
    with (
        readback_cluster(1, bus=False) as cluster,
        apart(cluster) if chosen.apart else nullcontext("cores are shared") as how,
    ):
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores: {how}", flush=True)
        if chosen.watchers:
            watched(cluster, chosen.seconds, chosen.rounds)
            return
        numbers, closed = moving.Numbers(), f"{chosen.connections} connections x {chosen.depth}"
        for fixes in moving.RATE_MAX:
            if chosen.only in (0, fixes):
                found = moving.taken(
                    cluster, numbers, fixes, chosen.connections, chosen.seconds, _quiet, depth=chosen.depth
                )
                throughput(fixes, closed, found)


if __name__ == "__main__":
    main()
