"""``python -m tests.measure.arrivals [--write]``: the made parts of docs/arrivals.md, from the tables that the product obeys.

As `tests.measure.trips`: what is said of a fix, how each mode may move, what a tenant may set.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import Final

from core.geo.cadence import WATCHED_S
from core.geo.plausible_modes import ENVELOPES
from core.geo.plausible_words import REASONS, VERDICTS
from core.tenants import Arrivals
from core.trip.reached import AT_STOP_M
from tests.measure.made import rendered, written
from tests.measure.own import ROOT

PAGE: Final = ROOT / "docs/arrivals.md"

MEANINGS: Final = {
    "thresholds_s": "alerts so many seconds before an arrival, for who asked to be told and named no others",
    "spacing_s": "seconds between two alerts of one stop to one recipient",
    "quiet": "local times between which nothing is pushed, such as 22:00-06:30; what is in streams comes all the same",
    "zone": "whose local time that is, an IANA name; also for what was learned by the hour",
    "stale_s": "who is silent for longer is shown as stale",
    "retention_days": "samples are kept for so long, at most 1460; last positions for ever",
    "provider_calls_per_day": "of routes, all trips and nodes together; past it arrival times go on without",
    "signed_only": "true: no positions of who has enrolled no key, and none from apps",
    "mock_allowed": "true: positions that an app made up (`mock`) are believed, as degraded; else quarantined",
}
"""What each setting of `core.tenants.Arrivals` does, for a tenant's admin."""


def verdicts() -> str:
    rows = [f"| `{verdict}` | {says} |" for verdict, says in VERDICTS.items()]
    return "\n".join(["| verdict | |", "|---|---|", *rows])


def reasons() -> str:
    rows = [f"| `{reason}` | {', '.join(word.verdicts)} | {word.says} |" for reason, word in REASONS.items() if reason]
    return "\n".join(["| reason | with | |", "|---|---|---|", *rows])


def modes() -> str:
    rows = []
    for mode, env in ENVELOPES.items():
        near = f"{AT_STOP_M[mode]:,.0f}" if mode in AT_STOP_M else "–"
        rows.append(
            f"| {mode} | {3.6 * env.cap_mps:,.0f} | {env.poor_m:,.0f} | {env.useless_m:,.0f} | {WATCHED_S[mode]:g} | {near} |"
        )
    heads = (
        "mode",
        "never faster than, km/h",
        "inaccurate, m",
        "useless, m",
        "watched: one in, s",
        "at a stop within, m",
    )
    return "\n".join([f"| {' | '.join(heads)} |", "|---|---:|---:|---:|---:|---:|", *rows])


def settings() -> str:
    rows = [f"| `{item.name}` | `{_toml(item.default)}` | {MEANINGS[item.name]} |" for item in fields(Arrivals)]
    return "\n".join(["| `[arrivals]` | default | |", "|---|---|---|", *rows])


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case tuple():
            return str(list(value))
        case float():
            return f"{value:g}"
    return str(value)


def parts() -> dict[str, str]:
    return {"verdicts": verdicts(), "reasons": reasons(), "modes": modes(), "settings": settings()}


def render(page: str) -> str:
    return rendered(page, parts())


def main(arguments: list[str]) -> int:
    return written(PAGE, render, arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
