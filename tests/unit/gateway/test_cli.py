"""gateway.cli: one sentence a failure, exit codes that scripts can rely on, an orderly end."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing
import typer
from rich.console import Console
from typer.testing import CliRunner

from core.keys import SigningKey
from core.limits import Limits
from core.ports import CorruptLog, Refused, Unavailable
from core.tokens import Identity, TokenVerifier
from gateway import cli, cli_run, cli_show, cli_tools, workers
from gateway.cli_errors import CANNOT, FAULT, FINDINGS, HURRIED, USAGE, CliError, explain, mended
from gateway.cli_run import Demo, Stopper
from gateway.config import FILES_SPARE, Config, ConfigError, Ready, Secrets, load_config
from gateway.http_serve import PortInUse
from gateway.keyring import ensure_secrets, load_secrets
from readback_client import ReadbackError


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the developer's, and a data folder of the test's own."""
    for name in list(os.environ):
        if name.startswith("READBACK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("READBACK_DATA", str(tmp_path / "data"))


def run(*arguments: str, **options: Any) -> Any:
    return CliRunner().invoke(cli.app, list(arguments), **options)


@pytest.fixture
def keys(tmp_path: Path) -> Config:
    config = Config(data=tmp_path / "data")
    ensure_secrets(config.secrets_path)
    return config


def verifier(keys: Config) -> TokenVerifier:
    """Of a node that takes the gateway's own tokens, and no shared secrets."""
    own = load_secrets(keys, {}).signing_keys
    return TokenVerifier({}, own={kid: SigningKey(kid, seed).public for kid, seed in own.items()})


# Help and version


@pytest.mark.parametrize("command", ["dev", "serve", "chat", "token", "migrate", "check", "doctor"])
def test_help_has_examples(command: str) -> None:
    """Every command explains itself, with something to paste."""
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"readback {command}" in result.output


def test_help_documents_exit_codes() -> None:
    """What a script may rely on is in the help."""
    output = run("--help").output
    for command in ("dev", "serve", "chat", "token", "migrate", "check", "doctor", "bench"):
        assert command in output
    assert "Exit codes" in output
    assert "130" in output


def test_version() -> None:
    """--version says name and number."""
    assert re.fullmatch(r"readback \d+\.\d+\.\d+\n", run("--version").output)


def test_help_loads_no_server() -> None:
    """`readback --help` stays fast because it imports neither Trio, FastAPI, asyncpg nor cryptography."""
    code = (
        "import sys, gateway.cli\n"
        "try: gateway.cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'trio', 'fastapi', 'asyncpg', 'cryptography', 'orjson', 'hypercorn', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# token


def test_token(keys: Config) -> None:
    """Prints one token and nothing else, with the tenant, principal, roles and time asked for."""
    result = run("token", "--tenant", "t1", "--principal", "service:ops", "--role", "admin", "--ttl", "15m")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    who = verifier(keys).verify(result.stdout.strip(), time.time())
    assert isinstance(who, Identity)
    assert (who.tenant, who.principal, who.roles) == ("t1", "service:ops", frozenset({"admin"}))


def test_token_without_a_signing_key(keys: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the newest shared secret signs it, for the audience that is set; where there is neither, that is said."""
    document = json.loads(keys.secrets_path.read_text())
    del document["signing_keys"]
    keys.secrets_path.write_text(json.dumps(document))
    monkeypatch.setenv("READBACK_AUDIENCE", "ours")
    result = run("token", "--principal", "user:amy")
    who = TokenVerifier(load_secrets(keys, {}).token_secrets, audience="ours").verify(
        result.stdout.strip(), time.time()
    )
    assert isinstance(who, Identity)
    with pytest.raises(ConfigError, match="no key to sign"):
        cli_run.demo_token(Secrets({}, {}), "demo", "user:amy", (), 1.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--principal", "amy"], "Principal 'amy'"),
        (["--principal", "user:amy", "--tenant", "Demo"], "Tenant 'Demo'"),
        (["--principal", "user:amy", "--role", "Admin"], "Role 'Admin'"),
        (["--principal", "user:amy", "--ttl", "soon"], "--ttl is 'soon'"),
    ],
)
def test_token_refusals(keys: Config, arguments: list[str], said: str) -> None:
    """A token that would never be taken is refused, naming what was wrong."""
    result = run("token", *arguments)
    assert result.exit_code == USAGE
    assert said in result.stderr
    assert result.stdout == ""


def test_token_without_keys() -> None:
    """Without keys the sentence says how to get some."""
    result = run("token", "--principal", "user:amy")
    assert result.exit_code == USAGE
    assert "readback dev" in result.stderr


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000), ("60", 60)]
)
def test_ttl(text: str, seconds: float) -> None:
    """Times in the units people use."""
    assert cli.parse_ttl(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0d", "-1h", "1.5h", "1w", "h", "9" * 40, "9" * 13 + "s", "²d", "1 h", "5000d"]
)
def test_bad_ttl(text: str) -> None:
    """Anything else is refused, and so is more than ten years."""
    with pytest.raises(ConfigError, match="allowed: 90s, 15m"):
        cli.parse_ttl(text)


# chat


def with_chat(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []

    async def run_chat(url: str, token: Any, stream: str, *, principal: str) -> None:
        await trio.lowlevel.checkpoint()
        calls.append((url, token if isinstance(token, str) else await token(), stream, principal))

    module = types.ModuleType("gateway.chat")
    module.run_chat = run_chat  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gateway.chat", module)
    return calls


def test_chat_makes_a_token_of_its_own(keys: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the machine of `readback dev` a name is enough."""
    calls = with_chat(monkeypatch)
    monkeypatch.setenv("READBACK_PORT", "9400")
    result = run("chat", "--as", "user:bob", "chat:lobby")
    assert result.exit_code == 0, result.output
    url, token, stream, principal = calls[0]
    assert (url, stream, principal) == ("ws://127.0.0.1:9400/v1/ws", "chat:lobby", "user:bob")
    who = verifier(keys).verify(token, time.time())
    assert isinstance(who, Identity)
    assert (who.tenant, who.principal) == ("demo", "user:bob")
    assert run("chat", "--as", "nobody").exit_code == USAGE
    assert len(calls) == 1


def test_chat_takes_a_given_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A token from the environment or a file is used as it is, and needs no keys; a file goes first."""
    calls = with_chat(monkeypatch)
    (tmp_path / "t").write_text("from-file\n")
    monkeypatch.setenv("READBACK_TOKEN", "from-environment")
    assert run("chat", "--url", "wss://rt.example/v1/ws").exit_code == 0
    assert run("chat", "--token-file", str(tmp_path / "t")).exit_code == 0
    assert [call[1] for call in calls] == ["from-environment", "from-file"]
    assert calls[0][0] == "wss://rt.example/v1/ws"
    assert run("chat", "--token-file", str(tmp_path / "none")).exit_code == USAGE


# migrate, check, doctor, bench


class FakeLog:
    def __init__(self, findings: list[str]) -> None:
        self.findings = findings

    async def check(self) -> AsyncIterator[tuple[int, int, str | None]]:
        for done in range(0, 4001, 2000):
            yield done, 4000, None
        for finding in self.findings:
            yield 4000, 4000, finding


def with_log(monkeypatch: pytest.MonkeyPatch, findings: list[str]) -> list[str]:
    opened: list[str] = []

    @asynccontextmanager
    async def open_log(url: str, *, new_key: Any) -> AsyncIterator[FakeLog]:
        opened.append(url)
        yield FakeLog(findings)

    monkeypatch.setattr(cli_tools, "open_postgres_log", open_log)
    return opened


URL = "postgresql://u@db/readback"


def test_check_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole log ends with 0 and the number of events."""
    opened = with_log(monkeypatch, [])
    result = run("check", "--database-url", URL)
    assert (result.exit_code, result.stdout) == (0, "all is well: 4000 events checked\n")
    assert opened == [URL]


def test_check_finds_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings are shown, the first hundred of them, and the exit code is 1."""
    with_log(monkeypatch, [f"partition 3, pos {n}: not the hash" for n in range(120)])
    result = run("check", "--database-url", URL)
    assert result.exit_code == FINDINGS
    assert "partition 3, pos 99:" in result.stderr
    assert "pos 100:" not in result.stderr
    assert "20 more" in result.stderr
    assert "120 findings" in result.stderr


def test_check_without_a_database() -> None:
    """Where nothing was ever started, that is what is said."""
    result = run("check")
    assert result.exit_code == CANNOT
    assert "readback dev" in result.stderr


def test_migrate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names what was applied, or says that nothing was missing."""
    applied = ["0001_tables"]

    async def migrate_database(url: str, *, partitions: int | None) -> list[str]:
        await trio.lowlevel.checkpoint()
        assert (url, partitions) == (URL, 32)
        return applied

    monkeypatch.setattr(cli_tools, "migrate_database", migrate_database)
    assert run("migrate", "--database-url", URL, "--partitions", "32").stdout == "applied 0001_tables\n"
    applied = []
    assert "up to date" in run("migrate", "--database-url", URL, "--partitions", "32").stdout
    assert run("migrate", "--database-url", URL, "--partitions", "0").exit_code == USAGE


def test_doctor_json(keys: Config) -> None:
    """One JSON document on stdout, and the exit code says whether anything failed."""
    result = run("doctor", "--json", env={"READBACK_PORT": "0", "READBACK_HTTP_PORT": "0"})
    document = json.loads(result.stdout)
    assert result.exit_code == (0 if document["ok"] else FINDINGS)
    assert {"check", "level", "seen", "advice"} == set(document["findings"][0])


def test_bench_passes_everything_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmarks have a command line of their own, its help included."""
    seen: list[Any] = []
    module = types.ModuleType("bench.cli")
    module.app = lambda args, prog_name: seen.append((args, prog_name))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bench.cli", module)
    assert run("bench", "echo", "--peer", "ws", "--help").exit_code == 0
    assert seen == [(["echo", "--peer", "ws", "--help"], "readback bench")]


def test_bench_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the sentence says what to install."""
    monkeypatch.setitem(sys.modules, "bench.cli", None)
    result = run("bench", "echo")
    assert result.exit_code == CANNOT
    assert "readback[bench]" in result.stderr


# Before anything is started


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(1)
        yield sock.getsockname()[1]


def test_a_port_in_use(busy_port: int) -> None:
    """Said before seconds are spent on a database, with the variable that changes it."""
    for option, variable in (("--port", "READBACK_PORT"), ("--http-port", "READBACK_HTTP_PORT")):
        result = run("dev", option, str(busy_port))
        assert result.exit_code == CANNOT
        assert f"Port {busy_port}" in result.stderr
        assert variable in result.stderr


def test_a_second_dev_on_the_same_data(busy_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is our own gateway that listens, that is what is said."""
    monkeypatch.setattr(cli_run, "running_url", lambda path: URL)
    result = run("dev", "--port", str(busy_port))
    assert result.exit_code == CANNOT
    assert "already runs on" in result.stderr


def test_an_address_of_another_machine() -> None:
    """An address that is not ours is explained."""
    result = run("dev", "--host", "192.0.2.1", "--port", "0", "--http-port", "18999")
    assert result.exit_code == CANNOT
    assert "READBACK_HOST" in result.stderr


def test_a_data_folder_that_cannot_be(tmp_path: Path) -> None:
    """A folder that cannot be made is named with the way out."""
    (tmp_path / "file").write_text("")
    result = run("dev", "--data", str(tmp_path / "file" / "data"))
    assert result.exit_code == USAGE
    assert "READBACK_DATA" in result.stderr


def test_serve_needs_a_database_and_keys() -> None:
    """`serve` brings neither by itself."""
    result = run("serve", "--port", "0", "--http-port", "0")
    assert (result.exit_code, "--database-url" in result.stderr) == (USAGE, True)
    result = run("serve", "--port", "0", "--http-port", "0", "--database-url", URL)
    assert (result.exit_code, "READBACK_TOKEN_SECRETS" in result.stderr) == (USAGE, True)


def test_workers_need_a_redis(keys: Config) -> None:
    """Said at once, with the way out and with what brings its own."""
    result = run("serve", "--port", "0", "--http-port", "0", "--database-url", URL, "--workers", "2")
    assert result.exit_code == USAGE
    assert "READBACK_REDIS_URL" in result.stderr
    assert "readback dev --workers" in result.stderr


def test_workers_are_a_number() -> None:
    """As every bad argument, with what is allowed."""
    result = run("dev", "--workers", "many")
    assert result.exit_code == USAGE
    assert "a number from 1 to 64" in result.stderr


def test_a_worker_without_its_parent_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is the parent's, and not shown to people."""
    asked: list[tuple[int, ...]] = []
    libc = types.SimpleNamespace(prctl=lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(workers.ctypes, "CDLL", lambda name: libc)  # this very process should not end with its parent
    assert "worker " not in run("--help").output
    result = run("worker", "--number", "1", "--folder", str(tmp_path), "--parent", "1")
    assert result.exit_code == CANNOT
    assert "is gone" in result.stderr
    assert asked[0][:2] == (1, signal.SIGTERM)


def test_few_open_files_mean_few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """The soft limit is raised as far as it goes; what is missing is taken from the connections, and said."""
    said: list[str] = []
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(cli_run.resource, "getrlimit", lambda kind: (1024, 4096))
    monkeypatch.setattr(cli_run.resource, "setrlimit", lambda kind, limits: asked.append(limits))
    config = cli_run.raise_file_limit(Config(data=Path("/x")), said.append)
    assert asked == [(4096, 4096)]
    assert config.limits.connections_max == 4096 - FILES_SPARE
    assert "4096" in said[0]
    fits = Config(data=Path("/x"), limits=Limits(connections_max=1000))
    assert cli_run.raise_file_limit(fits, said.append) is fits
    assert asked[-1] == (1000 + FILES_SPARE, 4096)
    assert len(said) == 1


# Failures


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CliError("this and that", FINDINGS), FINDINGS, "this and that"),
        (ConfigError("The variable X is bad."), USAGE, "variable X"),
        (Unavailable("connection refused"), CANNOT, "doctor"),
        (Refused("conflict", "it exists"), CANNOT, "it exists"),
        (CorruptLog("a hole"), CANNOT, "readback check"),
        (PortInUse("Port 1 is in use"), CANNOT, "Port 1"),
        (ExceptionGroup("g", [ReadbackError("not a JWT"), ReadbackError("not a JWT")]), CANNOT, "not a JWT"),
        (OSError(errno.EADDRINUSE, "Address already in use"), CANNOT, "READBACK_PORT"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), CANNOT, "/x"),
        (ExceptionGroup("g", [ExceptionGroup("h", [ConfigError("deep")])]), USAGE, "deep"),
    ],
)
def test_what_somebody_can_mend(error: Exception, code: int, said: str) -> None:
    """Each has a sentence and its code, from however deep a nursery it comes."""
    explained = explain(error)
    assert explained is not None
    assert said in explained[0]
    assert explained[1] == code


def test_a_fault_of_ours_is_shown_whole() -> None:
    """Only what nobody foresaw has a traceback; one such in a group is enough."""
    for error in (KeyError("x"), ExceptionGroup("g", [ConfigError("x"), KeyError("y")]), OSError(errno.EIO, "I/O")):
        assert explain(error) is None


def ending_of(error: BaseException) -> int:
    @mended
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as caught:
        command()
    return caught.value.exit_code


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """The decorator turns a failure into words and a code, and leaves a deliberate exit alone."""
    assert ending_of(ConfigError("the setting is bad.")) == USAGE
    assert capsys.readouterr().err == "readback: The setting is bad.\n"
    assert ending_of(KeyboardInterrupt()) == HURRIED
    assert ending_of(BaseExceptionGroup("g", [KeyboardInterrupt()])) == HURRIED
    assert ending_of(typer.Exit(FINDINGS)) == FINDINGS
    assert capsys.readouterr().err == ""
    assert ending_of(ExceptionGroup("g", [ConfigError("deep")])) == USAGE
    assert capsys.readouterr().err == "readback: Deep.\n"
    assert ending_of(ZeroDivisionError("x")) == FAULT
    assert "Traceback" in capsys.readouterr().err


# The end


async def test_the_first_signal_drains_the_second_hurries() -> None:
    """SIGTERM asks the node to drain; another one cancels what runs."""
    said: list[str] = []
    drained: list[bool] = []
    stopper = Stopper(said.append)
    async with trio.open_nursery() as nursery:
        await nursery.start(stopper.obey)
        stopper.ready(Ready(1, 2, "db", lambda: drained.append(True)))
        with stopper.scope:
            os.kill(os.getpid(), signal.SIGTERM)
            await trio.testing.wait_all_tasks_blocked()
            assert drained == [True]
            assert not stopper.scope.cancel_called
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep_forever()
        assert stopper.hurried
        assert drained == [True]
        nursery.cancel_scope.cancel()
    assert said == ["draining: clients are told when to come back; once more hurries", "stopping now"]


async def test_a_signal_before_ready_stops_at_once() -> None:
    """There is nothing to drain yet, and that is no hurry."""
    stopper = Stopper(lambda text: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(stopper.obey)
        with stopper.scope:
            os.kill(os.getpid(), signal.SIGHUP)
            await trio.sleep_forever()
        nursery.cancel_scope.cancel()
    assert stopper.scope.cancelled_caught
    assert not stopper.hurried


def hearing(**hooks: Any) -> tuple[Stopper, list[str]]:
    said: list[str] = []
    stopper = Stopper(said.append)
    stopper.ready(Ready(1, 2, "db", **hooks))
    return stopper, said


def test_what_other_signals_do() -> None:
    """SIGHUP reloads, SIGUSR2 replaces, SIGUSR1 retires once; each where it is offered."""
    done: list[str] = []
    stopper, said = hearing(
        drain=lambda: done.append("drain"),
        reload=lambda: done.append("reload"),
        roll=lambda: done.append("roll"),
        retire=lambda: done.append("retire"),
    )
    for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR1):
        stopper.hear(number)
    assert done == ["reload", "roll", "retire"]
    assert said[-1] == "SIGUSR1 means nothing here"
    stopper.hear(signal.SIGTERM)
    assert stopper.hurried


def test_signals_that_mean_nothing_do_nothing() -> None:
    """Without workers there is nobody to replace; it is said, and the node serves on."""
    stopper, said = hearing(drain=lambda: None)
    stopper.hear(signal.SIGUSR2)
    assert said == ["SIGUSR2 means nothing here"]


def test_a_closed_terminal_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGHUP from a terminal that is gone is no wish for a reload; nor is one where nothing can be reloaded."""
    done: list[str] = []
    monkeypatch.setattr(cli_run.os, "isatty", lambda descriptor: True)
    stopper, _ = hearing(drain=lambda: done.append("drain"), reload=lambda: done.append("reload"))
    monkeypatch.setattr(cli_run.os, "isatty", lambda descriptor: False)
    stopper.hear(signal.SIGHUP)
    stopper, _ = hearing(drain=lambda: done.append("drain"))
    stopper.hear(signal.SIGHUP)
    assert done == ["drain", "drain"]


def test_a_terminal_that_is_gone_takes_no_words() -> None:
    """What cannot be said any more ends nothing."""

    class Gone(StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, "Input/output error")

    cli_show.saying(Console(file=Gone()))("draining")


# What a newcomer sees


def shown(config: Config, ready: Ready) -> str:
    screen = StringIO()
    demo = Demo({"user:amy": "a" * 200, "user:bob": "b" * 200}, "Postgres 18")
    cli_show.print_ready(Console(width=60, file=screen), config, ready, demo)
    return screen.getvalue()


def test_ready_can_be_copied(tmp_path: Path) -> None:
    """Tokens and commands stand whole on one line each, however narrow the terminal."""
    lines = [line.rstrip() for line in shown(load_config(environ={}), Ready(8400, 8401, "db")).splitlines()]
    assert "a" * 200 in lines
    assert "b" * 200 in lines
    assert any(line.endswith("chat --as user:amy chat:lobby") for line in lines)
    assert any(line.startswith("curl ") and line.endswith("/v1/streams/chat:lobby/events") for line in lines)


def test_workers_are_shown(tmp_path: Path) -> None:
    """How many, and over what."""
    screen = StringIO()
    demo = Demo({"user:amy": "a"}, "Postgres 18", "2 on one port, over Redis 6.2")
    cli_show.print_ready(Console(width=60, file=screen), load_config(environ={}), Ready(8400, 8401, "db"), demo)
    assert "Workers    2 on one port, over Redis 6.2" in screen.getvalue()


def test_pasted_lines_find_this_gateway(tmp_path: Path) -> None:
    """With other ports or another data folder, the lines say so."""
    text = shown(Config(data=tmp_path / "data", port=0, http_port=0), Ready(9001, 9002, "db"))
    assert "--url ws://127.0.0.1:9001/v1/ws" in text
    assert f"READBACK_DATA={tmp_path / 'data'} " in text
    assert "http://127.0.0.1:9002/v1/streams/chat:lobby/events" in text


def test_addresses_to_connect_to() -> None:
    """Nobody connects to 0.0.0.0, and IPv6 stands in brackets."""
    assert [cli_show.connectable(host) for host in ("0.0.0.0", "::", "::1", "10.0.0.7")] == [
        "127.0.0.1",
        "[::1]",
        "[::1]",
        "10.0.0.7",
    ]


def test_ready_file(tmp_path: Path) -> None:
    """Ports and pid as JSON, under the final name only when whole."""
    cli_run.write_ready_file(tmp_path / "ready", Ready(1, 2, "db"))
    assert json.loads((tmp_path / "ready").read_text()) == {"port": 1, "http_port": 2, "pid": os.getpid()}
    assert [entry.name for entry in tmp_path.iterdir()] == ["ready"]


@pytest.mark.slow
async def test_dev_from_nothing_to_a_clean_end(tmp_path: Path) -> None:
    """`readback dev` on an empty folder: ready, a send over HTTP, SIGINT, nothing left running; and again with the data."""
    for expected_seq in (1, 2):
        ready_file = tmp_path / f"ready-{expected_seq}"
        arguments = ["dev", "--port", "0", "--http-port", "0", "--ready-file", str(ready_file)]
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "gateway", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            with trio.fail_after(120):
                while not ready_file.exists():
                    assert process.poll() is None, await process.stdout.receive_some()  # type: ignore[union-attr]
                    await trio.sleep(0.05)
            base_url = f"http://127.0.0.1:{json.loads(ready_file.read_text())['http_port']}"
            token = run("token", "--principal", "user:amy").stdout.strip()
            async with httpx.AsyncClient(base_url=base_url, headers={"authorization": f"Bearer {token}"}) as client:
                key = f"5e0f6a1c-8f39-4a1e-9f0e-2a7d3c1b4e5{expected_seq}"
                sent = await client.post(
                    "/v1/streams/chat:lobby/events", headers={"idempotency-key": key}, json={"body": {"text": "hi"}}
                )
                assert sent.json()["seq"] == expected_seq, sent.text
                assert (await client.get("/readyz")).status_code == 200
            process.send_signal(signal.SIGINT)
            with trio.fail_after(60):
                assert await process.wait() == 0
        finally:
            if process.poll() is None:
                process.kill()
                await process.wait()
        assert process.stdout is not None
        output = b""
        while chunk := await process.stdout.receive_some():
            output += chunk
        await process.stdout.aclose()
        assert b"Readback is ready" in output
        assert output.rstrip().endswith(b"stopped")
    done = await trio.run_process([sys.executable, "-m", "gateway", "check"], capture_stdout=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"all is well: 2 events checked\n")
