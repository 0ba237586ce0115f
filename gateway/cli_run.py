"""What runs under `readback dev` and `readback serve`: the node with everything around it, and how it ends.

For: bringing up, in order, data folder, keys, Postgres, Redis, schema, node or workers; and taking all of it down again.
Promises: the first Ctrl-C or SIGTERM drains (clients are told when to come back, what was taken is committed), the second
hurries; the embedded servers are stopped cleanly either way; a port in use or a second `dev` on the same data is said
before anything was started. Does not: serve (`gateway.serve`), look after workers (`gateway.workers`), keep the database
alive (`store.embedded`).
"""

from __future__ import annotations

import errno
import json
import os
import resource
import secrets as randomness
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from uuid import uuid4

import trio

from core.keys import SigningKey
from core.ports import Refused
from core.tokens import issue, mint
from gateway.cli_errors import CliError
from gateway.config import FILES_SPARE, Config, ConfigError, Ready, Secrets, files_needed, load_config
from gateway.gather import gather_in
from gateway.keyring import ensure_secrets, load_secrets
from gateway.place import Place, node_name
from gateway.systemd import Inherited, Notifier, take_sockets
from gateway.tls import load_tls
from store.embedded import running_postgres, running_url
from store.postgres import migrate_database, open_postgres_log

DEMO_TENANT = "demo"
DEMO_STREAM = "chat:lobby"
DEMO_PEOPLE = ("user:amy", "user:bob")
DEMO_TTL_S = 30 * 86_400.0
DEV_PAGE_PORTS = (3000, 5173, 8000, 8080)
"""Where the usual development servers of web pages listen; `dev` lets their pages connect unless told otherwise."""

LINKS_PER_NODE = 16  # to Postgres; `readback doctor` counts them
LINKS_SPARE = 20

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Demo:
    """What a newcomer is handed: one token a person of the tenant demo; and what holds the log, and what workers hear
    each other through, in words."""

    tokens: dict[str, str]
    database: str
    bus: str = ""


class Stopper:
    """Turns signals into what `Ready` offers, and into an orderly end: first drain, then hurry.

    Before the node is ready there is nothing to drain, so the first signal already cancels. SIGHUP reloads where that is
    offered and nobody's terminal was closed; else it drains, as a closed terminal should.
    """

    def __init__(self, say: Say) -> None:
        self.scope = trio.CancelScope()
        self.hurried = False
        self._say = say
        self._signals = 0
        self._ready: Ready | None = None
        self._on_terminal = os.isatty(2)

    def ready(self, ready: Ready) -> None:
        self._ready = ready

    def stop(self) -> None:
        """One more signal came."""
        self._signals += 1
        if self._signals == 1 and self._ready is not None and self._ready.drain is not None:
            self._say("draining: clients are told when to come back; once more hurries")
            self._ready.drain()
            return
        self.hurried = self._signals > 1
        self._say("stopping now" if self.hurried else "stopping")
        self.scope.cancel()

    def hear(self, number: int) -> None:
        """One signal, whatever it means here."""
        ready = self._ready
        if number == signal.SIGHUP and ready is not None and ready.reload is not None and not self._hung_up():
            ready.reload()
        elif number == signal.SIGUSR1 and ready is not None and ready.retire is not None and not self._signals:
            self._signals = 1
            ready.retire()
        elif number in (signal.SIGUSR1, signal.SIGUSR2):
            if number == signal.SIGUSR2 and ready is not None and ready.roll is not None:
                self._say("replacing the workers one by one")
                ready.roll()
            else:
                self._say(f"{signal.Signals(number).name} means nothing here")
        else:
            self.stop()

    def _hung_up(self) -> bool:
        return self._on_terminal and not os.isatty(2)

    async def obey(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(*SIGNALS) as signals:
            task_status.started()
            async for number in signals:
                self.hear(number)


def raise_file_limit(config: Config, say: Say) -> Config:
    """Ask the kernel for as many open files as the limits need; where it gives fewer, take fewer connections.

    Running out of files in the middle of service would also cost the store its links.
    """
    needed = files_needed(config)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return config
    granted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    if granted == needed:
        return config
    fewer = max(1, granted - FILES_SPARE)
    say(f"only {granted} files may be open: taking at most {fewer} connections; `readback doctor` says more")
    return replace(config, limits=replace(config.limits, connections_max=fewer))


async def run_dev(config: Config, *, say: Say, on_ready: Callable[[Ready, Demo], None]) -> bool:
    """Everything of `readback dev`. Returns whether the end was hurried. Raises what `cli_errors.explain` knows."""
    load_tls(config)
    make_data_dir(config.data)
    check_ports(config)
    config = replace(raise_file_limit(config, say), dev_tokens=True, work=True)
    ensure_secrets(config.secrets_path)
    secrets = load_secrets(config)
    if config.origins == frozenset():
        pages = {f"http://{name}:{port}" for name in ("localhost", "127.0.0.1") for port in DEV_PAGE_PORTS}
        config = replace(config, origins=frozenset(pages))

    async def run(stopper: Stopper) -> None:
        say("starting Postgres" if config.postgres_dir.exists() else "making a database (once, a few seconds)")
        settings = {"max_connections": str(LINKS_SPARE + LINKS_PER_NODE * config.workers)} if config.workers > 4 else {}
        async with running_postgres(config.postgres_dir, settings=settings) as server:
            applied = await migrate_database(server.url())
            if applied:
                say(f"schema: {', '.join(applied)}")
            url = server.url(user="readback_gateway")
            await _ensure_lobby(url)
            tokens = {
                who: demo_token(secrets, DEMO_TENANT, who, (), DEMO_TTL_S, audience=config.audience)
                for who in DEMO_PEOPLE
            }
            told = f"Postgres {server.version}, for as long as this runs: psql '{server.url()}'"
            async with _redis_for_workers(config, say) as (redis_url, bus):
                ready = partial(_with_demo, on_ready, Demo(tokens, told, bus))
                await _serve(replace(config, database_url=url, redis_url=redis_url), secrets, stopper, ready, Place())
            say("stopping Postgres")

    return await _with_signals(run, say)


def _with_demo(on_ready: Callable[[Ready, Demo], None], demo: Demo, ready: Ready) -> None:
    on_ready(ready, demo)


@asynccontextmanager
async def _redis_for_workers(config: Config, say: Say) -> AsyncIterator[tuple[str | None, str]]:
    """The Redis of `dev`, where workers need one and none was given: its URL, and what to tell of it."""
    if config.redis_url is not None or config.workers == 1:
        yield config.redis_url, ""
        return
    from store.embedded_redis import running_redis

    say("starting Redis")
    async with running_redis(config.data / "redis") as redis:
        version = ".".join(map(str, redis.version))
        yield redis.url, f"{config.workers} on one port, over Redis {version} for as long as this runs"
        say("stopping Redis")


async def run_serve(
    config: Config, *, say: Say, on_ready: Callable[[Ready], None], reload: Callable[[], Config] | None = None
) -> bool:
    """Everything of `readback serve`. Returns whether the end was hurried.

    ``reload`` reads the settings anew, for a SIGHUP; without it the present ones are kept and only keys are read.
    """
    if config.database_url is None:
        raise ConfigError(
            "`serve` needs a Postgres: give --database-url or READBACK_DATABASE_URL, such as "
            "postgresql://readback_gateway@localhost/readback; `readback dev` brings its own"
        )
    notifier, inherited = Notifier(os.environ), take_sockets(os.environ)
    secrets = load_secrets(config)
    load_tls(config)  # before workers are started, of whom each would say the same
    if config.workers > 1:
        _check_workers(config, inherited)
    if inherited is None:
        check_ports(config)
    if config.workers == 1:
        config = raise_file_limit(config, say)

    def read() -> tuple[Config, Secrets]:
        now = config if reload is None else reload()
        return now, load_secrets(now)

    folder = gather_in(os.environ)
    place = Place(notifier, inherited, worker=node_name(config), folder=folder, reload=read)
    try:
        return await _with_signals(lambda stopper: _serve(config, secrets, stopper, on_ready, place), say)
    finally:
        notifier.close()


async def run_work(
    config: Config, *, say: Say, on_ready: Callable[[Ready], None], reload: Callable[[], Config] | None = None
) -> bool:
    """Everything of `readback work`. Returns whether the end was hurried. ``reload`` as for `run_serve`."""
    if config.database_url is None:
        raise ConfigError(
            "`work` needs the Postgres that the nodes have: give --database-url or READBACK_DATABASE_URL; inside "
            "`readback dev` a worker runs already"
        )
    secrets = load_secrets(config)
    notifier = Notifier(os.environ)

    def read() -> tuple[Config, Secrets]:
        now = config if reload is None else reload()
        return now, load_secrets(now)

    async def run(stopper: Stopper) -> None:
        from gateway.serve import work  # late: it brings the whole server

        def ready(facts: Ready) -> None:
            stopper.ready(facts)
            on_ready(facts)

        await work(config, secrets, on_ready=ready, place=Place(notifier, reload=read))

    try:
        return await _with_signals(run, say)
    finally:
        notifier.close()


def _check_workers(config: Config, inherited: Inherited | None) -> None:
    if config.redis_url is None:
        raise ConfigError(
            f"{config.workers} workers need a Redis to hear each other: give --redis-url or READBACK_REDIS_URL, such as "
            "redis://localhost:6379/0; `readback dev --workers` brings its own"
        )
    if inherited is not None:
        raise ConfigError(
            "Workers open their ports by themselves, and systemd handed over its own: leave out --workers, and start "
            "one instance of readback@.service for each (systemctl enable --now readback@1 readback@2)"
        )


async def run_worker(config: Config, *, number: str, folder: Path, parent: int, say: Say) -> bool:
    """Everything of one worker of `gateway.workers`, which hands it its configuration as variables."""
    from gateway.workers import die_with

    die_with(parent)
    config = raise_file_limit(config, say)
    secrets = load_secrets(config)

    def read() -> tuple[Config, Secrets]:
        now = load_config()
        return now, load_secrets(now)

    notifier = Notifier(os.environ)
    place = Place(notifier, share_ports=True, worker=number, folder=folder, reload=read)
    try:
        return await _with_signals(lambda stopper: _serve(config, secrets, stopper, lambda ready: None, place), say)
    finally:
        notifier.close()


async def _with_signals(run: Callable[[Stopper], Awaitable[None]], say: Say) -> bool:
    stopper = Stopper(say)
    async with trio.open_nursery() as nursery:
        await nursery.start(stopper.obey)
        with stopper.scope:
            await run(stopper)
        nursery.cancel_scope.cancel()
    return stopper.hurried


def deaf_to_interrupts() -> None:
    """For a process that is about to end by itself: one more Ctrl-C must not turn that into a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


async def _serve(
    config: Config, secrets: Secrets, stopper: Stopper, on_ready: Callable[[Ready], None], place: Place
) -> None:
    def ready(facts: Ready) -> None:
        stopper.ready(facts)
        on_ready(facts)

    if config.workers > 1:
        from gateway.workers import run_workers

        await run_workers(config, on_ready=ready, notifier=place.notifier, reloads=place.reload is not None)
        return
    from gateway.serve import serve  # late: it brings the whole server

    await serve(config, secrets, on_ready=ready, place=place)


async def _ensure_lobby(url: str) -> None:
    async with open_postgres_log(url, new_key=new_key) as log:
        try:
            await log.create_stream(DEMO_TENANT, DEMO_STREAM, open=True, members=[], by="service:readback")
        except Refused as refused:
            if refused.code != "conflict":  # it is there since the first start
                raise


def new_key() -> str:
    return str(uuid4())


def demo_token(
    secrets: Secrets,
    tenant: str,
    principal: str,
    roles: tuple[str, ...],
    ttl_s: float,
    *,
    audience: str = "readback",
) -> str:
    """A token signed with the newest signing key (EdDSA) or, where there is none, with the newest shared secret (HS256), which
    only `dev` and ``dev_tokens`` take. Raises `ConfigError` for a name that is none."""
    now_s = time.time()
    try:
        for kid, seed in secrets.signing_keys.items():
            return issue(
                SigningKey(kid, seed),
                tenant=tenant,
                principal=principal,
                roles=roles,
                now_s=now_s,
                ttl_s=ttl_s,
                token_id=randomness.token_urlsafe(12),
                audience=audience,
            )
        for kid, secret in secrets.token_secrets.items():
            return mint(
                secret,
                kid=kid,
                tenant=tenant,
                principal=principal,
                roles=roles,
                now_s=now_s,
                ttl_s=ttl_s,
                audience=audience,
            )
    except ValueError as error:
        raise ConfigError(str(error)) from None
    raise ConfigError("There is no key to sign a token with: neither signing_keys nor token_secrets.")


def make_data_dir(path: Path) -> None:
    """Make the data folder, or see that it can be written. Raises `ConfigError`.

    As root it stays passable: the embedded Postgres runs as another user, in a folder of its own inside.
    """
    try:
        made = not path.exists()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if made and os.geteuid() == 0:
            path.chmod(0o711)
        problem = None if os.access(path, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)
    except OSError as error:
        problem = error.strerror
    if problem:
        raise ConfigError(
            f"The data folder {path} cannot be written: {problem}; choose another with READBACK_DATA or --data."
        )


def check_ports(config: Config) -> None:
    """`CliError` where a port is taken, before seconds were spent on a database. Port 0 is always free."""
    wanted = (
        (config.host, config.port, "READBACK_PORT"),
        (config.http_host, config.http_port, "READBACK_HTTP_PORT"),
    )
    for host, port, variable in wanted:
        if not port:
            continue
        try:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                probe.listen(1)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if config.database_url is None and running_url(config.postgres_dir) is not None:
                raise CliError(
                    f"Readback already runs on {config.data}: use it, stop it first, "
                    "or set READBACK_DATA, READBACK_PORT and READBACK_HTTP_PORT for a second one"
                ) from None
            raise CliError(
                f"port {port} on {host} is in use by another program: stop it, or choose another port with {variable} "
                "(0 takes any free one)"
            ) from None


def write_ready_file(path: Path, ready: Ready) -> None:
    """Ports and pid as JSON, for whoever started us: whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps({"port": ready.port, "http_port": ready.http_port, "pid": os.getpid()}) + "\n")
    draft.replace(path)


def program_name() -> str:
    """How the person at the terminal called us, to be pasted again."""
    called = sys.argv[0]
    if os.sep not in called or not os.path.exists(called):
        return "readback"
    if os.path.basename(called) == "__main__.py":
        return f"{os.path.basename(sys.executable)} -m gateway"
    relative = os.path.relpath(called)
    return relative if len(relative) < len(called) and not relative.startswith("..") else called
