"""gateway.doctor: what is wrong is found, named, and comes with what to do; what is well is said to be."""

from __future__ import annotations

import json
import resource
import shutil
import socket
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from rich.console import Console

from core.limits import Limits
from core.tokens import mint
from gateway import doctor, doctor_database
from gateway.config import Config
from gateway.doctor import Finding, examine, failed, print_report, report_json
from gateway.keyring import ensure_secrets, load_secrets
from store.migrations import SchemaError

NOW = 1_800_000_000.0


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data=tmp_path, port=0, http_port=0)


def levels(findings: Iterator[Finding] | list[Finding]) -> dict[str, str]:
    return {finding.check: finding.level for finding in findings}


def only(findings: Iterator[Finding] | list[Finding]) -> Finding:
    (finding,) = findings
    assert finding.level == "ok" or finding.advice, "what is not well comes with what to do"
    return finding


# The machine


def test_a_fresh_installation_has_no_failure(config: Config) -> None:
    """Before the first start nothing is wrong; that there are no keys yet is only to think about."""
    findings = examine(config, {})
    assert not failed(findings), findings
    assert levels(findings)["keys"] == "warn"
    assert {"python", "open files", "data folder", "disk", "port", "http port", "database"} <= set(levels(findings))


def test_open_files(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hard limit below the connections is a warning with both ways out; a low soft one is raised at start."""
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, 4096))
    finding = only(doctor.look_at_files(config))
    assert finding.level == "warn"
    assert "ulimit -n" in finding.advice
    assert "READBACK_LIMIT_CONNECTIONS_MAX=3584" in finding.advice
    assert only(doctor.look_at_files(replace(config, limits=Limits(connections_max=1000)))).level == "ok"
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, resource.RLIM_INFINITY))
    assert only(doctor.look_at_files(config)).level == "ok"


def test_data_folder_that_is_a_file(config: Config, tmp_path: Path) -> None:
    """A file where the folder should be fails."""
    (tmp_path / "file").write_text("")
    assert only(doctor.look_at_data(replace(config, data=tmp_path / "file"))).level == "fail"


def test_data_folder_that_cannot_be_written(config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rights are looked at where the folder is, or where it would be made."""
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert "cannot be written" in only(doctor.look_at_data(config)).seen
    finding = only(doctor.look_at_data(replace(config, data=tmp_path / "a" / "b")))
    assert "cannot be made" in finding.seen
    assert "READBACK_DATA" in finding.advice


@pytest.mark.parametrize(("free", "level"), [(10 * 1024**3, "ok"), (1024**3, "warn"), (1024**2, "fail")])
def test_disk(config: Config, monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    """Little room is a warning, next to none a failure: Postgres stops committing."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, free))
    assert levels(doctor.look_at_data(config))["disk"] == level


def test_ports(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A free port is fine; one in use fails, unless our own gateway is what answers."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(1)
        used = replace(config, port=sock.getsockname()[1])
        monkeypatch.setattr(doctor, "answers_as_readback", lambda config: False)
        findings = {finding.check: finding for finding in doctor.look_at_ports(used)}
        assert (findings["port"].level, findings["http port"].level) == ("fail", "ok")
        assert "READBACK_PORT" in findings["port"].advice
        monkeypatch.setattr(doctor, "answers_as_readback", lambda config: True)
        assert levels(doctor.look_at_ports(used))["port"] == "ok"
    assert "is free" in next(iter(doctor.look_at_ports(used))).seen


def test_something_else_at_the_http_port(config: Config) -> None:
    """Nobody there, or no gateway, is not taken for ours."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert not doctor.answers_as_readback(replace(config, http_port=sock.getsockname()[1]))


def test_clock() -> None:
    """A date before this code was written cannot be right."""
    assert only(doctor.look_at_clock(0.0)).level == "fail"
    assert list(doctor.look_at_clock(NOW)) == []


def test_variables() -> None:
    """A misspelt variable is named."""
    assert "READBACK_PROT" in only(doctor.look_at_variables({"READBACK_PROT": "1"})).seen
    assert list(doctor.look_at_variables({"READBACK_PORT": "1"})) == []


# Keys and tokens


def test_good_keys(config: Config) -> None:
    """Fresh keys are well; their ids are shown and they are not."""
    ensure_secrets(config.secrets_path)
    finding = only(doctor.look_at_keys(config, {}))
    assert finding.level == "ok"
    assert "'dev-1'" in finding.seen
    assert json.loads(config.secrets_path.read_text())["token_secrets"]["dev-1"] not in finding.seen


def test_keys_that_others_may_read(config: Config) -> None:
    """Open permissions fail, with the command that mends them."""
    ensure_secrets(config.secrets_path)
    config.secrets_path.chmod(0o644)
    finding = only(doctor.look_at_keys(config, {}))
    assert finding.level == "fail"
    assert finding.advice.startswith("run: chmod 600")


def test_keys_that_are_not_random(config: Config) -> None:
    """A pattern of the right length is still a bad key."""
    environ = {"READBACK_TOKEN_SECRETS": "a=" + "YWJj" * 11, "READBACK_RESUME_KEYS": "r=" + "AAAA" * 11}
    findings = list(doctor.look_at_keys(config, environ))
    assert [finding.level for finding in findings] == ["ok", "fail", "fail"]
    assert "YWJj" not in str(findings)


def test_keys_that_cannot_be_used(config: Config) -> None:
    """A broken file of keys fails; missing ones fail where a database of one's own says that this is no first try."""
    assert only(doctor.look_at_keys(config, {})).level == "warn"
    assert only(doctor.look_at_keys(replace(config, database_url="postgresql://db/x"), {})).level == "fail"
    config.secrets_path.write_text("{")
    assert only(doctor.look_at_keys(config, {})).level == "fail"


def test_development_keys_in_production(config: Config) -> None:
    """Keys that `readback dev` made are noticed beside a database of one's own."""
    ensure_secrets(config.secrets_path)
    findings = list(doctor.look_at_keys(replace(config, database_url="postgresql://db/x"), {}))
    assert [finding.level for finding in findings] == ["ok", "warn"]


def token(config: Config, ttl_s: float) -> dict[str, str]:
    kid, secret = next(iter(load_secrets(config, {}).token_secrets.items()))
    made = mint(secret, kid=kid, tenant="demo", principal="user:amy", roles=(), now_s=NOW, ttl_s=ttl_s)
    return {"READBACK_TOKEN": made}


@pytest.mark.parametrize(("ttl_s", "level"), [(30 * 86_400.0, "ok"), (86_400.0, "warn"), (-86_400.0, "warn")])
def test_tokens_end(config: Config, ttl_s: float, level: str) -> None:
    """A token that ends within days, or did, is said to."""
    ensure_secrets(config.secrets_path)
    assert only(doctor.look_at_token(config, token(config, ttl_s), NOW)).level == level


def test_no_token_is_no_finding(config: Config) -> None:
    """Most installations have none in the environment."""
    assert list(doctor.look_at_token(config, {}, NOW)) == []
    assert list(doctor.look_at_token(config, {"READBACK_TOKEN": "x"}, NOW)) == []  # no keys: said elsewhere


# The database


class FakeLink:
    """Answers the doctor's questions from a dict; what it raises is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def get_server_version(self) -> Any:
        return namedtuple("version", "major minor")(*self.answers.get("version", (18, 0)))

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        if "current_setting" in query:
            return self.answers.get(arguments[0], "on")
        for part, name, default in (
            ("pg_is_in_recovery", "standby", False),
            ("default_transaction_read_only", "read_only", "off"),
            ("max_connections", "max_connections", "100"),
            ("pg_stat_activity", "used", 5),
            ("clock_timestamp", "clock", NOW),
        ):
            if part in query:
                return self.answers.get(name, default)
        return 1

    async def fetchrow(self, query: str) -> Any:
        role = {"name": "readback_gateway", "rolsuper": False, "rolbypassrls": False, "owner": False}
        return {**role, **self.answers.get("role", {})}

    async def fetch(self, query: str) -> Any:
        return [
            {"relname": name, "closed": closed} for name, closed in self.answers.get("tables", {"events": True}).items()
        ]


Look = Callable[[Any], Any]


@pytest.mark.parametrize(
    ("look", "answers", "level", "said"),
    [
        (doctor_database._server, {}, "ok", "Postgres 18.0"),
        (doctor_database._server, {"version": (13, 9)}, "fail", "13.9"),
        (doctor_database._durability, {}, "ok", "on disk"),
        (doctor_database._durability, {"synchronous_commit": "remote_apply"}, "ok", "on disk"),
        (doctor_database._durability, {"fsync": "off"}, "fail", "fsync is off"),
        (doctor_database._durability, {"synchronous_commit": "off"}, "fail", "last acknowledged events"),
        (doctor_database._durability, {"full_page_writes": "off"}, "fail", "half-written"),
        (doctor_database._user, {}, "ok", "readback_gateway"),
        (doctor_database._user, {"role": {"name": "postgres", "rolsuper": True}}, "fail", "postgres is a superuser"),
        (doctor_database._user, {"role": {"rolbypassrls": True}}, "fail", "bypasses"),
        (doctor_database._user, {"role": {"owner": True}}, "fail", "owner"),
        (doctor_database._walls, {}, "ok", "events"),
        (doctor_database._walls, {"tables": {"events": True, "members": False}}, "fail", "not forced on members"),
        (doctor_database._links, {}, "ok", "5 of 100"),
        (doctor_database._links, {"used": 95}, "warn", "95 of 100"),
    ],
)
async def test_database_findings(look: Look, answers: dict[str, Any], level: str, said: str) -> None:
    """Each promise that rests on the database has its finding."""
    finding = only(await look(FakeLink(**answers)))
    assert finding.level == level
    assert said in finding.seen


@pytest.mark.parametrize("answers", [{"standby": True}, {"read_only": "on"}])
async def test_databases_that_cannot_be_written(answers: dict[str, Any]) -> None:
    """A standby and a read-only default both fail."""
    findings = await doctor_database._server(FakeLink(**answers))
    assert [finding.level for finding in findings] == ["ok", "fail"]
    assert "read-only" in findings[1].seen


@pytest.mark.parametrize(("apart_s", "level"), [(0.0, "ok"), (5.0, "warn"), (-60.0, "fail")])
async def test_clocks_apart(monkeypatch: pytest.MonkeyPatch, apart_s: float, level: str) -> None:
    """A clock that is far from the database's breaks tokens and times."""
    monkeypatch.setattr(doctor_database.time, "time", lambda: NOW)
    assert only(await doctor_database._clock(FakeLink(clock=NOW + apart_s))).level == level


async def test_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """The migrations' own sentence becomes what was seen and what to do."""

    async def behind(link: Any) -> None:
        raise SchemaError("the database is 1 migrations behind this code: run `readback migrate`")

    monkeypatch.setattr(doctor_database, "check_schema", behind)
    finding = only(await doctor_database._schema(FakeLink()))
    assert (finding.level, finding.advice) == ("fail", "run `readback migrate`")


def test_a_database_that_does_not_answer(config: Config) -> None:
    """No connection is one finding with advice, and no password in it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # bound, and nobody listens
        url = f"postgresql://u:hunter2@127.0.0.1:{sock.getsockname()[1]}/x"
        finding = only(doctor_database.look_at_database(replace(config, database_url=url)))
    assert finding.level == "fail"
    assert "hunter2" not in str(finding)


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:port/x", "postgresql://[::1/x"])
def test_a_url_that_is_none(config: Config, url: str) -> None:
    """A malformed URL is said to be one."""
    finding = only(doctor_database.look_at_database(replace(config, database_url=url)))
    assert finding.level == "fail"


def test_a_wrong_password_has_its_own_advice() -> None:
    """Different failures to connect have different ways out."""
    advice = {
        doctor_database._advice_for(error)
        for error in (
            asyncpg.InvalidPasswordError("x"),
            asyncpg.InvalidCatalogNameError("x"),
            ValueError("x"),
            ConnectionRefusedError("x"),
        )
    }
    assert len(advice) == 4


def test_the_embedded_database_may_be_stopped(config: Config) -> None:
    """A stopped `readback dev` is no fault."""
    assert "will be made" in only(doctor_database.look_at_database(config)).seen
    config.postgres_dir.mkdir()
    assert "is not running" in only(doctor_database.look_at_database(config)).seen


# The report


def test_a_check_that_breaks_is_a_finding(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor itself never ends in a traceback, and the other checks still run."""

    def broken() -> Iterator[Finding]:
        raise ZeroDivisionError("oops")
        yield

    monkeypatch.setattr(doctor, "look_at_python", broken)
    findings = examine(config, {})
    assert findings[0].level == "fail"
    assert "oops" in findings[0].seen
    assert "disk" in levels(findings)


def test_reports() -> None:
    """The same findings for people and for programs."""
    findings = [Finding("python", "ok", "3.11.7"), Finding("disk", "fail", "0.1 GB [free]", "free some")]
    document = json.loads(report_json(findings))
    assert document["ok"] is False
    assert document["findings"][1] == {"check": "disk", "level": "fail", "seen": "0.1 GB [free]", "advice": "free some"}
    screen = StringIO()
    print_report(findings, Console(file=screen, width=80))
    assert "0.1 GB [free]" in screen.getvalue()
    assert "→ free some" in screen.getvalue()
    assert "2 looked at, 1 failed, 0 to think about" in screen.getvalue()
