"""gateway.cli_history: `readback check --history`, its table, its JSON, its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway import cli
from gateway.cli_errors import FINDINGS, USAGE
from proof.guarantees import GUARANTEES
from proof.history import Bound, Committed, End, Lent, Record, Run, write


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the developer's, and a terminal wide enough for a line of the table."""
    for name in list(os.environ):
        if name.startswith("READBACK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("READBACK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["check", *arguments])


def kept(path: Path, *records: Record) -> Path:
    write(path, [Run(0.0, "a test"), *records, End(9.0)])
    return path


GOOD = Lent(1.0, "postgres 1", "select 1", "select 1")
BAD = Bound(2.5, "n1", "rings", 65, 64)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return kept(tmp_path / "good.jsonl", GOOD)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    return kept(tmp_path / "broken.jsonl", GOOD, BAD)


def test_a_history_that_holds(good: Path) -> None:
    """Every guarantee has its line; of which nothing was seen, that is said; the end is 0."""
    result = run("--history", str(good))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    for guarantee in GUARANTEES:
        (line,) = [line for line in lines if line.strip().startswith(guarantee.name)]
        assert guarantee.promise in line
        assert line.rstrip().endswith(" 0" if guarantee.name == "No-poison" else "nothing seen")
    assert lines[-1] == f"all is well: 1 guarantees hold in 3 records, of {len(GUARANTEES) - 1} nothing was seen"


def test_a_history_that_does_not(broken: Path) -> None:
    """What was found, where, and 1 for a script."""
    result = run("--history", str(broken))
    assert result.exit_code == FINDINGS
    assert "record 3 (2.500 s) Bounded: n1: rings held 65, its limit is 64\n" in result.stdout
    assert result.stdout.endswith(f"1 findings in 4 records: 1 of {len(GUARANTEES)} guarantees are broken\n")


def test_the_first_hundred_findings_are_shown(tmp_path: Path) -> None:
    """And how many more there are."""
    result = run("--history", str(kept(tmp_path / "many.jsonl", *[BAD] * 120)))
    assert result.stdout.count("rings held 65") == 100
    assert "… and 20 more" in result.stdout
    assert "120 findings" in result.stdout


def test_a_history_that_was_cut_short(tmp_path: Path) -> None:
    """It is judged, with a word of what that is worth."""
    path = tmp_path / "cut.jsonl"
    write(path, [Run(0.0, "a test"), GOOD])
    result = run("--history", str(path))
    assert result.exit_code == 0
    assert "Mind that the history was cut short" in result.stdout


def test_several_files_are_one_history(tmp_path: Path) -> None:
    """Repeated, or as their folder: by time, with one beginning and one end."""
    first = kept(tmp_path / "a.jsonl", GOOD)
    second = kept(tmp_path / "b.jsonl", BAD)
    for arguments in (("--history", str(first), "--history", str(second)), ("--history", str(tmp_path))):
        result = run(*arguments)
        assert result.exit_code == FINDINGS
        assert "record 3 (2.500 s) Bounded" in result.stdout
        assert result.stdout.endswith(f"1 findings in 4 records: 1 of {len(GUARANTEES)} guarantees are broken\n")


def test_the_same_as_json(broken: Path, good: Path) -> None:
    """One document on stdout, with every guarantee and every finding, and the same exit code."""
    result = run("--history", str(broken), "--json")
    assert result.exit_code == FINDINGS
    document = json.loads(result.stdout)
    assert (document["records"], document["holds"], document["warnings"]) == (4, False, [])
    assert [one["guarantee"] for one in document["guarantees"]] == [guarantee.name for guarantee in GUARANTEES]
    assert {one["state"] for one in document["guarantees"]} == {"holds", "broken", "nothing seen"}
    assert document["findings"] == [
        {
            "guarantee": "Bounded",
            "record": 3,
            "t": 2.5,
            "where": "n1",
            "detail": "rings held 65, its limit is 64",
        }
    ]
    result = run("--history", str(good), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["holds"] is True


def test_what_a_history_quotes_says_nothing_to_the_terminal(tmp_path: Path) -> None:
    """Control characters of a file come out spelled, in its findings and in what is said of the file."""
    path = kept(tmp_path / "evil.jsonl", Bound(1.0, "n1\x1b[2J", "[bold]\nall is well", 2, 1))
    output = run("--history", str(path)).stdout
    assert "\x1b[2J" not in output
    assert "n1\\x1b[2J: [bold]\\nall is well held 2" in output
    path.write_text('{"k":"end","t":"\x9b2J"}\n')
    assert "\x9b" not in run("--history", str(path)).stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"root:x:0:0\n", "line 1: "),
        (b"", "has no record in it"),
        (b'{"k":"weather"}\n', "has no record in it"),
        (b'{"k":"end","t":"now"}\n{"k":"end","t":1}\n', "line 1: a record of kind end cannot have 'now' as its t"),
        (b"\x00\xff\n", "line 1: "),
    ],
)
def test_a_file_that_is_no_history(tmp_path: Path, content: bytes, said: str) -> None:
    """One sentence with the line, and 2."""
    path = tmp_path / "other"
    path.write_bytes(content)
    result = run("--history", str(path))
    assert result.exit_code == USAGE
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("readback: This is no history: ")
    assert said in line
    assert result.stdout == ""


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """It is not there, or is a folder without one."""
    path = tmp_path / "nowhere"
    result = run("--history", str(path))
    assert result.exit_code == USAGE
    assert f"The history {path} cannot be read: No such file" in result.stderr
    result = run("--history", str(tmp_path))
    assert result.exit_code == USAGE
    assert f"the folder {tmp_path} holds no file named *.jsonl" in result.stderr


def test_what_does_not_go_together(good: Path) -> None:
    """A history that says what the log holds needs no database, and the check of a log has no JSON."""
    kept(good, Committed(1.0, "demo", "chat:a", 1, "k", "user:amy"))
    url = ("--database-url", "postgresql://u@db/readback")
    for arguments, said in (
        (("--history", str(good), "--with-log", *url), "--with-log is for captures"),
        (("--history", str(good), "--with-log"), "--with-log needs the database"),
        (("--history", str(good), *url), "--history needs no database"),
        (("--with-log", *url), "is for --history"),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (USAGE, "")
        assert said in result.stderr
    result = run("--json")
    assert (result.exit_code, result.stdout) == (USAGE, "")
    assert "--history" in result.stderr


def test_no_server_is_loaded_to_judge_a_history(good: Path) -> None:
    """Neither FastAPI, asyncpg, Trio nor the client: it takes as long as the history, not as a start of the gateway."""
    code = (
        "import sys, gateway.cli\n"
        f"try: gateway.cli.app(['check', '--history', {str(good)!r}])\n"
        "except SystemExit: pass\n"
        "heavy = {'fastapi', 'asyncpg', 'trio', 'readback_client'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
