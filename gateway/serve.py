"""From a `Config` to a serving node with its ports: what `readback serve`, `readback dev` and each worker run.

Ports are bound before anything else is started, so that one in use is an error at once. The HTTP API ends after the
node has drained: probes and operators can look until the last moment. Where siblings serve the same ports it ends at
once, so that probes meet those who stay.

Redis is only speed: one that does not answer at start is said and waited for while the node serves from its log; one that
can never do (too old, full, a replica, without rights) is an error at start, for nobody would look for it later.
"""

from __future__ import annotations

import faulthandler
import logging
import secrets as randomness
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from fastapi import FastAPI

from core.addresses import Trusted
from core.model import Epoch
from core.ports import StoreError
from core.tenants import Tenants
from core.work_limits import WorkLimits
from gateway.anchoring import Anchoring, signing_key
from gateway.arrivals.make import equipped
from gateway.collect import Collector
from gateway.config import Config, ConfigError, Ready, Secrets, without_password
from gateway.desk import Desk
from gateway.gather import Gather
from gateway.http import make_app
from gateway.http_serve import bind_http, serve_http
from gateway.memory import freeze
from gateway.node import Node, running
from gateway.office import Office
from gateway.place import Place, node_name
from gateway.push.desk import PushDesk
from gateway.reads import Reads
from gateway.shard import Shard
from gateway.systemd import Watchdog
from gateway.tenants import load_tenants
from gateway.tls import load_tls
from gateway.trips_desk import TripsDesk
from gateway.work_desk import WorkDesk
from store.anchor_places import open_place
from store.bus import BusUnreachable, RedisBus, check_redis
from store.links import StoreLimits
from store.postgres import PostgresLog, open_postgres_log
from store.proving import prover_of

if TYPE_CHECKING:
    from gateway.capture import Capture
    from gateway.work.worker import Worker

log = logging.getLogger("readback.serve")

LEAVE_S = 2.0
"""How long a worker may take to give back what it holds; its leases run out by themselves otherwise."""
BACKLOG = 4_096
"""Connections the kernel holds for one turn of the loop: a whole room that comes back at once."""


def bind_websocket(host: str, port: int, *, share: bool = False) -> socket.socket:
    """A listening socket; with ``share``, one of several on the port, among which the kernel spreads newcomers."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def new_id() -> str:
    """A session's name: 96 random bits."""
    return randomness.token_urlsafe(12)


async def serve(
    config: Config, secrets: Secrets, *, on_ready: Callable[[Ready], object], place: Place | None = None
) -> None:
    """Serve until drained (`Ready.drain`) or cancelled. ``on_ready(Ready)`` is called once both ports answer.

    Raises `OSError` for a port that cannot be bound, `core.ports.StoreError` where the log cannot be used or the bus
    never could be.
    """
    assert config.database_url is not None
    place = place or Place()
    tls = load_tls(config)
    tenants = _tenants(config)
    _check_verifiable(config, secrets, tenants)
    sock, http_sock = _bind(config, place)
    faulthandler.enable()  # a watchdog ends a loop that hangs with SIGABRT: then this says where
    async with open_postgres_log(
        config.database_url, limits=StoreLimits(query_timeout_s=config.limits.commit_timeout_s)
    ) as store:
        # A name of this very process: another start of the node is another node to its peers.
        name = f"{node_name(config, place.worker if place.share_ports else '')}.{randomness.token_hex(4)}"
        async with (
            _node(config, secrets, tenants, store, name) as node,
            _captured(config, node, name) as capture,
            trio.open_nursery() as nursery,
        ):
            node.shard.tls = tls
            worker = await _work(node, nursery, config, secrets, store)
            _anchor(node, nursery, config, secrets)
            await _serve_node(node, nursery, config, place, sock, http_sock, on_ready, capture, worker)


async def _serve_node(
    node: Node,
    nursery: trio.Nursery,
    config: Config,
    place: Place,
    sock: socket.socket,
    http_sock: socket.socket,
    on_ready: Callable[[Ready], object],
    capture: Capture | None,
    worker: Worker | None,
) -> None:
    """Everything around the node, in the nursery that ends with it."""
    assert config.database_url is not None
    port, http_port = sock.getsockname()[1], http_sock.getsockname()[1]
    ending = _Ending(node, place, capture, worker)
    gather = None
    if place.folder is not None:
        registry, health = node.measures.registry, node.measures.health
        gather = Gather(place.folder, place.worker, metrics=registry.text, health=health)
        ending.answering = await nursery.start(gather.run)
    app = _app(node, config, gather)
    nursery.start_soon(partial(serve_http, app, [http_sock], shutdown=ending.http.wait, tls=node.shard.tls))
    nursery.start_soon(ending.run)
    node.shard.listen(sock)
    freeze()
    node.pulse.on_beat = Watchdog(place.notifier, _turning(node.shard), trio.current_time)
    place.notifier.ready(f"serving on port {port}")
    on_ready(
        Ready(
            port,
            http_port,
            without_password(config.database_url),
            drain=ending.asked.set,
            retire=ending.retire,
            reload=None if place.reload is None else partial(_reload, node, place, place.reload, worker),
        )
    )


@asynccontextmanager
async def _node(
    config: Config, secrets: Secrets, tenants: Tenants, store: PostgresLog, name: str
) -> AsyncIterator[Node]:
    """The node that serves, or that a worker has do things."""
    bus = await _open_bus(config, await store.epoch(), name)
    async with running(
        store,
        secrets,
        limits=config.limits,
        audience=config.audience,
        origins=config.origins,
        new_id=new_id,
        bus=bus,
        node_id=name,
        tenants=tenants,
        directory=store.directory,
        hs256=config.dev_tokens,
        public_url=config.public_url,
        audit=True,
        work=store.work,
        tracks=store.tracks,
    ) as node:
        node.shard.trusted, node.shard.proxy_protocol = Trusted(config.trusted_proxies), config.proxy_protocol
        async with equipped(node, config, secrets, store.purse):
            yield node


def _app(node: Node, config: Config, gather: Gather | None) -> FastAPI:
    desk, tracks, positions = Desk(node), node.tracks, node.positions
    return make_app(
        desk,
        collect=None if tracks is None or positions is None else Collector(node, tracks, positions),
        trips=None if tracks is None else TripsDesk(node, desk, tracks),
        pushes=None if tracks is None else PushDesk(tracks, node.wall),
        reads=None if node.work is None else Reads(node, node.work, desk),
        work=None if node.work is None else WorkDesk(node, node.work),
        office=Office(node, None if config.anchor is None else open_place(config.anchor)),
        limits=config.limits,
        origins=config.origins,
        gather=gather,
        trusted=node.shard.trusted,
        barred_s=node.shard.barred_s,
    )


@asynccontextmanager
async def _captured(config: Config, node: Node, node_id: str) -> AsyncIterator[Capture | None]:
    """What clients send and are sent is written down, where that is wanted; else nothing of it is even loaded."""
    if config.capture is None:
        yield None
        return
    from gateway.capture import Capture

    bus = node.bus is not None
    async with Capture(config.capture, node_id, config.limits, node.wall, bus=bus).running(node) as capture:
        yield capture


class _Ending:
    """How the node leaves, from being asked to the last HTTP answer."""

    def __init__(self, node: Node, place: Place, capture: Capture | None, worker: Worker | None) -> None:
        self._node = node
        self._worker = worker
        self._capture = capture
        self._place = place
        self._to_siblings = place.inherited is not None
        self.answering: trio.CancelScope | None = None
        """Of what answers siblings; ended last."""
        self.asked = trio.Event()
        self.http = trio.Event()
        """The HTTP API may end."""

    def retire(self) -> None:
        self._to_siblings = True
        self.asked.set()

    async def run(self) -> None:
        await self.asked.wait()
        node, notifier = self._node, self._place.notifier
        notifier.stopping(f"draining {len(node.shard.connections)} connections")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notifier.extend_while_stopping)
            if self._place.inherited is not None:
                # Who waits in the queue of a shared socket is served by whoever shares it, or by the next start.
                node.shard.stop_listening()
            if self._to_siblings:
                self.http.set()
            await _leave(self._worker)
            if self._capture is not None:
                self._capture.draining(len(node.shard.connections))
            await node.drain(close_listener=self._to_siblings)
            if self._capture is not None:
                self._capture.drained(node.drained.unanswered)
            nursery.cancel_scope.cancel()
        self.http.set()
        if self.answering is not None:
            self.answering.cancel()
        notifier.status("drained")


async def _work(
    node: Node, nursery: trio.Nursery, config: Config, secrets: Secrets, store: PostgresLog
) -> Worker | None:
    """A worker beside the node, where that is wanted; else nothing of it is even loaded."""
    if not config.work:
        return None
    from gateway.push.make import pushing_of
    from gateway.work.make import make_worker

    pushing = pushing_of(config, secrets, node.tracks, node.wall)
    worker = make_worker(
        node,
        store.work,
        rules_folder=config.rules,
        webhook_keys=secrets.webhook_keys,
        webhooks_private=config.webhooks_private,
        limits=WorkLimits(),
        holder=node.node_id,
        rng=node.rng,
        pushing=pushing,
    )
    worker.committed.append(node.rows_changed)
    if node.cluster is not None:
        node.cluster.listen_everywhere()
    await nursery.start(worker.run)
    return worker


async def _leave(worker: Worker | None) -> None:
    """Before the node does: what the worker gives others to do goes through the node's lanes."""
    if worker is None:
        return
    with trio.move_on_after(LEAVE_S):
        try:
            await worker.leave()
        except StoreError as error:
            log.warning("the worker's leases run out by themselves: %s", error)
        for close in worker.closing:
            await close()


async def work(config: Config, secrets: Secrets, *, on_ready: Callable[[Ready], object], place: Place) -> None:
    """A worker alone: a node that takes no clients, for what the worker gives it to do, and the HTTP port for probes.

    Raises as `serve` does.
    """
    config = replace(config, work=True)
    assert config.database_url is not None
    tls = load_tls(config)
    tenants = _tenants(config)
    _check_verifiable(config, secrets, tenants)
    http_sock = bind_http(config.http_host, config.http_port)
    faulthandler.enable()
    async with open_postgres_log(
        config.database_url, limits=StoreLimits(query_timeout_s=config.limits.commit_timeout_s)
    ) as store:
        name = f"{node_name(config, 'work')}.{randomness.token_hex(4)}"
        async with _node(config, secrets, tenants, store, name) as node, trio.open_nursery() as nursery:
            node.shard.tls = tls
            worker = await _work(node, nursery, config, secrets, store)
            ending = _Ending(node, place, None, worker)
            app = _app(node, config, None)
            nursery.start_soon(partial(serve_http, app, [http_sock], shutdown=ending.http.wait, tls=tls))
            nursery.start_soon(ending.run)
            node.pulse.on_beat = Watchdog(place.notifier, lambda: True, trio.current_time)
            place.notifier.ready("working")
            on_ready(
                Ready(
                    0,
                    http_sock.getsockname()[1],
                    without_password(config.database_url),
                    drain=ending.asked.set,
                    reload=None if place.reload is None else partial(_reload, node, place, place.reload, worker),
                )
            )


def _reload_rules(worker: Worker, folder: Path) -> None:
    from gateway.work.make import reload_rules

    problems = reload_rules(worker, folder)
    for problem in problems:
        log.error("%s", problem)
    log.warning(
        "the rules stay as they were" if problems else "reloaded: the rules in %s", *([] if problems else [folder])
    )


def _bind(config: Config, place: Place) -> tuple[socket.socket, socket.socket]:
    if place.inherited is not None:
        return place.inherited.websocket, place.inherited.http
    return (
        bind_websocket(config.host, config.port, share=place.share_ports),
        bind_http(config.http_host, config.http_port, share=place.share_ports),
    )


async def _open_bus(config: Config, epoch: Epoch, node_id: str) -> RedisBus | None:
    if config.redis_url is None:
        return None
    try:
        for warning in await check_redis(config.redis_url, epoch.log):
            log.warning("%s", warning)
    except BusUnreachable as error:
        log.warning("%s; the log is tailed until it does", error)
    return RedisBus(config.redis_url, cell=epoch.log, node=node_id)


def _anchor(node: Node, nursery: trio.Nursery, config: Config, secrets: Secrets) -> None:
    """Write the log's hashes down elsewhere, where that is wanted."""
    if config.anchor is None:
        return
    prover = prover_of(node.log)
    if signing_key(secrets) is None or prover is None:
        raise ConfigError("Anchors are signed: give the gateway a signing key (signing_keys), or leave out anchor.")
    anchoring = Anchoring(
        prover,
        open_place(config.anchor),
        lambda: node.proving.signer,
        wall=node.wall,
        interval_s=node.limits.anchor_interval_s,
        registry=node.measures.registry,
    )
    nursery.start_soon(anchoring.run)


def _tenants(config: Config) -> Tenants:
    return Tenants() if config.tenants_file is None else load_tenants(config.tenants_file)


def _check_verifiable(config: Config, secrets: Secrets, tenants: Tenants) -> None:
    """Raises `ConfigError` where there would be no access token that this node takes."""
    shared = config.dev_tokens and secrets.token_secrets
    if not (shared or secrets.signing_keys or any(tenant.issuers for tenant in tenants.named.values())):
        raise ConfigError(
            "No access token could be verified: name the issuers of your tenants in a tenants file (tenants_file), give the "
            "gateway signing keys of its own, or, to try things out, take tokens signed with the shared secrets (dev_tokens)."
        )


def _turning(shard: Shard) -> Callable[[], bool]:
    """Whether the shard serves: with something ready to be served, its turns go on."""
    turns = -1

    def turning() -> bool:
        nonlocal turns
        before, turns = turns, shard.counts.turns
        return turns != before or not shard.epoll.poll(0, 1)

    return turning


def _reload(node: Node, place: Place, read: Callable[[], tuple[Config, Secrets]], worker: Worker | None = None) -> None:
    """Keys, rules and log level as they are now; what cannot be used is said, and changes nothing."""
    place.notifier.reloading()
    try:
        config, secrets = read()
        tenants = _tenants(config)
        _check_verifiable(replace(config, dev_tokens=node.proving.hs256), secrets, tenants)
    except ConfigError as error:
        log.error("nothing was reloaded: %s", error)
    else:
        for tenant in node.use_keys(secrets, tenants):
            node.note(tenant, "limits.changed", names=["quotas"], by="the tenants file")
        changed, later = node.use_limits(config.limits)
        logging.getLogger().setLevel(config.log_level.upper())
        signing = {} if not node.proving.hs256 else secrets.token_secrets
        newest = next(iter(secrets.signing_keys or signing), None), next(iter(secrets.resume_keys))
        log.warning("reloaded: keys %r and %r sign, log level %s", *newest, config.log_level)
        if changed:
            log.warning("reloaded: the limits %s", ", ".join(changed))
        if later:
            log.warning("these limits change with the next start only: %s", ", ".join(later))
        if worker is not None and config.rules is not None:
            _reload_rules(worker, config.rules)
    if node.shard.tls is not None and node.shard.tls.reload():
        log.warning("reloaded: the certificate, for connections from now on")
    place.notifier.ready("serving")
