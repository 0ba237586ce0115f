"""core.policy: deny by default, and the table is the whole truth."""

from __future__ import annotations

from itertools import combinations

import pytest

from core.model import AUDIT_STREAM, ROLES, TENANT_ROLES
from core.policy import (
    OWNS,
    READS_AUDIT,
    STREAM_TABLE,
    TENANT_TABLE,
    StreamAction,
    TenantAction,
    may,
    may_in_tenant,
    role_in,
    standing,
)


def test_every_action_is_in_the_table() -> None:
    """An action that the table forgot would be an exception, not a decision."""
    assert set(STREAM_TABLE) == set(StreamAction)
    assert set(TENANT_TABLE) == set(TenantAction)


def test_the_table_names_known_roles_only() -> None:
    """A misspelt role would silently refuse."""
    assert frozenset().union(*STREAM_TABLE.values()) == set(ROLES)
    assert frozenset().union(*TENANT_TABLE.values()) <= set(TENANT_ROLES)


def test_a_stronger_role_may_all_that_a_weaker_may() -> None:
    """owner, member, reader: each is part of the one before it."""
    for allowed in STREAM_TABLE.values():
        assert [role in allowed for role in ROLES] in ([True] * 3, [True, True, False], [True, False, False])


@pytest.mark.parametrize("action", StreamAction)
def test_without_a_role_nothing_is_allowed(action: StreamAction) -> None:
    """Neither for nobody nor for a role that nobody knows."""
    assert not may(action, None)
    assert not may(action, "")
    assert not may(action, "Owner")


@pytest.mark.parametrize("action", TenantAction)
def test_without_a_tenant_role_nothing_is_allowed(action: TenantAction) -> None:
    """A plain token administers nothing."""
    assert not may_in_tenant(action, ())
    assert not may_in_tenant(action, ("owner", "root", "Admin"))


def test_standing_is_what_the_roles_give_together() -> None:
    """Roles add up, in any order, and unknown ones add nothing."""
    assert standing(()) == standing(("root", "owner")) == 0
    assert standing(("service",)) == OWNS
    assert standing(("auditor",)) == READS_AUDIT
    assert standing(("admin",)) == OWNS | READS_AUDIT
    for pair in combinations(TENANT_ROLES, 2):
        assert standing(pair) == standing(pair[:1]) | standing(pair[1:])


@pytest.mark.parametrize("own", [*ROLES, None])
def test_the_audit_stream_is_read_by_standing_alone(own: str | None) -> None:
    """Whatever membership says: admins and auditors read it, and nobody does more."""
    assert role_in(AUDIT_STREAM, own, 0) is None
    assert role_in(AUDIT_STREAM, own, OWNS) is None
    assert role_in(AUDIT_STREAM, own, READS_AUDIT) == role_in(AUDIT_STREAM, own, OWNS | READS_AUDIT) == "reader"
    assert role_in("audit:other", own, OWNS | READS_AUDIT) is None


def test_who_owns_all_streams_owns_each_and_others_have_their_own_role() -> None:
    """An auditor has no more part in a conversation than anybody."""
    assert role_in("chat:ops", None, OWNS) == role_in("chat:ops", "reader", OWNS) == "owner"
    assert role_in("chat:ops", None, READS_AUDIT) is None
    assert role_in("chat:ops", "member", READS_AUDIT) == "member"
    assert role_in("chat:ops", "emperor", 0) is None
