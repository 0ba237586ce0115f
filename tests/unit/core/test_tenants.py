"""core.tenants: who is not named has the defaults."""

from __future__ import annotations

from core.tenants import Arrivals, Quotas, Tenant, Tenants


def test_a_named_tenant_has_its_own_quotas_and_others_the_defaults() -> None:
    """What a file says of one tenant changes nothing for another."""
    own, default = Quotas(sends_per_s=5.0), Quotas(sends_per_s=9.0)
    tenants = Tenants({"acme": Tenant("acme", quotas=own)}, default)
    assert tenants.quotas_of("acme") is own
    assert tenants.quotas_of("zen") is default


def test_nothing_is_bounded_unless_it_is_said() -> None:
    """An installation without a tenants file serves as before."""
    quotas = Tenants().quotas_of("any")
    assert quotas.connections == quotas.streams == 0
    assert quotas.sends_per_s == quotas.bytes_per_s == quotas.resumes_per_s == quotas.history_per_s == 0.0
    assert quotas.principal_sends_per_s == quotas.principal_ops_per_s == 0.0
    assert not Tenants().only_named


def test_how_arrivals_are_dealt_with_is_the_tenants_own_or_the_installations() -> None:
    """As quotas are."""
    usual, own = Arrivals(stale_s=60.0), Arrivals(stale_s=30.0)
    tenants = Tenants({"acme": Tenant("acme", arrivals=own)}, arrivals=usual)
    assert tenants.arrivals_of("acme") is own
    assert tenants.arrivals_of("other") is usual
