"""Puts a worker together: the consumers and runners that there are, over a node that does what they want done.

For: `readback work`, and `dev` and `serve` beside their node. Raises `gateway.config.ConfigError` for rules that cannot be
used: an installation that had rules does not go on without them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from core.push.rules import PushLimits
from core.rules.load import Problem
from core.rules.model import RuleSet
from core.work import Work
from core.work_limits import WorkLimits
from gateway.config import ConfigError
from gateway.push.make import Pushing
from gateway.push.sender import Pusher, PushRows
from gateway.work.alerts import Alerts
from gateway.work.jobs import Deeds, JobRunner
from gateway.work.long import CLEAN, Clean, LongJob, LongRunner, standing_task
from gateway.work.orders import Orders
from gateway.work.outside import Outside
from gateway.work.ports import Consumer, Runner
from gateway.work.retention import RETAIN, Retain
from gateway.work.rules import Rules, read_rules
from gateway.work.sagas import SagaRunner
from gateway.work.timers import TimerRows, TimerRunner
from gateway.work.views import Views
from gateway.work.webhooks import Network, Webhooks
from gateway.work.worker import Worker, facts

if TYPE_CHECKING:
    from gateway.node import Node

log = logging.getLogger("readback.work")

EVERYWHERE: Final = (ip_network("0.0.0.0/0"), ip_network("::/0"))
PROBLEMS_TOLD: Final = 10


def make_worker(
    node: Node,
    work: Work,
    *,
    rules_folder: Path | None,
    webhook_keys: Mapping[str, bytes],
    limits: WorkLimits,
    holder: str,
    rng: Random,
    webhooks_private: bool = False,
    private: Sequence[Network] = (),
    webhooks: Webhooks | None = None,
    measured: bool = True,
    pushing: Pushing | None = None,
) -> Worker:
    """Run it with `Worker.run` while the node runs; end it with `Worker.leave` before the node drains.

    ``webhook_keys`` are the installation's, newest first; without any, no webhook goes out. ``webhooks_private``: they may go
    to any address; ``private``: to these networks beside the public ones. ``measured``: the node's metrics tell of it.
    ``pushing``: alerts are pushed to phones too; without it they stay in the inboxes.
    """
    orders, outside = Orders(node), Outside(limits)
    if webhooks is None:
        allowed = EVERYWHERE if webhooks_private else tuple(private)
        webhooks = Webhooks(outside, limits, node.wall, webhook_keys, private=allowed)
    deeds = Deeds(orders, webhooks, None if node.arrivals is None else node.arrivals.look)
    wanted = RuleSet() if rules_folder is None else rules_of(rules_folder)
    if rules_folder is not None:
        say_rules(wanted, rules_folder, webhook_keys)
    rules = Rules(node.log, work, wanted, node.wall)
    consumers: list[Consumer] = [Views(node.log), TimerRows(), rules, Alerts()]
    pusher = None
    if pushing is not None:
        pusher = Pusher(pushing.tracks, pushing.services.by_name, node.wall, rng.random, PushLimits())
        consumers.append(PushRows(node.wall))
    jobs: dict[str, LongJob] = {CLEAN: Clean(work, limits, node.wall)}
    if node.tracks is not None:
        jobs[RETAIN] = Retain(node.tracks, lambda: node.gatekeeper.tenants, node.wall)
    runners: list[Runner] = [
        TimerRunner(orders),
        JobRunner(deeds, rng.random, pusher),
        SagaRunner(deeds),
        LongRunner(jobs),
    ]
    worker = Worker(node.log, work, consumers, runners, holder=holder, limits=limits, rng=rng, wall=node.wall)
    worker.standing += [standing_task(job, int(1000 * node.wall())) for job in jobs]
    node.on_commit.append(worker.heard)
    if pushing is not None:
        worker.closing.append(pushing.services.aclose)
    worker.restored = lambda: node.follower.restored
    if measured:
        add_metrics(node, worker, outside, rules)
        if pushing is not None and pusher is not None:
            add_push_metrics(node, pusher, pushing.services.outside)
        node.measures.more_facts.append(partial(facts, worker))
    return worker


def rules_of(folder: Path) -> RuleSet:
    """Raises `ConfigError` with what is wrong, the first few of it."""
    found = read_rules(folder)
    if isinstance(found, RuleSet):
        return found
    said = [str(problem) for problem in found[:PROBLEMS_TOLD]]
    more = f" … and {len(found) - PROBLEMS_TOLD} more" if len(found) > PROBLEMS_TOLD else ""
    raise ConfigError(f"The rules in {folder} cannot be used: {'; '.join(said)}{more}.")


def say_rules(rules: RuleSet, folder: Path, webhook_keys: Mapping[str, bytes]) -> None:
    """Into the log: how many there are, and those of which something can never be done as the worker is set up."""
    log.info("%d rules are obeyed, from %s", len(rules.rules), folder)
    calling = dict.fromkeys(rule.id for rule in rules.rules if any(do.kind == "webhook" for do in rule.do))
    if calling and not webhook_keys:
        says = "there are no webhook_keys in the secrets: webhooks of the rules %s will be parked instead of sent"
        log.warning(says, ", ".join(calling))


def reload_rules(worker: Worker, folder: Path) -> list[Problem]:
    """Take the folder's rules anew, as on SIGHUP; where something is wrong with them, the old ones stay."""
    found = read_rules(folder)
    if not isinstance(found, RuleSet):
        return found
    rules = worker.consumers[Rules.name]
    assert isinstance(rules, Rules)
    rules.use(found)
    return []


def add_metrics(node: Node, worker: Worker, outside: Outside, rules: Rules) -> None:
    registry = node.measures.registry
    gauge, counter = registry.gauge, registry.counter_read
    registry.table(
        "gauge", "readback_work_behind", "Events to take, as last read.", "consumer", partial(_behind, worker)
    )
    gauge("readback_work_partitions", "Partitions leased, of all consumers.", lambda: len(worker.lags()))
    counter("readback_work_events_total", "Events that consumers took.", lambda: worker.events)
    counter("readback_work_commits_total", "Commits of consumers.", lambda: worker.commits)
    counter("readback_work_fenced_total", "Leases found to be another's.", lambda: worker.fenced)
    counter("readback_work_parked_streams_total", "Streams parked.", lambda: worker.parked)
    counter("readback_work_fired_total", "Rules that fired.", lambda: rules.fired)
    gauge("readback_work_store_up", "1 while the worker's store answers.", lambda: int(worker.trouble is None))
    tasks = "Tasks done, failed and put off, given to an operator."
    for name, kind in worker.tasks.kinds.items():
        gauge("readback_work_running", "Tasks running now.", lambda kind=kind: kind.running, kind=name)  # type: ignore[misc]
        for state in ("done", "retried", "parked"):
            counter("readback_work_tasks_total", tasks, partial(getattr, kind, state), kind=name, state=state)
    for state in ("closed", "open", "half-open"):
        gauge(
            "readback_work_breakers", "Hosts outside by their breaker.", partial(_breakers, outside, state), state=state
        )


def add_push_metrics(node: Node, pusher: Pusher, outside: Outside) -> None:
    registry = node.measures.registry
    for service in ("fcm", "apns"):
        for what in ("sent", "dead", "refused", "later"):
            told = "What push services said, a device and a try each."
            count = partial(pusher.counts.__getitem__, (service, what))
            registry.counter_read("readback_pushes_total", told, count, service=service, verdict=what)
    for state in ("closed", "open", "half-open"):
        registry.gauge(
            "readback_push_breakers", "Push services by their breaker.", partial(_breakers, outside, state), state=state
        )


def _behind(worker: Worker) -> Mapping[str, int]:
    behind = dict.fromkeys(worker.consumers, 0)
    for (consumer, _), count in worker.lags().items():
        behind[consumer] += count
    return behind


def _breakers(outside: Outside, state: str) -> int:
    return outside.states()[state]
