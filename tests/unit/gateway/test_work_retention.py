"""The standing job that lets samples go: as long as each tenant says, once a day, and the same when it is done again."""

from __future__ import annotations

import time

from core.tenants import Arrivals, Tenant, Tenants
from core.tracks import Sample
from core.work import Task
from gateway.work.long import standing_task
from gateway.work.retention import RETAIN, RETAIN_EVERY_S, Retain
from store.memory_tracks import MemoryTracks
from tests.nodes import memory_log

DAY_MS = 86_400_000


def sample(tenant: str, at_ms: int) -> Sample:
    return Sample(tenant, "device:x", "trip:9", at_ms, 1, -33.9, 151.2, None, None, None, None, "accepted", "", at_ms)


def task() -> Task:
    new = standing_task(RETAIN, 1)
    assert (new.kind, new.body) == ("long", {"job": "retain"})
    return None  # type: ignore[return-value]  # the job looks at nothing of it


async def test_each_tenant_s_samples_go_when_it_says() -> None:
    """Those of a tenant that is not named after the installation's days; and it comes again tomorrow."""
    tracks, now_s = MemoryTracks(memory_log()), time.time()
    now_ms = int(1000 * now_s)
    kept = [(tenant, days) for tenant in ("acme", "zen", "other") for days in (1, 5, 20, 40)]
    await tracks.keep([sample(tenant, now_ms - days * DAY_MS) for tenant, days in kept], [])
    tenants = Tenants(
        {
            "acme": Tenant("acme", arrivals=Arrivals(retention_days=2)),
            "zen": Tenant("zen", arrivals=Arrivals(retention_days=100)),
        },
        arrivals=Arrivals(retention_days=10),
    )
    job = Retain(tracks, lambda: tenants, lambda: now_s)
    step = await job.step(task(), None)
    assert (step.finished, step.again_s) == (False, RETAIN_EVERY_S)
    assert step.at > 0
    assert step.progress == {"gone": step.at}
    left = {
        tenant: len(await tracks.track(tenant, "trip:9", from_ms=0, to_ms=2**50)) for tenant in ("acme", "zen", "other")
    }
    assert left == {"acme": 1, "zen": 4, "other": 2}
    assert (await job.step(task(), step.at)).at == step.at
