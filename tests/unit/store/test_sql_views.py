"""store/sql/0011_views.sql: the read models as typed views, which show a caller what the caller may see."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from core.flight.views import CONSUMER
from core.work import Effects, Row
from store.embedded import EmbeddedPostgres
from store.postgres import open_postgres_log
from tests.flight_rows import FLIGHT, Story, at, flight, milestone
from tests.servers import GATEWAY_USER, Database, fresh_database, postgres_server  # noqa: F401

VIEWS = ("flight_board", "aircraft_line", "manifest", "seat_map", "crew_roster")


def stories() -> list[Story]:
    leg, cabin, crew = flight(), Story(f"flight:{FLIGHT}.seats"), Story("flight:crew.c7")
    leg.tell(milestone("OUT", "actual", at("06:41")), ("flight.gate", {"departure": {"gate": "4"}}))
    layout = {"rows": [{"row": 1, "seats": "AB", "class": "Y"}]}
    cabin.tell(
        ("seat.opened", {"flight": "QX12", "layout": layout}), ("seat.booked", {"passenger": "a/b", "name": "Ann"})
    )
    cabin.tell(("seat.held", {"passenger": "a/b", "seat": "1A", "until": at("06:00")}))
    duty = {"flight": FLIGHT, "role": "captain", "report_at": at("05:00"), "release_at": at("09:00")}
    crew.tell(("crew.registered", {"name": "Cy", "base": "SYD", "pack": "far135"}), ("crew.assigned", duty))
    return [leg, cabin, crew]


async def fill(url: str) -> None:
    """The same rows in two tenants, and one of a flight that is gone."""
    async with open_postgres_log(url) as log:
        for lease in await log.work.beat("w1", [CONSUMER], 60_000):
            rows = [
                Row(model, tenant, key, 0, 0, 7, 1_790_000_000_500, doc)
                for tenant in ("a", "b")
                for story in stories()
                for (model, key), doc in story.rows.items()
            ]
            rows += [Row("flight_board", "a", "GONE", 0, 0, 8, 1_790_000_000_500, None)]
            if lease.partition == 0:
                await log.work.commit(lease, 0, Effects(rows=rows))


@pytest.fixture(scope="module")
def filled(postgres_server: EmbeddedPostgres) -> Iterator[Database]:  # noqa: F811
    with fresh_database(postgres_server) as made:
        trio.run(fill, made.url)
        yield made


@pytest.mark.parametrize("view", [*VIEWS, "live_rows"])
def test_the_gateways_login_sees_its_tenants_rows_alone(filled: Database, view: str) -> None:
    """And none without saying which tenant's."""
    asked = f"select string_agg(distinct tenant, ',') from readback.{view}"
    assert filled.sql(asked, user=GATEWAY_USER) == ""
    assert filled.sql(f"set readback.tenant = 'b'; {asked}", user=GATEWAY_USER) == "b"
    assert filled.sql(asked) == "a,b"


def test_columns_are_typed(filled: Database) -> None:
    """Times as times, so that they can be subtracted; rows that are gone are not there."""
    late = "select flight, extract(epoch from out_at - std) / 60, delay_minutes, departure_gate, status, seq"
    assert filled.sql(f"{late} from readback.flight_board where tenant = 'a'").split("|") == [
        FLIGHT,
        "11.0000000000000000",
        "11",
        "4",
        "departed",
        "7",
    ]
    line = "select registration, sta - std from readback.aircraft_line where tenant = 'a'"
    assert filled.sql(line) == "VH-ABC|01:35:00"
    assert filled.sql("select flight, passenger, seat is null from readback.manifest where tenant = 'a'") == (
        f"{FLIGHT}|a/b|t"
    )
    held = "select seat, status, extract(hour from held_until at time zone 'UTC') from readback.seat_map"
    assert filled.sql(f"{held} where tenant = 'a' order by seat").splitlines() == ["1A|held|6", "1B|free|"]
    crew = "select flight, crew, release_at - report_at, acknowledged from readback.crew_roster where tenant = 'a'"
    assert filled.sql(crew) == f"{FLIGHT}|c7|04:00:00|f"


def test_a_rebuilt_model_is_shown_from_the_moment_it_is_live(postgres_server: EmbeddedPostgres) -> None:  # noqa: F811
    """And what is being built is not."""

    async def build(url: str, *, swap: bool) -> None:
        async with open_postgres_log(url) as log:
            generation = await log.work.begin_rebuild("flight_board", "rebuild")
            for lease in await log.work.beat("w2", ["rebuild"], 60_000):
                if lease.partition == 0:
                    row = Row("flight_board", "a", "NEW", 0, 0, 1, 1, flight().rows["flight_board", FLIGHT])
                    await log.work.commit(lease, 0, Effects(rows=[row]))
            if swap:
                assert await log.work.swap("flight_board", generation, "rebuild", CONSUMER)

    with fresh_database(postgres_server) as made:
        trio.run(fill, made.url)
        shown = "select string_agg(flight, ',') from readback.flight_board where tenant = 'a'"
        trio.run(lambda: build(made.url, swap=False))
        assert made.sql(shown) == FLIGHT
        trio.run(lambda: build(made.url, swap=True))
        assert made.sql(shown) == "NEW"
