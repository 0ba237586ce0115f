"""``python -m tests.measure.access [--write]``: docs/access.md, made from the policy that the product obeys.

Without ``--write`` it says whether the page is the present policy's, with exit code 1 where it is not.
"""

from __future__ import annotations

import sys
from typing import Final

from core.model import ROLES, TENANT_ROLES
from core.policy import OWNS, READS_AUDIT, STREAM_TABLE, TENANT_TABLE, StreamAction, TenantAction, standing
from tests.measure.own import ROOT

PAGE: Final = ROOT / "docs/access.md"

HEAD: Final = """\
# Who may do what

Made from `core/policy.py` by `python -m tests.measure.access --write`; a test holds this page to the code. What a table
does not say is refused. No decision ever looks at another tenant: the tenant comes from the token, and a name can only mean
something of that tenant.

A token's roles give a standing in the tenant; membership gives a role in a stream. They are looked at when a stream is
followed, when a session is resumed, at every op and HTTP call, and for what is sent once more inside the transaction that
appends it: a membership that ended a moment ago no longer counts. A removed member gets nothing past the event that removed
it.

## What a token's roles give

| tenant role | in every stream but the audit's | in the audit stream |
|---|---|---|
"""


def render() -> str:
    lines = [HEAD.rstrip("\n")]
    for role in TENANT_ROLES:
        has = standing((role,))
        lines.append(
            f"| {role} | {'owner' if has & OWNS else 'as a member'} | {'reader' if has & READS_AUDIT else '–'} |"
        )
    lines.append("| none | as a member | – |")
    lines += ["", "## In a stream", "", f"| | {' | '.join(ROLES)} | no part in it |", "|---|---|---|---|---|"]
    for action in StreamAction:
        cells = ["yes" if role in STREAM_TABLE[action] else "–" for role in ROLES]
        lines.append(f"| {action.value} | {' | '.join(cells)} | – |")
    lines += [
        "",
        "An open stream makes every principal of its tenant a member; an inbox (`user:amy`) makes its owner a reader.",
        "Whoever is a member by name may leave. Nobody sends to the audit stream, manages its members or makes it forget.",
        "",
        "## In a tenant",
        "",
        f"| | {' | '.join(TENANT_ROLES)} | no such role |",
        "|---|---|---|---|---|",
    ]
    for tenant_action in TenantAction:
        cells = ["yes" if role in TENANT_TABLE[tenant_action] else "–" for role in TENANT_ROLES]
        lines.append(f"| {tenant_action.value} | {' | '.join(cells)} | – |")
    lines += [
        "",
        "Tenants themselves (their issuers, quotas, the kill switch) are for who runs the installation, by its files and",
        "commands ([operations](operations.md#tenants)); no token reaches them.",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    if arguments == ["--write"]:
        PAGE.write_text(render())
    elif arguments:
        print(__doc__)
        return 2
    return 0 if PAGE.exists() and PAGE.read_text() == render() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
