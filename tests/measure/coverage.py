"""``python -m tests.measure.coverage [--write] [MODULE ...]``: each module of core under its own tests alone.

Every module is measured in a process of its own, so that nothing is covered because another module's tests came by.
Exits with 1 unless lines and branches of all are at 100 %. What does not count is in ``[tool.coverage]`` of
pyproject.toml: bodies of protocols, and imports for types.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import coverage
import hypothesis  # noqa: F401  imported here, as the next three are, so that the processes need not do it each
import jwt  # noqa: F401
import pytest
import pytest_trio  # noqa: F401
import trio  # noqa: F401

from tests.measure.own import CORE, ROOT, TOO_LONG_TO_TRACE, tests_of

DATA: Final = ROOT / "docs/data/coverage.json"
COMMAND: Final = "python -m tests.measure.coverage --write"


@dataclass(frozen=True, slots=True)
class Measured:
    module: str
    tests: int
    statements: int
    branches: int
    percent: float
    missing: str
    """Lines and branches not reached."""
    failed: str
    """What pytest said where a test failed."""


class Count:
    """Counts the tests of a run."""

    def __init__(self) -> None:
        self.passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed += report.when == "call" and report.passed


def measure(module: str) -> Measured:
    files, source, count, said = tests_of(module), f"core/{module}.py", Count(), io.StringIO()
    early = "-Wignore::pytest.PytestAssertRewriteWarning"  # of what was imported before pytest could rewrite it
    arguments = [early, *files, *(f"--deselect={test}" for test in TOO_LONG_TO_TRACE)]
    cover = coverage.Coverage(branch=True, include=[source], data_file=None)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        cover.start()
        status = pytest.main(arguments, plugins=[count]) if files else 5
        cover.stop()
    if status != 0:
        return Measured(module, count.passed, 0, 0, 0.0, "", said.getvalue() or "no tests of its own")
    with tempfile.TemporaryDirectory() as folder:
        cover.json_report(outfile=f"{folder}/report.json")
        report = json.loads(Path(folder, "report.json").read_text())["files"][source]
    summary = report["summary"]
    missing = [str(line) for line in report["missing_lines"]]
    missing += [f"{start}->{'exit' if end < 0 else end}" for start, end in report["missing_branches"]]
    percent = summary["percent_covered"]
    return Measured(
        module, count.passed, summary["num_statements"], summary["num_branches"], percent, ", ".join(missing), ""
    )


def table(measured: list[Measured]) -> str:
    lines = [f"{'module':20}{'tests':>7}{'statements':>12}{'branches':>10}{'%':>8}"]
    for one in measured:
        lines.append(
            f"{one.module:20}{one.tests:7}{one.statements:12}{one.branches:10}{one.percent:8.1f}  {one.missing}"
        )
    return "\n".join(line.rstrip() for line in lines)


def record(measured: list[Measured]) -> str:
    rows = {
        f"core/{one.module}.py": {
            "tests": one.tests,
            "statements": one.statements,
            "branches": one.branches,
            "percent": one.percent,
        }
        for one in measured
    }
    return json.dumps({"command": COMMAND, "modules": rows}, indent=2) + "\n"


def main(arguments: list[str]) -> int:
    modules = [argument for argument in arguments if argument != "--write"] or list(CORE)
    os.chdir(ROOT)
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as processes:
        measured = processes.map(measure, modules, chunksize=1)
    print(table(measured))
    for one in measured:
        if one.failed:
            print(f"\n{one.module}: the tests did not pass\n{one.failed[-2_000:]}")
    if "--write" in arguments:
        DATA.write_text(record(measured))
    return 0 if all(one.percent == 100.0 for one in measured) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
