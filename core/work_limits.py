"""Every bound of a worker in one table, as `core.limits` is a node's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """Bounds of one worker. A default is right for a worker that shares two cores with a node."""

    lease_s: float = 10.0  # a worker that was not heard of for so long has lost its partitions
    beat_s: float = 2.0  # how often it says that it lives: four may be lost
    batch_events: int = 1_000  # events of one commit of a consumer: some 20 ms of work
    poll_s: float = 0.25  # how often a partition is looked at that nobody told of
    names_kept_max: int = 100_000  # streams whose names are remembered: 30 MB if ever full
    parked_max: int = 10_000  # streams that one consumer waits with; past it, the consumer stops instead
    claim_tasks: int = 64  # tasks claimed at once, a kind
    running_tasks_max: int = 32  # of one kind at once, here: a kind that hangs takes no other's room
    task_s: float = 30.0  # a claim; what runs longer says so as it goes
    timer_s: float = 5.0  # a claim of a timer, which is one command: how late it fires where its worker dies
    retry_first_s: float = 0.5  # wait after a first failure, doubled each time
    retry_max_s: float = 300.0
    task_look_s: float = 1.0  # how often tasks are looked for that nobody told of
    keep_done_s: float = 604_800.0  # a task that is done is kept a week, for who asks what became of it
    webhook_s: float = 10.0  # a call outside, all in all
    webhooks_per_host_max: int = 4  # at once, so that a slow host takes no other's room
    breaker_failures: int = 5  # in a row, and a host is left alone
    breaker_rest_s: float = 30.0  # for so long; then one call tries
