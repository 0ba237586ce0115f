"""Who the tenants of an installation are: whose tokens each takes, and how much each may use.

Data only, made from the tenants file by `gateway.tenants` and replaced whole when that is read anew. A tenant that is not
named has the default quotas, and no issuer but the gateway itself (and, with `dev_tokens`, the shared secrets).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

ALGORITHMS: Final = ("EdDSA", "ES256", "RS256")
"""What an issuer's keys may sign with. Never HS256: who verifies could then also sign."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer of access tokens for one tenant, by its exact ``iss``. Its keys come from ``jwks_url`` (https, or http on
    loopback) or a file, ``jwks_file``; one of them is set.

    ``audience`` overrides the installation's. A ``sub`` that is no principal gets ``subject_prefix`` put before it
    (``user:``, say); ``roles_claim`` names where the roles are.
    """

    issuer: str
    jwks_url: str = ""
    jwks_file: str = ""
    algorithms: tuple[str, ...] = ALGORITHMS
    audience: str = ""
    subject_prefix: str = ""
    roles_claim: str = "roles"


@dataclass(frozen=True, slots=True)
class Quotas:
    """What a tenant may use of the cell, and each of its principals on a node; 0 is no bound. Rates are token buckets that
    hold ``burst_s`` seconds' worth. A node of N takes the Nth part of a tenant's.
    """

    connections: int = 0
    streams: int = 0  # followed at once, so held in memory
    sends_per_s: float = 0.0  # over sockets and HTTP
    bytes_per_s: float = 0.0  # of client messages
    resumes_per_s: float = 0.0  # hellos and resumes
    history_per_s: float = 0.0  # history reads, over sockets and HTTP
    principal_sends_per_s: float = 0.0
    principal_ops_per_s: float = 0.0  # client messages of any kind
    burst_s: float = 2.0
    weight: int = 1  # turns where tenants wait for each other: lanes, replay, openings


@dataclass(frozen=True, slots=True)
class Arrivals:
    """How a tenant wants positions and arrival times dealt with; a trip's plan may say otherwise for its own alerts."""

    thresholds_s: tuple[int, ...] = (600, 300)  # alerts so long before an arrival
    spacing_s: int = 60  # between two alerts of one stop to one recipient; what comes nearer together is one
    quiet: str = ""  # "22:00-06:30": no pushes then, in `zone`; events in streams come all the same
    zone: str = "UTC"  # an IANA name
    stale_s: float = 120.0  # a subject silent for longer is shown as stale
    retention_days: int = 30  # samples are kept for so long; last positions for ever
    provider_calls_per_day: int = 10_000  # of routes, all trips together; past it, ETAs go on without
    signed_only: bool = False  # no positions of a principal that has no enrolled key
    mock_allowed: bool = False  # positions that an app made up are believed, as degraded; else quarantined


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    issuers: tuple[Issuer, ...] = ()
    quotas: Quotas = Quotas()
    arrivals: Arrivals = Arrivals()


@dataclass(frozen=True, slots=True)
class Tenants:
    """``only_named``: others than those named are refused."""

    named: Mapping[str, Tenant] = field(default_factory=lambda: MappingProxyType({}))
    quotas: Quotas = Quotas()
    only_named: bool = False
    arrivals: Arrivals = Arrivals()

    def quotas_of(self, tenant: str) -> Quotas:
        found = self.named.get(tenant)
        return self.quotas if found is None else found.quotas

    def arrivals_of(self, tenant: str) -> Arrivals:
        found = self.named.get(tenant)
        return self.arrivals if found is None else found.arrivals
