"""``python -m store.measure_pings``: what a call of ``take_pings`` costs, on this machine.

Starts an embedded Postgres with its durable settings in a temporary folder, enrols devices, and takes one ping of each in
a call, call after call: the next number of each (``next``), numbers that leave a gap (``jump``), the numbers left out, late
(``late``), and all once more (``replay``). Per call the round trip; per ping the CPU of the server's processes and of this
one. docs/decisions/0041 keeps figures.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from base64 import urlsafe_b64encode
from collections.abc import Sequence

import trio

from core.directory import Directory, Note, Ping
from store.embedded import EmbeddedPostgres, running_postgres
from store.links import asyncio_loop
from store.measure import backend_cpu_s, own_cpu_s
from store.postgres import migrate_database, open_postgres_log

NOTE = Note("service:readback", b"{}")
TENANTS = 10
JUMP = 100


def owner(number: int) -> tuple[str, str]:
    return f"tenant-{number % TENANTS}", f"device:truck-{number:05}"


async def enrol(directory: Directory, number: int) -> None:
    tenant, device = owner(number)
    claim, refresh, key = (hashlib.sha256(f"{name} {number}".encode()).digest() for name in ("claim", "refresh", "key"))
    await directory.mint_claim(tenant, device, claim, at_ms=1, expires_ms=2, note=NOTE)
    await directory.redeem_claim(
        claim,
        key=urlsafe_b64encode(key).rstrip(b"=").decode(),
        public_key=key,
        refresh_hash=refresh,
        at_ms=1,
        refresh_until_ms=2,
        note=NOTE,
    )


async def play(
    directory: Directory, server: EmbeddedPostgres, name: str, devices: int, seqs: Sequence[int], expected: Ping
) -> None:
    """One call a number, with that number of every device."""
    round_trips = []
    backend, own = backend_cpu_s(server), own_cpu_s()
    for seq in seqs:
        pings = [(*owner(number), seq) for number in range(devices)]
        sent = time.perf_counter()
        verdicts = await directory.take_pings(pings)
        round_trips.append(time.perf_counter() - sent)
        assert set(verdicts) == {expected}
    own, backend = own_cpu_s() - own, backend_cpu_s(server) - backend
    round_trips.sort()
    p50, p99 = (round_trips[int(len(round_trips) * share)] * 1e3 for share in (0.5, 0.99))
    each = 1e6 / len(seqs) / devices
    print(
        f"{name:7} {devices} devices a call  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms  "
        f"ours {own * each:5.1f} us/ping  postgres {backend * each:5.1f} us/ping",
        flush=True,
    )


async def run(devices: int, calls: int) -> None:
    with tempfile.TemporaryDirectory(prefix="readback-measure-") as folder:
        os.chmod(folder, 0o711)  # so that the server may run as nobody
        async with running_postgres(f"{folder}/postgres") as server, asyncio_loop():
            await migrate_database(server.url())
            async with open_postgres_log(server.url(user="readback_gateway")) as log:
                for number in range(devices):
                    await enrol(log.directory, number)
                steps = range(1, calls + 1)
                jumps = [calls + JUMP * step for step in steps]
                late = [seq - 1 for seq in jumps if seq > jumps[-1] - 4_096]
                await play(log.directory, server, "next", devices, steps, Ping.ACCEPTED)
                await play(log.directory, server, "jump", devices, jumps, Ping.ACCEPTED)
                await play(log.directory, server, "late", devices, late, Ping.ACCEPTED)
                await play(log.directory, server, "replay", devices, late, Ping.DUPLICATE)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m store.measure_pings", description=__doc__)
    parser.add_argument("--devices", type=int, default=1_000, help="of one call (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=40, help="of each kind (default: %(default)s)")
    chosen = parser.parse_args()
    trio.run(run, chosen.devices, chosen.calls)


if __name__ == "__main__":
    main()
