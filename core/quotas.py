"""How much a tenant and each of its principals may use of a node: token buckets, and counts.

A bucket holds what its rate brings in ``burst_s``; what is taken is gone until the rate has brought it back. Nothing ticks:
a bucket is looked at when something is taken. Where nothing is bounded there is no bucket, and a connection whose tenant and
principal are both unbounded has no meter at all, so that quotas cost nothing where nobody asked for them.

A quota is the tenant's in the whole cell: of N nodes each gives an Nth part, which is right where clients spread evenly, as
they do behind a balancer and after a drain. Nodes that come and go change the part (`Accounts.refit`); what a bucket held
stays, up to its new size. docs/decisions/0048 has what else was looked at.

Promises: over any time t a bucket lets no more than burst + rate * t through; whoever is refused is told when as much as it
asked for will be there; refusing takes nothing. Does not: queue anybody, or read a clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from core.tenants import Quotas

WAIT_MIN_S: Final = 0.001
WAIT_MAX_S: Final = 60.0
"""What is told at most, also to who asks for more than a bucket ever holds."""


class Bucket:
    """``rate`` a second, at most ``burst`` at once."""

    __slots__ = ("at_s", "burst", "level", "rate")

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self.rate = rate
        self.burst = burst
        self.level = burst
        self.at_s = now_s

    def take(self, cost: float, now_s: float) -> float:
        """0 where ``cost`` was taken; else how long until it could be, in seconds, and nothing was taken."""
        level = self.level
        if now_s > self.at_s:
            level += (now_s - self.at_s) * self.rate
            if level > self.burst:
                level = self.burst
            self.at_s = now_s
        if level >= cost:
            self.level = level - cost
            return 0.0
        self.level = level
        return min(max((cost - level) / self.rate, WAIT_MIN_S), WAIT_MAX_S)

    def full(self, now_s: float) -> bool:
        return self.level + max(0.0, now_s - self.at_s) * self.rate >= self.burst

    def refit(self, rate: float, burst: float, now_s: float) -> None:
        self.take(0.0, now_s)
        self.rate = rate
        self.burst = burst
        self.level = min(self.level, burst)


def _refitted(bucket: Bucket | None, rate: float, burst_s: float, least: float, now_s: float) -> Bucket | None:
    """The bucket for this rate; ``least`` is what it must hold at once for anything to pass at all."""
    if rate <= 0.0:
        return None
    burst = max(rate * burst_s, least)
    if bucket is None:
        return Bucket(rate, burst, now_s)
    bucket.refit(rate, burst, now_s)
    return bucket


class Account:
    """One tenant on this node. ``connections`` and ``streams`` are counted here; the buckets are ``None`` where unbounded."""

    __slots__ = (
        "bytes",
        "connections",
        "connections_max",
        "history",
        "quotas",
        "resumes",
        "sends",
        "streams",
        "streams_max",
        "tenant",
        "throttled",
    )

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.quotas = Quotas()
        self.connections = 0
        self.streams = 0
        self.connections_max = self.streams_max = 0
        self.sends: Bucket | None = None
        self.bytes: Bucket | None = None
        self.resumes: Bucket | None = None
        self.history: Bucket | None = None
        self.throttled = 0
        """What was refused for a quota."""

    def refit(self, quotas: Quotas, nodes: int, frame_bytes_max: int, now_s: float) -> None:
        self.quotas = quotas
        self.connections_max = -(-quotas.connections // nodes)
        self.streams_max = -(-quotas.streams // nodes)
        burst_s = quotas.burst_s
        self.sends = _refitted(self.sends, quotas.sends_per_s / nodes, burst_s, 1.0, now_s)
        self.bytes = _refitted(self.bytes, quotas.bytes_per_s / nodes, burst_s, frame_bytes_max, now_s)
        self.resumes = _refitted(self.resumes, quotas.resumes_per_s / nodes, burst_s, 1.0, now_s)
        self.history = _refitted(self.history, quotas.history_per_s / nodes, burst_s, 1.0, now_s)

    def full(self, now_s: float) -> bool:
        """Whether forgetting it would change nothing."""
        buckets = (self.sends, self.bytes, self.resumes, self.history)
        return not self.connections and not self.streams and all(b is None or b.full(now_s) for b in buckets)


class Meter:
    """One principal on this node, with its tenant's account: what the hot path asks."""

    __slots__ = ("account", "ops", "sends", "users")

    def __init__(self, account: Account) -> None:
        self.account = account
        self.ops: Bucket | None = None
        self.sends: Bucket | None = None
        self.users = 0
        """Connections of this principal here."""

    def refit(self, now_s: float) -> None:
        quotas = self.account.quotas
        self.ops = _refitted(self.ops, quotas.principal_ops_per_s, quotas.burst_s, 1.0, now_s)
        self.sends = _refitted(self.sends, quotas.principal_sends_per_s, quotas.burst_s, 1.0, now_s)

    @property
    def bounded(self) -> bool:
        """Whether anything that a client message costs is bounded for it."""
        account = self.account
        return not (self.ops is self.sends is account.sends is account.bytes is account.history is None)

    def message(self, size: int, now_s: float) -> float:
        """A client message of so many bytes: 0, or how long to wait."""
        ops = self.ops
        if ops is not None:
            wait_s = ops.take(1.0, now_s)
            if wait_s:
                self.account.throttled += 1
                return wait_s
        volume = self.account.bytes
        if volume is not None:
            wait_s = volume.take(size, now_s)
            if wait_s:
                self.account.throttled += 1
                return wait_s
        return 0.0

    def send(self, now_s: float) -> float:
        """One send: 0, or how long to wait. The principal's is taken first: who floods uses up its own, not the tenant's."""
        sends = self.sends
        if sends is not None:
            wait_s = sends.take(1.0, now_s)
            if wait_s:
                self.account.throttled += 1
                return wait_s
        sends = self.account.sends
        if sends is not None:
            wait_s = sends.take(1.0, now_s)
            if wait_s:
                self.account.throttled += 1
                return wait_s
        return 0.0

    def full(self, now_s: float) -> bool:
        return (self.ops is None or self.ops.full(now_s)) and (self.sends is None or self.sends.full(now_s))


class Accounts:
    """All accounts and meters of a node. ``quotas_of`` says what a tenant may use of the cell.

    Bounded: an account or a meter that nobody uses and whose buckets are full again is forgotten (`tidy`), and where more than
    ``kept_max`` meters are kept all the same, the longest unused go, full or not.
    """

    def __init__(self, quotas_of: Callable[[str], Quotas], frame_bytes_max: int, kept_max: int) -> None:
        self._quotas_of = quotas_of
        self._frame_bytes_max = frame_bytes_max
        self._kept_max = kept_max
        self._nodes = 1
        self.accounts: dict[str, Account] = {}
        self.meters: dict[tuple[str, str], Meter] = {}

    def account(self, tenant: str, now_s: float) -> Account:
        account = self.accounts.get(tenant)
        if account is None:
            account = self.accounts[tenant] = Account(tenant)
            account.refit(self._quotas_of(tenant), self._nodes, self._frame_bytes_max, now_s)
        return account

    def meter(self, tenant: str, principal: str, now_s: float) -> Meter:
        key = (tenant, principal)
        meter = self.meters.pop(key, None)
        if meter is None:
            meter = Meter(self.account(tenant, now_s))
            meter.refit(now_s)
        self.meters[key] = meter  # last: the first are the longest unused
        return meter

    def refit(self, quotas_of: Callable[[str], Quotas], nodes: int, now_s: float) -> list[str]:
        """Other quotas, or another number of nodes. Returns the tenants known here whose quotas changed."""
        self._quotas_of, self._nodes = quotas_of, max(1, nodes)
        changed = []
        for tenant, account in self.accounts.items():
            quotas = quotas_of(tenant)
            if quotas != account.quotas:
                changed.append(tenant)
            account.refit(quotas, self._nodes, self._frame_bytes_max, now_s)
        for meter in self.meters.values():
            meter.refit(now_s)
        return changed

    @property
    def nodes(self) -> int:
        return self._nodes

    def tidy(self, now_s: float) -> None:
        for key, meter in list(self.meters.items()):
            if not meter.users and (meter.full(now_s) or len(self.meters) > self._kept_max):
                del self.meters[key]
        used = {meter.account.tenant for meter in self.meters.values()}
        for tenant, account in list(self.accounts.items()):
            if tenant not in used and account.full(now_s):
                del self.accounts[tenant]
