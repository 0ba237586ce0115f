"""Addresses of clients: one spelling for each, whom to trust among proxies, and how often each may knock and guess.

Rates are token buckets by address, IPv6 by its /64: a household or a machine has that many by itself. A bucket is one
float, the time at which it will be full again, so a full one need not be kept at all.

The table is bounded (``addresses_kept_max``), and full only while that many addresses owe something at once: what an
address takes is forgotten 1 / rate seconds later, so at 1 wrong token a second a table of 65,536 fills only under 65,536
wrong tokens a second. Then three rules hold:

1. Nobody is refused for what others did: only an address' own bucket refuses it.
2. Who owes more than one token is never forgotten for another, so nobody gets rid of a debt by knocking from elsewhere.
3. A newcomer for whom no place is found among `LOOKS` others (each owes more than it will) goes through uncounted.

Rejected: forgetting the oldest (rule 2 would cost an attacker one round of the table), and a shared bucket for those without
a place (rule 1 would cost strangers theirs).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from core.limits import Limits

LOOKS: Final = 4
"""Others looked at for a newcomer's place: twice as many as come, so that what is forgotten makes room in time."""


def canonical(text: str) -> str | None:
    """An IP address in its one spelling (RFC 5952), without a zone, IPv4 out of IPv6 (``::ffff:192.0.2.1``) as itself;
    ``None`` for what is no address."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def is_loopback(address: str) -> bool:
    """Of a canonical address."""
    return address.startswith("127.") or address == "::1"


class Trusted:
    """The proxies that may say for whom they speak. ``networks`` as ``10.0.0.0/8``; raises `ValueError` for others."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._v4: list[IPv4Network] = []
        self._v6: list[IPv6Network] = []
        for text in networks:
            network = ip_network(text)
            if isinstance(network, IPv4Network):
                self._v4.append(network)
            else:
                self._v6.append(network)

    def __bool__(self) -> bool:
        return bool(self._v4 or self._v6)

    def __contains__(self, address: str) -> bool:
        """Of a canonical address; nobody without one (a unix socket's peer) is trusted."""
        if not address or not self:
            return False
        parsed = ip_address(address)
        if isinstance(parsed, IPv6Address):
            return any(parsed in network for network in self._v6)
        return any(parsed in network for network in self._v4)


class Buckets:
    """Token buckets that hold ``burst`` and gain ``per_s`` a second, for up to ``kept_max`` names."""

    __slots__ = ("_burst", "_full_at", "_hand", "_kept_max", "_slots", "_step_s", "uncounted")

    def __init__(self, per_s: float, burst: int, kept_max: int) -> None:
        self._step_s = 1.0 / per_s
        self._burst = burst
        self._kept_max = kept_max
        self._full_at: dict[str, float] = {}
        self._slots: list[str] = []
        """The names in the table. New ones take places of old ones here, so that looking around costs no search."""
        self._hand = 0
        self.uncounted = 0
        """Newcomers without a place (rule 3)."""

    def __len__(self) -> int:
        return len(self._slots)

    def wait_s(self, name: str, now_s: float) -> float:
        """Until one may be taken; 0.0 now."""
        return max(0.0, self._full_at.get(name, now_s) - now_s - (self._burst - 1) * self._step_s)

    def take(self, name: str, now_s: float) -> None:
        """Take one, whether it is there or not; an empty bucket does not owe more than to be filled."""
        full_at = self._full_at.get(name)
        if full_at is None:
            self._place(name, now_s + self._step_s, now_s)
        else:
            self._full_at[name] = min(max(full_at, now_s) + self._step_s, now_s + self._burst * self._step_s)

    def _place(self, name: str, full_at: float, now_s: float) -> None:
        slots, size = self._slots, len(self._slots)
        least, least_at = -1, full_at
        for _ in range(min(LOOKS, size)):
            self._hand = (self._hand + 1) % size
            other_at = self._full_at[slots[self._hand]]
            if other_at <= least_at:
                least, least_at = self._hand, other_at
                if other_at <= now_s:
                    break
        if least_at > now_s and size < self._kept_max:
            slots.append(name)
        elif least >= 0:
            del self._full_at[slots[least]]
            slots[least] = name
        else:
            self.uncounted += 1
            return
        self._full_at[name] = full_at


class Addresses:
    """What each address may do. Addresses are canonical; who is exempt, the caller knows."""

    def __init__(self, limits: Limits) -> None:
        kept_max = limits.addresses_kept_max
        handshakes = limits.handshakes_per_address_per_s, limits.handshakes_per_address_burst
        self.handshakes = _buckets(*handshakes, kept_max)
        self.guesses = _buckets(limits.guesses_per_address_per_s, limits.guesses_per_address_burst, kept_max)

    def knock(self, address: str, now_s: float) -> float:
        """One more connection: 0.0 where it may come in, else the seconds after which it may."""
        name = counted_as(address)
        wait_s = 0.0 if self.guesses is None else self.guesses.wait_s(name, now_s)
        if self.handshakes is not None:
            wait_s = max(wait_s, self.handshakes.wait_s(name, now_s))
            if not wait_s:
                self.handshakes.take(name, now_s)
        return wait_s

    def guessed(self, address: str, now_s: float) -> float:
        """A token was wrong: the seconds until another may be, 0.0 for at once."""
        if self.guesses is None:
            return 0.0
        name = counted_as(address)
        self.guesses.take(name, now_s)
        return self.guesses.wait_s(name, now_s)

    def barred_s(self, address: str, now_s: float) -> float:
        """How long what this address says is not even looked at, for wrong tokens; 0.0 where it is."""
        return 0.0 if self.guesses is None else self.guesses.wait_s(counted_as(address), now_s)


def counted_as(address: str) -> str:
    """What an address is counted as: itself, in IPv6 its /64."""
    if ":" not in address:
        return address
    return IPv6Address(address).packed[:8].hex()


def _buckets(per_s: float, burst: int, kept_max: int) -> Buckets | None:
    """``None`` for a bound that is switched off."""
    return Buckets(per_s, burst, kept_max) if per_s and burst else None
