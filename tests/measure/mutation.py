"""``python -m tests.measure.mutation [--write] [--keep FOLDER] [TARGET ...]``: how many planted errors the tests find.

mutmut plants one error at a time (another comparison, another number, an argument left out, …) in a copy of the tree and
runs the tests that come by; an error that no test notices survives. `TARGETS` says which tests a module answers to. What
was looked at and changes nothing that anybody could notice is in `tests.measure.equivalent`, each with its reason.

``--write`` makes docs/data/mutation.json, ``--keep`` leaves the copy for a look with ``mutmut show``. Exits with 1 where a
target's score, over the mutants that are not equivalent, is below `SCORE_MIN`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import date
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from tests.measure.equivalent import EQUIVALENT
from tests.measure.own import ROOT, tests_of

DATA: Final = ROOT / "docs/data/mutation.json"
COMMAND: Final = "python -m tests.measure.mutation --write"
SCORE_MIN: Final = 90.0
PROGRAMS: Final = "200"
"""Random programs for the hub, of 3,000 in an ordinary run."""

SURVIVED: Final = (0, 33)
"""Exit codes of mutmut's workers: no test failed, and no test comes by."""
TIMED_OUT: Final = (36, 24, 152, 255, -24)

HUB: Final = (*tests_of("hub"),)
HALVES: Final = (*tests_of("outbox"), *tests_of("replay"), *tests_of("turns"), *HUB)
RESUMES: Final = (
    "tests/unit/gateway/test_opening.py",
    "tests/unit/gateway/test_sessions.py",
    "tests/e2e/test_sessions.py",
    "tests/e2e/test_cluster_sessions.py",
)
DECISIONS: Final = (
    *("resume", "parse_position", "start", "_parse_streams", "_position_of", "_cursor_of", "_epoch_of"),
    *("_begin", "_open", "_unknown", "_prepare", "_check", "_welcome"),
)
"""Of gateway/opening.py what decides about a resume and its cursors; identities, the door and the weights are others'."""


@dataclass(frozen=True, slots=True)
class Target:
    source: str
    tests: tuple[str, ...]
    only: tuple[str, ...] = ()
    """Which functions, as mutmut names them, where not all of the file are meant."""
    without: tuple[str, ...] = ()
    """Tests that take long and find what others find too."""


TARGETS: Final = {
    "hub": Target("core/hub.py", HALVES, without=("test_interleavings_that_shrink",)),
    "turns": Target("core/turns.py", HALVES, without=("test_interleavings_that_shrink",)),
    "replay": Target("core/replay.py", HALVES, without=("test_interleavings_that_shrink",)),
    "outbox": Target("core/outbox.py", HALVES, without=("test_interleavings_that_shrink",)),
    "frames": Target(
        "core/frames.py",
        (*tests_of("frames"),),
        without=("test_a_million_empty_fragments_hold_nothing", "test_dribbled_bytes_are_each_handled_once"),
    ),
    "session": Target("core/session.py", (*tests_of("session"),)),
    "resume tokens": Target(
        "core/tokens.py",
        (*tests_of("tokens"),),
        only=("*ǁResumeKeysǁ*", "core.tokens.x__mac__mutmut_*", "core.tokens.x__check_ring__mutmut_*"),
    ),
    "opening": Target(
        "gateway/opening.py",
        RESUMES,
        only=tuple(f"gateway.opening.x_{name}__mutmut_*" for name in DECISIONS),
        without=("test_a_drain_gives_everyone_a_slot_and_loses_no_send",),
    ),
    "sessions": Target(
        "gateway/sessions.py", ("tests/unit/gateway/test_sessions.py", "tests/e2e/test_cluster_sessions.py")
    ),
}


@dataclass
class Score:
    source: str
    killed: int = 0
    timeout: int = 0
    survived: list[dict[str, str]] = field(default_factory=list)
    equivalent: list[dict[str, str]] = field(default_factory=list)

    @property
    def found(self) -> int:
        return self.killed + self.timeout

    @property
    def mutants(self) -> int:
        return self.found + len(self.survived) + len(self.equivalent)

    @property
    def raw(self) -> float:
        return 100 * self.found / self.mutants

    @property
    def score(self) -> float:
        return 100 * self.found / (self.mutants - len(self.equivalent))


def configure(copy: Path, target: Target) -> None:
    """mutmut's settings stand in the copy's pyproject.toml, those of the target before taken out."""
    package = target.source.split("/")[0]
    path = copy / "pyproject.toml"
    kept = path.read_text().split("\n[tool.mutmut]\n")[0]
    settings = {
        "source_paths": [package],
        "only_mutate": [target.source],
        "also_copy": [name for name in ("core", "store", "gateway", "bench", "proof", "clients") if name != package],
        "pytest_add_cli_args_test_selection": list(target.tests),
        "pytest_add_cli_args": ["-k", " and ".join(f"not {name}" for name in target.without)] if target.without else [],
        "timeout_multiplier": 3.0,
        "timeout_constant": 0.5,
        "track_dependencies": False,
        "use_git_change_detection": False,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    path.write_text("\n".join((kept, "[tool.mutmut]", *lines, "")))


def run(copy: Path, target: Target, children: int) -> Score:
    shutil.rmtree(copy / "mutants", ignore_errors=True)
    configure(copy, target)
    environment = {**os.environ, "READBACK_TEST_PROGRAMS": PROGRAMS, "PYTHONDONTWRITEBYTECODE": "1"}
    mutmut = Path(sys.executable).with_name("mutmut")
    command = [str(mutmut), "run", "--max-children", str(children), *target.only]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"mutmut could not run:\n{done.stdout[-4_000:]}\n{done.stderr[-4_000:]}")
    codes: dict[str, int | None] = json.loads((copy / "mutants" / f"{target.source}.meta").read_text())[
        "exit_code_by_key"
    ]
    score = Score(target.source)
    left: list[str] = []
    for name, code in codes.items():
        if target.only and not any(fnmatch(name, pattern) for pattern in target.only):
            continue
        assert code is not None, f"{name} was not tried"
        if code in SURVIVED:
            left.append(name)
        elif code in TIMED_OUT:
            score.timeout += 1
        else:
            score.killed += 1
    for one in changes(copy, left):
        reason = EQUIVALENT.get((target.source, one["function"], one["old"], one["new"]))
        if reason is None:
            score.survived.append(one)
        else:
            score.equivalent.append({**one, "reason": reason})
    return score


def changes(copy: Path, names: list[str]) -> list[dict[str, str]]:
    """What each of these mutants changes, line by line."""
    ask = (
        "import json, sys\n"
        "from mutmut.mutation.diff_apply import find_mutant, get_diff_for_mutant\n"
        "names = json.load(sys.stdin)\n"
        "print(json.dumps([get_diff_for_mutant(name, path=find_mutant(name).path) for name in names]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", ask], cwd=copy, input=json.dumps(names), capture_output=True, text=True, check=True
    )
    found = []
    for name, diff in zip(names, json.loads(done.stdout.splitlines()[-1]), strict=True):
        lines = diff.splitlines()
        old = " ".join(_code(line) for line in lines if line.startswith("-") and not line.startswith("---"))
        new = " ".join(_code(line) for line in lines if line.startswith("+") and not line.startswith("+++"))
        function = name.rpartition(".")[2].rpartition("__mutmut_")[0].removeprefix("x_").removeprefix("xǁ")
        found.append(
            {"function": function.replace("ǁ", "."), "old": old, "new": new, "mutant": name.rpartition(".")[2]}
        )
    return found


def _code(line: str) -> str:
    """A line of a diff without its sign, its indentation and its comment."""
    return line[1:].strip().partition("  # ")[0]


def table(scores: dict[str, Score]) -> str:
    lines = [
        f"{'':15}{'mutants':>9}{'killed':>8}{'timeout':>9}{'survived':>10}{'equivalent':>12}{'raw %':>8}{'score %':>9}"
    ]
    for name, one in scores.items():
        lines.append(
            f"{name:15}{one.mutants:9}{one.killed:8}{one.timeout:9}{len(one.survived):10}{len(one.equivalent):12}"
            f"{one.raw:8.1f}{one.score:9.1f}"
        )
    return "\n".join(lines)


def record(scores: dict[str, Score]) -> dict[str, Any]:
    return {
        name: {
            "source": one.source,
            "mutants": one.mutants,
            "killed": one.killed,
            "timeout": one.timeout,
            "survived": one.survived,
            "equivalent": one.equivalent,
            "raw": round(one.raw, 1),
            "score": round(one.score, 1),
        }
        for name, one in scores.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.mutation")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--write", action="store_true", help=f"write {DATA.relative_to(ROOT)}")
    parser.add_argument("--children", type=int, default=1, help="mutants tried at once")
    parser.add_argument("--keep", type=Path, help="a folder for the copy, which stays")
    chosen = parser.parse_args()
    scores: dict[str, Score] = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = chosen.keep or Path(folder, "tree")
        away = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "*.egg-info", "docs")
        shutil.copytree(ROOT, copy, ignore=away, dirs_exist_ok=True)
        for name in chosen.targets or TARGETS:
            scores[name] = run(copy, TARGETS[name], chosen.children)
            print(table({name: scores[name]}), flush=True)
            for one in scores[name].survived:
                print(f"  {one['mutant']}\n    - {one['old']}\n    + {one['new']}", flush=True)
    print(table(scores))
    if chosen.write:
        before = json.loads(DATA.read_text())["targets"] if DATA.exists() else {}
        after = {name: {**before, **record(scores)}[name] for name in TARGETS if name in {**before, **scores}}
        kept = {
            "command": COMMAND,
            "date": date.today().isoformat(),
            "tool": f"mutmut {version('mutmut')}",
            "targets": after,
        }
        DATA.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    return 0 if all(one.score >= SCORE_MIN for one in scores.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
