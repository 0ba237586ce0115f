"""What is wrong with this installation, in words: every finding says what was looked at, what was seen, what to do.

For: `readback doctor`. Promises: changes nothing, ends within seconds whatever hangs (each look outside has a time-out),
shows no key and no password; a check that itself fails is a finding, not a traceback. Does not: need a running gateway,
or judge load (that is /metrics).

A finding is `ok`, `warn` (works, but not as it should for operations that cannot lose a message) or `fail` (does not
work, or breaks a promise). The parts that look at the stores are in `gateway.doctor_database` and `gateway.doctor_redis`,
at keys and tenants in `gateway.doctor_keys`, at TLS and proxies in `gateway.doctor_edges`.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from gateway.config import FILES_SPARE, OTHER_VARIABLES, Config, ConfigError, files_needed, unknown_variables

if TYPE_CHECKING:
    from rich.console import Console

Level = Literal["ok", "warn", "fail"]

DISK_FREE_WARN_BYTES = 2 * 1024**3  # the WAL alone may take max_wal_size, 2 GB
DISK_FREE_FAIL_BYTES = 256 * 1024**2
CLOCK_FLOOR_S = 1_767_225_600.0  # 2026-01-01: this code did not exist before
TOKEN_WARN_S = 3 * 86_400.0


@dataclass(frozen=True, slots=True)
class Finding:
    """``check`` names what was looked at, ``seen`` what was there, ``advice`` what to do (empty when all is well)."""

    check: str
    level: Level
    seen: str
    advice: str = ""


def examine(config: Config, environ: Mapping[str, str]) -> list[Finding]:
    """All checks, in the order in which an operator would ask."""
    from gateway.doctor_database import look_at_database
    from gateway.doctor_edges import look_at_proxies, look_at_tls
    from gateway.doctor_keys import look_at_trust
    from gateway.doctor_redis import look_at_redis

    checks: list[Callable[[], Iterator[Finding]]] = [
        look_at_python,
        lambda: look_at_variables(environ),
        lambda: look_at_files(config),
        lambda: look_at_data(config),
        lambda: look_at_ports(config),
        lambda: look_at_clock(time.time()),
        lambda: look_at_keys(config, environ),
        lambda: look_at_trust(config, environ),
        lambda: look_at_tls(config, time.time()),
        lambda: look_at_proxies(config),
        lambda: look_at_token(config, environ, time.time()),
        lambda: look_at_database(config),
        lambda: look_at_redis(config),
    ]
    findings: list[Finding] = []
    for check in checks:
        try:
            findings.extend(check())
        except Exception as error:
            findings.append(Finding("doctor", "fail", f"a check failed itself: {error!r}", "report this as a bug"))
    return findings


def failed(findings: list[Finding]) -> bool:
    return any(finding.level == "fail" for finding in findings)


def report_json(findings: list[Finding]) -> bytes:
    """``{"ok": bool, "findings": [{check, level, seen, advice}]}``, one line."""
    document = {"ok": not failed(findings), "findings": [asdict(finding) for finding in findings]}
    return json.dumps(document).encode() + b"\n"


def print_report(findings: list[Finding], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        words = Text(finding.seen)
        if finding.advice:
            words.append(f"\n→ {finding.advice}", style="bold")
        table.add_row(Text(finding.level, style=styles[finding.level]), Text(finding.check), words)
    console.print(table)
    bad = sum(finding.level == "fail" for finding in findings)
    doubtful = sum(finding.level == "warn" for finding in findings)
    console.print(f"\n{len(findings)} looked at, {bad} failed, {doubtful} to think about", highlight=False)


def look_at_python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.implementation.name != "cpython":
        yield Finding("python", "warn", f"{sys.implementation.name} {version}", "only CPython is tested and measured")
    else:
        yield Finding("python", "ok", version)
    if not sys.platform.startswith("linux"):
        yield Finding("system", "fail", sys.platform, "the gateway needs Linux (epoll); a container will do")


def look_at_variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    if unknown := unknown_variables(environ):
        known = ", ".join(sorted(OTHER_VARIABLES))
        yield Finding(
            "variables",
            "warn",
            f"nobody reads {', '.join(unknown)}",
            f"correct the name; besides the settings there are {known}, and READBACK_LIMIT_<NAME>",
        )


def look_at_files(config: Config) -> Iterator[Finding]:
    """Every connection is an open file. The gateway raises its soft limit by itself, up to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = files_needed(config)
    most = hard if hard != resource.RLIM_INFINITY else sys.maxsize
    if most < needed:
        yield Finding(
            "open files",
            "warn",
            f"{hard} may be open, {config.limits.connections_max} connections need {needed}",
            f"raise the limit (ulimit -n {needed}, LimitNOFILE={needed}), or set READBACK_LIMIT_CONNECTIONS_MAX="
            f"{max(1, hard - FILES_SPARE)}",
        )
    else:
        yield Finding("open files", "ok", f"{max(soft, needed)} may be open, {needed} are needed at most")


def look_at_data(config: Config) -> Iterator[Finding]:
    path = config.data
    place = next(parent for parent in (path, *path.parents) if parent.exists())
    if path.exists() and not path.is_dir():
        yield Finding("data folder", "fail", f"{path} is no folder", "choose another with READBACK_DATA")
        return
    if not os.access(place, os.W_OK | os.X_OK):
        seen = f"{path} cannot be written" if place == path else f"{path} cannot be made: {place} cannot be written"
        yield Finding("data folder", "fail", seen, "choose another with READBACK_DATA")
        return
    yield Finding("data folder", "ok", f"{path}" if place == path else f"{path} (will be made)")
    free = shutil.disk_usage(place).free
    seen = f"{free / 1024**3:.1f} GB free"
    if free < DISK_FREE_FAIL_BYTES:
        yield Finding("disk", "fail", seen, "free some: Postgres stops committing when the disk is full")
    elif free < DISK_FREE_WARN_BYTES:
        yield Finding("disk", "warn", seen, "the write-ahead log alone may take 2 GB")
    else:
        yield Finding("disk", "ok", seen)


def look_at_ports(config: Config) -> Iterator[Finding]:
    """A port in use is no fault where it is our own gateway that answers there."""
    for name, host, port in (
        ("port", config.host, config.port),
        ("http port", config.http_host, config.http_port),
    ):
        variable = "READBACK_PORT" if name == "port" else "READBACK_HTTP_PORT"
        if port == 0:
            yield Finding(name, "ok", "any free one")
            continue
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                probe.listen(1)
            yield Finding(name, "ok", f"{host}:{port} is free")
        except OSError as error:
            if answers_as_readback(config):
                yield Finding(name, "ok", f"{host}:{port} is in use by a running gateway")
            else:
                yield Finding(
                    name, "fail", f"{host}:{port}: {error.strerror}", f"stop what listens there, or set {variable}"
                )


def answers_as_readback(config: Config) -> bool:
    """Whether a gateway of ours answers at the HTTP port."""
    from http.client import HTTPConnection, HTTPException

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.http_host, config.http_host)
    connection = HTTPConnection(host, config.http_port, timeout=2)
    try:
        connection.request("GET", "/livez")
        answer = json.loads(connection.getresponse().read(65_536))
        return isinstance(answer, dict) and "draining" in answer
    except (OSError, HTTPException, ValueError):
        return False
    finally:
        connection.close()


def look_at_clock(now_s: float) -> Iterator[Finding]:
    """Only the absurd can be seen from here; `look_at_database` compares with the database's clock."""
    if now_s < CLOCK_FLOOR_S:
        shown = time.strftime("%Y-%m-%d", time.gmtime(now_s))
        yield Finding(
            "clock", "fail", f"this machine believes it is {shown}", "set the clock (NTP): tokens depend on it"
        )


def look_at_keys(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    from gateway.doctor_keys import weak_keys
    from gateway.keyring import load_secrets, permission_problem

    path = config.secrets_path
    try:
        secrets = load_secrets(config, environ)
    except ConfigError as error:
        level: Level = "fail" if path.exists() or config.database_url is not None else "warn"
        yield Finding(
            "keys", level, str(error), "see docs/operations.md, Keys" if level == "fail" else "run readback dev"
        )
        return
    problem = permission_problem(path) if path.exists() else None
    if problem:
        yield Finding("keys", "fail", problem.partition("; ")[0], problem.partition("; ")[2])
    else:
        count = f"{len(secrets.token_secrets)} for tokens, {len(secrets.resume_keys)} for resume tokens"
        yield Finding(
            "keys",
            "ok",
            f"{count}; the newest are {next(iter(secrets.token_secrets))!r} and {next(iter(secrets.resume_keys))!r}",
        )
    yield from weak_keys(secrets)
    if config.database_url is not None and any(kid.startswith("dev-") for kid in secrets.token_secrets):
        yield Finding(
            "keys", "warn", "a key made by `readback dev` signs tokens here", "give production keys of its own"
        )


def look_at_token(config: Config, environ: Mapping[str, str], now_s: float) -> Iterator[Finding]:
    """The token in READBACK_TOKEN, where there is one: does it hold, and for how long?"""
    token = environ.get("READBACK_TOKEN", "").strip()
    if not token:
        return
    from core.tokens import TokenError, TokenVerifier
    from gateway.keyring import load_secrets

    try:
        secrets = load_secrets(config, environ)
    except ConfigError:
        return  # said already
    who = TokenVerifier(secrets.token_secrets, audience=config.audience).verify(token, now_s)
    if isinstance(who, TokenError):
        yield Finding(
            "token", "warn", f"READBACK_TOKEN does not hold here: {who.reason}", "make one with readback token"
        )
        return
    left_s = who.expires_at_s - now_s
    seen = f"READBACK_TOKEN is {who.principal} of {who.tenant}, for {max(0.0, left_s) / 3600:.0f} more hours"
    if left_s < TOKEN_WARN_S:
        yield Finding("token", "warn", seen, "make another before it ends, with readback token")
    else:
        yield Finding("token", "ok", seen)
