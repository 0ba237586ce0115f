"""Runs the Autobahn suite (PyPI ``autobahntestsuite``, Python 2.7) against echo servers and counts its verdicts.

``python -m tests.conformance.autobahn`` runs it against Readback's codec; ``--server NAME`` (may be repeated) against
others as well; ``--json FILE`` writes the counts; ``--table`` runs nothing and prints the counts of docs/data/autobahn.json
as the table of docs/robustness.md. The exit status is 0 where the first server failed no case and was
non-strict in at most 5.

The suite is fetched once into ``.venv/autobahn`` by the pip of a Python 2.7 found on PATH or among pyenv's versions.
Where there is none, or the packages cannot be had, `Unavailable` says why: that is no verdict on the codec.

"Core" is what others publish: the 247 cases left without 9.* (speed and size), 12.* and 13.* (compression, which no
server here offers). The 54 cases of 9.* are run too and counted apart, with the time that they took.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import hashlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).with_name("autobahn-requirements.txt")
HOME = ROOT / ".venv" / "autobahn"

RESULTS = ROOT / "docs" / "data" / "autobahn.json"
BEGIN, END = "<!-- autobahn:begin -->", "<!-- autobahn:end -->"
"""Between these, in docs/robustness.md, stands what `table` gives."""

CORE_CASES = 247
PERFORMANCE_CASES = 54
NON_STRICT_MAX = 5

SERVERS: dict[str, list[str]] = {
    "readback": ["tests.conformance.echo_server"],
    "trio-websocket": ["tests.conformance.peer_servers", "trio-websocket"],
    "websockets": ["tests.conformance.peer_servers", "websockets"],
}

_FINE = ("OK", "NON-STRICT", "INFORMATIONAL")
_INSTALL_TIMEOUT_S = 300
_SUITE_TIMEOUT_S = 480
_START_TIMEOUT_S = 20

# addsitedir rather than PYTHONPATH: zope.interface is a namespace package by way of a .pth file.
_WSTEST = (
    "import site, sys; site.addsitedir(sys.argv.pop(1)); from autobahntestsuite.wstest import run; sys.exit(run())"
)


class Unavailable(Exception):
    """The suite cannot be run here; the text says what is missing."""


def find_python27() -> str:
    """A Python 2.7 that starts. A pyenv shim for a version that is not selected does not."""
    candidates = [
        shutil.which("python2.7"),
        *sorted(glob.glob(str(Path.home() / ".pyenv/versions/2.7*/bin/python2.7"))),
    ]
    for candidate in filter(None, candidates):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            tried = subprocess.run([candidate, "-c", "import ssl"], capture_output=True, timeout=20, check=False)
            if tried.returncode == 0:
                return candidate
    raise Unavailable(
        "no Python 2.7 with ssl on PATH or under ~/.pyenv/versions: the Autobahn suite runs on nothing newer"
    )


def install(python: str) -> None:
    """Put the pinned suite into `HOME`, unless the same one is there."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    ready = HOME / ".ready"
    if ready.is_file() and ready.read_text() == wanted:
        return
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.parent.mkdir(exist_ok=True)
    command = [python, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*command, "--target", str(HOME), "-r", str(REQUIREMENTS)],
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT_S,
            check=False,
            env=_environment(),
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"pip did not fetch the Autobahn suite within {_INSTALL_TIMEOUT_S} s")
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line]
        raise Unavailable(f"pip could not fetch the Autobahn suite: {(errors or ['no error given'])[-1].strip()}")
    ready.write_text(wanted)


def _environment() -> dict[str, str]:
    """Ours without what is meant for our own Python."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


@contextlib.contextmanager
def serving(name: str) -> Iterator[int]:
    """One of `SERVERS` in a process of its own: yields its port."""
    process = subprocess.Popen([sys.executable, "-m", *SERVERS[name]], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], _START_TIMEOUT_S)[0]:
            raise RuntimeError(f"the {name} server did not start within {_START_TIMEOUT_S} s")
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def run(name: str, on_case: Callable[[str], None] = lambda case: None) -> dict[str, dict[str, Any]]:
    """The suite's index for one server: by case, ``behavior``, ``behaviorClose`` and ``duration`` (ms)."""
    python = find_python27()
    install(python)
    with tempfile.TemporaryDirectory() as folder, serving(name) as port:
        spec = Path(folder) / "spec.json"
        target = {"agent": name, "url": f"ws://127.0.0.1:{port}/v1/ws"}
        spec.write_text(
            json.dumps(
                {
                    "outdir": folder,
                    "servers": [target],
                    "cases": ["*"],
                    "exclude-cases": ["12.*", "13.*"],
                    "exclude-agent-cases": {},
                }
            )
        )
        suite = subprocess.Popen(
            [python, "-u", "-c", _WSTEST, str(HOME), "-m", "fuzzingclient", "-s", str(spec)],
            cwd=folder,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + _SUITE_TIMEOUT_S
        last = ""
        try:
            assert suite.stdout is not None
            while select.select([suite.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                line = suite.stdout.readline()
                if not line:
                    break
                last = line.strip() or last
                if line.startswith("Running test case ID "):
                    on_case(line.split()[4])
            else:
                raise RuntimeError(f"the suite was not through within {_SUITE_TIMEOUT_S} s; it was at: {last}")
        finally:
            if suite.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    suite.wait(5)
            if suite.poll() is None:
                suite.kill()
                suite.wait()
            assert suite.stdout is not None
            suite.stdout.close()
        index = Path(folder) / "index.json"
        if not index.is_file():
            raise Unavailable(f"the Autobahn suite did not run: {last}")
        cases: dict[str, dict[str, Any]] = json.loads(index.read_text())[name]
        return cases


def summary(name: str, cases: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Counts fit for publication; every case that is not plainly OK is named."""

    def count(chosen: list[str]) -> dict[str, Any]:
        verdicts = Counter(_verdict(cases[case]) for case in chosen)
        return {
            "cases": len(chosen),
            "ok": verdicts["OK"],
            "non_strict": verdicts["NON-STRICT"],
            "informational": verdicts["INFORMATIONAL"],
            "failed": len(chosen) - sum(verdicts[fine] for fine in _FINE),
        }

    performance = [case for case in cases if case.startswith("9.")]
    return {
        "server": name,
        "version": "this commit" if name == "readback" else version(name),
        "core": count([case for case in cases if not case.startswith("9.")]),
        "performance": {
            **count(performance),
            "seconds": round(sum(cases[c]["duration"] for c in performance) / 1000, 1),
        },
        "notable": {
            case: v for case, result in cases.items() if (v := _verdict(result)) not in ("OK", "INFORMATIONAL")
        },
    }


def _verdict(result: dict[str, Any]) -> str:
    """A case is as good as the worse of what was said and how the connection ended."""
    for key in ("behavior", "behaviorClose"):
        if result[key] not in _FINE:
            return str(result[key])
    return str(result["behavior"])


def table(results: dict[str, Any]) -> str:
    """The counts as Markdown, one implementation a line; cases that are not plainly OK are named below."""
    lines = ["| implementation | OK | non-strict | informational | failed |", "| --- | ---: | ---: | ---: | ---: |"]
    notes = []
    for result in results["servers"]:
        core, named = result["core"], result["server"]
        if named != "readback":
            named = f"{named} {result['version']}"
        counts = [core[column] for column in ("ok", "non_strict", "informational", "failed")]
        lines.append(f"| {named} | {' | '.join(map(str, counts))} |")
        by_verdict: dict[str, list[str]] = {}
        for case, verdict in result["notable"].items():
            by_verdict.setdefault(verdict.lower(), []).append(case)
        notes += [f"{named}, {verdict}: {', '.join(cases)}." for verdict, cases in by_verdict.items()]
    suite = (
        f"Core cases ({CORE_CASES}) of {results['suite']} {results['version']}; `python -m tests.conformance.autobahn`."
    )
    return "\n".join([*lines, "", textwrap.fill(" ".join([suite, *notes]), 120, break_on_hyphens=False)])


def table_in(page: str) -> str | None:
    """The table that a page has between its two marks; ``None`` where it has no marks."""
    if BEGIN not in page or END not in page:
        return None
    return page.partition(BEGIN)[2].partition(END)[0].strip("\n")


def passes(counts: dict[str, Any]) -> bool:
    """Whether every core case was run, none failed and few were non-strict; 9.* must not fail either."""
    core: dict[str, int] = counts["core"]
    ran = core["cases"] == CORE_CASES and counts["performance"]["cases"] == PERFORMANCE_CASES
    failed = core["failed"] + int(counts["performance"]["failed"])
    return ran and failed == 0 and core["non_strict"] <= NON_STRICT_MAX


def main() -> int:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table as Shown

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--server", action="append", choices=SERVERS, help="may be repeated; readback unless given")
    parser.add_argument("--json", type=Path, help="write the counts to this file")
    parser.add_argument("--table", action="store_true", help="run nothing; print the table for docs/robustness.md")
    options = parser.parse_args()
    if options.table:
        print(f"{BEGIN}\n{table(json.loads(RESULTS.read_text()))}\n{END}")
        return 0
    results = []
    try:
        with Progress(console=Console(stderr=True)) as progress:
            for name in options.server or ["readback"]:
                bar = progress.add_task(name, total=CORE_CASES + PERFORMANCE_CASES)
                results.append(summary(name, run(name, lambda case, bar=bar: progress.advance(bar))))  # type: ignore[misc]
    except Unavailable as missing:
        print(f"not run: {missing}", file=sys.stderr)
        return 2
    shown = Shown("core cases of", "OK", "non-strict", "info", "failed", "9.* failed", "9.* s")
    for result in results:
        core, speed = result["core"], result["performance"]
        row = [core["ok"], core["non_strict"], core["informational"], core["failed"], speed["failed"], speed["seconds"]]
        shown.add_row(f"{result['server']} ({result['version']})", *map(str, row))
        for case, verdict in result["notable"].items():
            print(f"{result['server']}: case {case} {verdict}", file=sys.stderr)
    Console().print(shown)
    if options.json:
        suite = {"suite": "autobahntestsuite", "version": _suite_version(), "servers": results}
        options.json.write_text(json.dumps(suite, indent=2) + "\n")
    return 0 if passes(results[0]) else 1


def _suite_version() -> str:
    for line in REQUIREMENTS.read_text().splitlines():
        if line.startswith("autobahntestsuite=="):
            return line.partition("==")[2]
    raise AssertionError("autobahntestsuite is not pinned")


if __name__ == "__main__":
    sys.exit(main())
