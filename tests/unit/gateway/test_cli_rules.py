"""`readback rules`: files checked, rules tried on a file and on a log, what is said and what it ends with."""

from __future__ import annotations

import io
import itertools
import json
import os
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
from rich.console import Console
from typer.testing import CliRunner

from core.model import Decided, Entry, Outcome
from core.ports import Log
from core.rules.dry_run import DryRun
from core.rules.model import globs
from gateway import cli, rules_tools
from gateway.cli_errors import DONE, FINDINGS, USAGE
from store.memory import MemoryLog
from store.postgres import open_postgres_log
from tests.ruling import START, ms, one, rules
from tests.servers import Database, database, fresh_database, postgres_server  # noqa: F401

WAIT = 'absent = { after = "flight.boarding", no = "flight.milestone", within = "10m" }'
ABSENT = one(f"{WAIT}\nunless = \"flight.status == 'new'\"")
NOTIFY = '[[rule.do]]\nnotify = { to = ["user:bob"], text = "said" }'
TALK = one('event = "message"', head='streams = "chat:*"', do=NOTIFY).replace('"r"', '"talk"')
PLANNED = {
    "flight": "QX12",
    "from": "SYD",
    "to": "MEL",
    "out": "2026-11-21T06:30:00.000Z",
    "in": "2026-11-21T08:00:00.000Z",
}


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the developer's, a data folder of the test's own, a terminal wide enough for the table."""
    for name in list(os.environ):
        if name.startswith("READBACK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("READBACK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli.app, ["rules", *map(str, arguments)])


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def event(seq: object, type: str, body: object = None, **more: Any) -> str:
    told = {"tenant": "demo", "stream": "flight:QX12", "seq": seq, "type": type, "by": "user:amy", "at": START}
    return json.dumps({**told, "body": {} if body is None else body, **more}) + "\n"


@pytest.fixture
def absent(tmp_path: Path) -> Path:
    return written(tmp_path / "absent.toml", ABSENT)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Boarding, of two flights side by side, one of which leaves within the time."""
    at = {"at": "2026-11-21T06:20:00.000Z"}
    lines = [
        event(1, "flight.scheduled", PLANNED),
        event(1, "flight.scheduled", PLANNED, stream="flight:QX13"),
        event(2, "flight.boarding", at),
        "\n",
        event(2, "flight.boarding", at, stream="flight:QX13"),
        event(3, "flight.milestone", {"milestone": "OUT", "kind": "actual", **at}, at="2026-11-21T06:05:00.000Z"),
        event(3, "message", {"text": "hello"}, stream="flight:QX13", at="2026-11-21T06:30:00.000Z"),
        event(1, "flight.boarding", at, tenant="other"),
    ]
    return written(tmp_path / "history.jsonl", "".join(lines))


@pytest.mark.parametrize("command", ["check", "test"])
def test_help_has_examples(command: str) -> None:
    """Every command explains itself, with something to paste."""
    result = run(command, "--help")
    assert result.exit_code == DONE
    assert f"readback rules {command}" in result.output


def test_good_rules_are_said_to_be(absent: Path, tmp_path: Path) -> None:
    """How many in how many files."""
    result = run("check", absent)
    assert (result.exit_code, result.stdout) == (DONE, "all is well: 1 rule in 1 file\n")
    result = run("check", absent, written(tmp_path / "talk.toml", TALK))
    assert result.stdout == "all is well: 2 rules in 2 files\n"
    shown = json.loads(run("check", absent, "--json").stdout)
    assert shown == {"rules": [{"id": "r", "version": "1", "file": str(absent), "line": 1}], "problems": []}


def test_each_mistake_is_a_line(tmp_path: Path) -> None:
    """With the file and the line; the end is that something was found."""
    bad = written(tmp_path / "bad.toml", one('event = "x"\nwhere = "evnt.y"', head='severity = "mild"'))
    result = run("check", bad)
    assert result.exit_code == FINDINGS
    severity, where = result.stdout.splitlines()
    assert severity == f"{bad}:5: rule r: severity: is one of info, warning, critical, not 'mild'"
    assert where.startswith(
        f"{bad}:8: rule r: when.where: column 1: there is no evnt; an expression looks at event, flight"
    )
    shown = json.loads(run("check", bad, "--json").stdout)
    assert [problem["field"] for problem in shown["problems"]] == ["severity", "when.where"]
    assert shown["rules"] == []


def test_commands_that_there_are_not_are_found(tmp_path: Path) -> None:
    """The machines say which there are."""
    text = one('event = "x"', do='[[rule.do]]\ncommand.type = "dely"')
    assert "no machine takes the command dely" in run("check", written(tmp_path / "f.toml", text)).stdout


def test_rules_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    """A file that is not there, or is no text."""
    result = run("check", tmp_path / "none.toml")
    assert result.exit_code == USAGE
    assert "none.toml cannot be read: No such file" in result.stderr
    (tmp_path / "raw.toml").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in run("check", tmp_path / "raw.toml").stderr


def test_rules_are_tried_on_a_file(absent: Path, history: Path) -> None:
    """What would have been done, when and where; until the last event."""
    result = run("test", absent, "--history", history)
    assert result.exit_code == DONE, result.stderr
    assert "  2026-11-21T06:10:00.000Z  flight:QX13  fired: message → flight:QX13 said" in result.stdout
    assert "1 rule over 7 events in 3 streams from 2026-11-21T06:00:00.000Z" in result.stdout
    assert "fired 1 times" in result.stdout
    shown = json.loads(run("test", absent, "--history", history, "--json").stdout)
    assert [shown["rules"][0][name] for name in ("fired", "held", "waiting")] == [1, 1, 0]
    assert shown["rules"][0]["first"][0]["actions"][0]["kind"] == "message"


def test_a_part_of_a_history(absent: Path, history: Path) -> None:
    """By tenant, stream and time."""

    def streams(*options: str) -> Any:
        return json.loads(run("test", absent, "--history", history, "--json", *options).stdout)

    assert streams("--tenant", "demo")["streams"] == 2
    assert streams("--stream", "flight:*13")["streams"] == 1
    assert streams("--until", "2026-11-21T06:09:00Z")["rules"][0]["waiting"] == 1
    assert streams("--since", "2026-11-22")["rules"][0]["fired"] == 0
    assert streams("--first", "0")["rules"][0]["first"] == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("hello", "h.jsonl:1: this is no event"),
        ("[1]", "this is no event"),
        (event(0, "x"), "`seq` is the event's number"),
        (event(True, "x"), "`seq` is the event's number"),
        (event(1, "X"), "`type` is not one: 'X'"),
        (event(1, "x", stream="QX12"), "`stream` is not one"),
        (event(1, "x", tenant="A B"), "`tenant` is not one"),
        (event(1, "x", by="amy"), "`by` is not one"),
        (event(1, "x", at="now"), "`at` is no RFC 3339 time"),
        (event(1, "x", []), "`body` is an object"),
        (event(2, "x") + event(2, "x"), "h.jsonl:2: seq 2 of flight:QX12 comes after 2"),
    ],
)
def test_a_line_that_is_no_event_is_named(absent: Path, tmp_path: Path, line: str, says: str) -> None:
    """With its number."""
    result = run("test", absent, "--history", written(tmp_path / "h.jsonl", line))
    assert result.exit_code == USAGE
    assert says in result.stderr


def test_a_history_of_one_tenant_need_not_name_it(absent: Path, tmp_path: Path) -> None:
    """--tenant says whose it is."""
    line = event(1, "x").replace('"tenant": "demo", ', "")
    shown = run("test", absent, "--history", written(tmp_path / "h.jsonl", line), "--tenant", "acme", "--json")
    assert json.loads(shown.stdout)["streams"] == 1


def test_what_cannot_be_tried_is_said(absent: Path, history: Path, tmp_path: Path) -> None:
    """Broken rules, times that are none, a history that is not there, two places at once."""
    bad = written(tmp_path / "bad.toml", one('event = "x"', head='severity = "mild"'))
    result = run("test", bad, "--history", history)
    assert result.exit_code == USAGE
    assert "severity: is one of" in result.stderr
    assert "1 problem in these rules" in result.stderr
    for options, says in (
        (("--since", "yesterday"), "--since is no RFC 3339 time"),
        (("--since", "2026-12-01", "--until", "2026-11-01"), "--until is before --since"),
        (("--database-url", "postgresql://x/y"), "--history needs no database"),
    ):
        result = run("test", absent, "--history", history, *options)
        assert result.exit_code == USAGE
        assert says in result.stderr.lower() or says.lower() in result.stderr.lower()
    assert "cannot be read: No such file" in run("test", absent, "--history", tmp_path / "none.jsonl").stderr


def test_a_rule_that_fails_is_a_finding(history: Path, tmp_path: Path) -> None:
    """Each error once, the first in its place."""
    do = """
[[rule.do]]
command = { type = "delay", body = { reasons = "${event.body.reasons}" } }
[[rule.do]]
webhook.url = "https://ops.example/x"
"""
    text = one('event = "*"\nwhere = "event.type == \'flight.boarding\' ? event.body.x : true"', do=do)
    path = written(tmp_path / "f.toml", text.replace("${event.body.reasons}", "${event.type}"))
    result = run("test", path, "--history", history, "--first", "1")
    assert result.exit_code == FINDINGS
    assert "fired: command delay flight:QX12" in result.stdout
    assert "webhook https://ops.example/x {" in result.stdout
    assert '  and "event.type' in result.stdout
    assert "there is no field x" in run("test", path, "--history", history).stdout


def test_a_history_says_nothing_to_the_terminal(tmp_path: Path) -> None:
    """Whatever is in its texts."""
    path = written(tmp_path / "talk.toml", one('event = "x"', do='[[rule.do]]\nmessage.text = "${event.body.text}"'))
    told = written(tmp_path / "h.jsonl", event(1, "x", {"text": "\x1b[2Jgone" + "x" * 200}))
    result = run("test", path, "--history", told)
    assert "\x1b" not in result.stdout
    assert "\\x1b[2Jgone" in result.stdout
    assert "…" in result.stdout


def test_a_stream_that_was_left_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose timers never end."""
    monkeypatch.setattr("core.rules.dry_run.TIMERS_MAX", 3)
    text = one('schedule = { cron = "* * * * *", zone = "UTC" }', head='streams = "flight:QX12"')
    told = written(tmp_path / "h.jsonl", event(1, "x") + event(2, "x", at="2026-11-21T07:00:00Z"))
    assert (
        "flight:QX12 has more timers than are simulated"
        in run("test", written(tmp_path / "f.toml", text), "--history", told).stdout
    )


async def fill(log: Log) -> None:
    """A chat, two flights of two tenants, a stream no rule is for. All are of now, by the log's own clock."""
    keys = (str(uuid.UUID(int=n)) for n in itertools.count(1))

    async def command(tenant: str, sid: int, state: int, type: str, body: dict[str, Any]) -> int:
        key = next(keys)
        decided = Decided(tenant, sid, key, type, "user:amy", state, [(key, type, orjson.dumps(body))], privileged=True)
        (judged,) = await log.command([decided])
        assert judged.outcome == Outcome.OK
        return judged.seq

    for tenant in ("demo", "other"):
        facts = await log.create_stream(tenant, "flight:QX12", open=True, members=[], by="user:amy")
        seq = await command(tenant, facts.sid, 0, "flight.scheduled", PLANNED)
        await command(tenant, facts.sid, seq, "flight.boarding", {"at": "2026-11-21T06:20:00.000Z"})
    for name in ("chat:ops", "trip:T1"):
        facts = await log.create_stream("demo", name, open=True, members=[], by="user:amy")
        entries = [
            Entry("demo", facts.sid, next(keys), "message", "user:amy", b'{"text":"hi"}', privileged=True)
            for _ in range(5)
        ]
        await log.append(entries)
        if name == "chat:ops":
            await log.trim("demo", name, 3)


async def test_rules_are_tried_on_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stream that a rule is for, page by page, whatever else there is; what is waited for is until now."""
    monkeypatch.setattr(rules_tools, "PAGE", 2)
    at = ms(START)
    log = MemoryLog(now_ms=lambda: at, new_key=lambda: str(uuid.UUID(int=1 << 100)))
    await fill(log)
    run = DryRun(rules(ABSENT, TALK))
    console = Console(file=io.StringIO(), force_terminal=True)
    await rules_tools.fold_log(log, run, None, globs(["*"]), at + 600_000, console)
    assert run.report.streams == 3
    assert run.report.rules["r"].streams == {("demo", "flight:QX12"), ("other", "flight:QX12")}
    assert run.report.rules["talk"].verdicts["fired"] == 3
    one_tenant = DryRun(rules(ABSENT, TALK))
    await rules_tools.fold_log(log, one_tenant, "other", globs(["flight:*"]), at, console)
    assert one_tenant.report.streams == 1
    assert one_tenant.report.rules["r"].waiting == 1


def test_rules_are_tried_on_the_database(
    database: Database,  # noqa: F811
    absent: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As an administrator would, while it is in use."""

    async def main() -> None:
        async with open_postgres_log(database.admin_url) as log:
            await fill(log)

    trio.run(main)
    monkeypatch.setenv("READBACK_DATABASE_URL", database.admin_url)
    result = run("test", absent, written(tmp_path / "talk.toml", TALK), "--json")
    assert result.exit_code == DONE, result.stderr
    shown = json.loads(result.stdout)
    assert shown["streams"] == 3
    assert {rule["rule"]: (rule["fired"], rule["waiting"]) for rule in shown["rules"]} == {"r": (0, 2), "talk": (3, 0)}
