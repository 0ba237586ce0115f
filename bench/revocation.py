"""How soon a revocation holds: ``python -m bench.revocation [--rounds N] [--json FILE]``.

Three nodes with clients on each, with Redis and without. An admin revokes a principal at the first node's HTTP API; what is
measured is from sending that request to the ``bye`` of the last of that principal's connections on any node, and to the first
refusal of a ``hello`` with its old token at a node that did not take the request. The promise is one second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path
from typing import Final

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from bench.node import Cluster, readback_cluster
from core.tokens import mint
from gateway.config import Config
from gateway.keyring import load_secrets

NODES: Final = 3
EACH: Final = 5
"""Connections of the principal on each node."""
LIMIT_S: Final = 1.0


def _token(cluster: Cluster, principal: str, roles: tuple[str, ...] = ()) -> str:
    assert cluster.base is not None
    secrets = load_secrets(Config(data=cluster.base.folder, secrets_file=cluster.base.secrets_path), {})
    kid, secret = next(iter(secrets.token_secrets.items()))
    return mint(secret, kid=kid, tenant="bench", principal=principal, roles=roles, now_s=time.time(), ttl_s=3_600.0)


def _revoke(cluster: Cluster, admin: str, principal: str) -> None:
    body = json.dumps({"scope": "principal", "value": principal, "reason": "bench"}).encode()
    headers = {"authorization": f"Bearer {admin}", "content-type": "application/json"}
    url = f"http://127.0.0.1:{cluster.places[0].http_port}/v1/revocations"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers, method="POST"), timeout=10):
        pass


async def _hello(socket: WebSocketConnection, token: str) -> dict[str, object]:
    await socket.send_message(json.dumps({"op": "hello", "id": 1, "token": token}))
    answer: dict[str, object] = json.loads(await socket.get_message())
    return answer


async def _until_ended(socket: WebSocketConnection, ended: list[float]) -> None:
    try:
        while True:
            await socket.get_message()
    except ConnectionClosed as closed:
        if closed.reason is None or closed.reason.code != 4502:
            raise
        ended.append(time.monotonic())


async def _round(cluster: Cluster, number: int) -> tuple[float, float]:
    """Seconds to the last end, and to the refusal of a newcomer at the last node."""
    principal = f"user:u{number}"
    ended: list[float] = []
    admin, token = _token(cluster, "user:boss", ("admin",)), _token(cluster, principal)
    refused = 0.0
    async with trio.open_nursery() as nursery, trio.open_nursery() as sockets:

        async def follow(port: int, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            async with open_websocket_url(f"ws://127.0.0.1:{port}/v1/ws") as socket:
                answer = await _hello(socket, token)
                assert answer["op"] == "welcome", answer
                task_status.started()
                await _until_ended(socket, ended)

        for place in cluster.places:
            for _ in range(EACH):
                await sockets.start(follow, place.port)
        began = time.monotonic()
        nursery.start_soon(partial(trio.to_thread.run_sync, _revoke, cluster, admin, principal))
        while not refused:
            async with open_websocket_url(f"ws://127.0.0.1:{cluster.places[-1].port}/v1/ws") as socket:
                answer = await _hello(socket, token)
                if answer["op"] == "bye":
                    refused = time.monotonic() - began
    assert len(ended) == NODES * EACH
    return max(ended) - began, refused


def measure(rounds: int, *, bus: bool) -> dict[str, list[float]]:
    with readback_cluster(NODES, bus=bus) as cluster:
        taken = [trio.run(_round, cluster, number) for number in range(rounds + 1)][1:]  # the first one warms up
    return {"ended": [one for one, _ in taken], "refused": [two for _, two in taken]}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.revocation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args(arguments)
    found = {name: measure(options.rounds, bus=bus) for name, bus in (("with Redis", True), ("without", False))}
    print(f"{NODES} nodes, {EACH} connections on each, {options.rounds} revocations each; milliseconds")
    print(f"{'':12} {'':32} {'median':>8} {'worst':>8}")
    worst = 0.0
    for name, figures in found.items():
        for what, words in (("ended", "request to the last bye"), ("refused", "request to refusal elsewhere")):
            values = sorted(figures[what])
            worst = max(worst, values[-1])
            print(f"{name:12} {words:32} {1000 * statistics.median(values):8.0f} {1000 * values[-1]:8.0f}")
    print(f"at most {LIMIT_S:g} s: {'met' if worst <= LIMIT_S else 'not met'}")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if worst <= LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
