"""What a client's message costs a node, before and after: ``python -m bench.inbound_cost [--against REV] [--json FILE]``.

CPU a frame, by kind of frame, from where the shard has read it to where its answer is ready and its entry in a lane: no
socket, no commit, no delivery. Compared are the sources as they are without quotas, the same with every quota set, and
those of another revision, each in a process of its own; the processes take rounds by turns, so that a machine that slows
down slows all of them, and a difference is the median of the differences within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
WORKER: Final = Path(__file__).with_name("inbound_worker.py")
ADDED_MAX_US: Final = 3.0
"""What authorization and quotas together may add to a frame."""

Round = Mapping[str, float]
"""Microseconds a frame, by kind."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one kind of frame in one variant, in microseconds: the middle half of its rounds, and what it has beyond the
    first variant."""

    kind: str
    variant: str
    median_us: float
    low_us: float
    high_us: float
    added_us: float
    added_low_us: float
    added_high_us: float


def middle(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, and the quartiles around it."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, mid, high = statistics.quantiles(values, n=4, method="inclusive")
    return mid, low, high


def costs(rounds: Mapping[str, Sequence[Round]]) -> list[Cost]:
    """``rounds``: by variant, all of the same length. The first variant is what the others are compared with."""
    first = next(iter(rounds.values()))
    found = []
    for kind in first[0]:
        for variant, ours in rounds.items():
            added = [one[kind] - other[kind] for one, other in zip(ours, first, strict=True)]
            values = [*middle([one[kind] for one in ours]), *middle(added)]
            found.append(Cost(kind, variant, *(round(value, 2) for value in values)))
    return found


@contextlib.contextmanager
def sources_of(revision: str) -> Iterator[Path]:
    """The files of a revision in a folder of their own."""
    packed = subprocess.run(
        ["git", "archive", revision, "core", "gateway", "store"], cwd=ROOT, check=True, stdout=subprocess.PIPE
    ).stdout
    with tempfile.TemporaryDirectory(prefix="readback-inbound-") as name:
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(name, filter="data")
        yield Path(name)


class Running:
    """A worker's process."""

    def __init__(self, tree: Path, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), *options],
            env={"PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a worker ended; what it said is above")
        return line

    def round(self, frames: int) -> Round:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{frames}\n")
        self._process.stdin.flush()
        answer: Round = json.loads(self._line())
        return answer

    def stop(self) -> None:
        with self._process as process:  # closes the pipes, and waits
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def compare(against: str | None, rounds: int, frames: int, *, quotas: bool = True) -> dict[str, list[Round]]:
    """By variant, every round. One round before them is thrown away."""
    with contextlib.ExitStack() as stack:
        workers: dict[str, Running] = {}
        if against is not None:
            workers[f"before ({against})"] = Running(stack.enter_context(sources_of(against)))
        workers["now, no quotas"] = Running(ROOT)
        if quotas:
            workers["now, all quotas"] = Running(ROOT, "--quotas")
        for worker in workers.values():
            stack.callback(worker.stop)
            worker.round(frames)
        found: dict[str, list[Round]] = {name: [] for name in workers}
        order = list(workers)
        for _ in range(rounds):
            for name in order:
                found[name].append(workers[name].round(frames))
            order.append(order.pop(0))  # nobody is always first
        return found


def table(found: Sequence[Cost]) -> str:
    lines = [f"{'frame':<18} {'variant':<24} {'us':>7} {'(middle half)':>16} {'added':>7} {'(middle half)':>16}"]
    for one in found:
        spread, more = f"{one.low_us:.2f} to {one.high_us:.2f}", f"{one.added_low_us:+.2f} to {one.added_high_us:+.2f}"
        lines.append(
            f"{one.kind:<18} {one.variant:<24} {one.median_us:7.2f} {spread:>16} {one.added_us:+7.2f} {more:>16}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.inbound_cost", description=__doc__)
    parser.add_argument("--against", metavar="REV", help="a revision of this repository to compare with")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--frames", type=int, default=2_048, help="of each kind in a round")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args(arguments)
    against = options.against
    if against is not None:
        against = subprocess.run(
            ["git", "rev-parse", "--short", f"{against}^{{commit}}"], cwd=ROOT, check=True, stdout=subprocess.PIPE
        ).stdout.decode()
        against = against.strip()
    found = costs(compare(against, max(options.rounds, 1), max(options.frames, 1)))
    print(table(found))
    if against is not None:
        worst = max(found, key=lambda one: one.added_us)
        met = "met" if worst.added_us <= ADDED_MAX_US else "missed"
        print(f"at most {worst.added_us:+.2f} us, {worst.kind}, {worst.variant}; {ADDED_MAX_US:g} us: {met}")
    if options.json is not None:
        document = {
            "command": f"python -m bench.inbound_cost{f' --against {against}' if against else ''}",
            "at": datetime.now(UTC).strftime("%Y-%m-%d"),
            "python": platform.python_version(),
            "rounds": options.rounds,
            "frames": options.frames,
            "costs": [asdict(one) for one in found],
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
