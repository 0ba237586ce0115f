"""`readback eta export` at the database: trips of a tenant into a file, with a bar.

For: `gateway.cli_eta`. Does not: choose (`gateway.eta.export`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import trio

from core.tenants import Tenants
from core.trip.quiet import known_zone
from gateway.cli_errors import USAGE, CliError
from gateway.cli_run import new_key
from gateway.cli_tools import database
from gateway.config import Config
from gateway.eta.export import Wanted, history
from gateway.eta.files import whole
from gateway.tenants import load_tenants
from store.postgres import open_postgres_log
from store.proving import open_links
from store.trip_streams import count_trips, trips_of
from store.verifier import PATIENT

LATEST_MS = 2**53


def wanted(
    config: Config, tenant: str, from_: str | None, to: str | None, zone: str | None, modes: Collection[str]
) -> Wanted:
    """`CliError` for a time or a zone that is none."""
    tenants = Tenants() if config.tenants_file is None else load_tenants(config.tenants_file)
    place = zone or tenants.arrivals_of(tenant).zone
    if not known_zone(place):
        raise CliError(f"--zone: there is no time zone {place!r}; one is named as Europe/Berlin is", USAGE)
    return Wanted(_ms("--from", from_, place, 0), _ms("--to", to, place, LATEST_MS), place, modes)


def _ms(option: str, text: str | None, zone: str, otherwise: int) -> int:
    if text is None:
        return otherwise
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise CliError(
            f"{option}: {text!r} is neither a day (2026-11-01) nor a time (2026-11-01T06:00)", USAGE
        ) from None
    at = at if at.tzinfo is not None else at.replace(tzinfo=ZoneInfo(zone))
    return int(1000 * at.astimezone(UTC).timestamp())


def export(
    config: Config, tenant: str, wanted: Wanted, out: Path, bar: Callable[[int], Callable[[], None]]
) -> tuple[int, Counter[str]]:
    """How many trips are in the file, and how many are not, by reason. ``bar`` is told how many there are to look at."""
    left_out: Counter[str] = Counter()

    async def main() -> int:
        kept = 0
        async with (
            database(config) as url,
            open_links(url, PATIENT) as links,
            open_postgres_log(url, new_key=new_key) as log,
        ):
            step = bar(await count_trips(links, tenant))
            with whole(out) as file:
                async for line in history(log, log.tracks, tenant, trips_of(links, tenant), wanted, left_out):
                    if line is not None:
                        file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
                        kept += 1
                    step()
                if not kept:
                    reasons = "; ".join(f"{why}: {count}" for why, count in left_out.most_common())
                    raise CliError(f"tenant {tenant} has no such trips" + (f" ({reasons})" if reasons else ""))
        return kept

    return trio.run(main), left_out
