"""Read models, the live board and the past: from commands to what is read, with a worker beside the node."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import httpx
import pytest
import trio
from typer.testing import CliRunner

from core.flight.times import write
from core.ports import Log
from core.work import Work
from core.work_limits import WorkLimits
from gateway import cli
from gateway.http import make_app
from gateway.reads import Reads
from gateway.work.views import Views
from gateway.work.worker import Worker
from store.memory import MemoryLog
from store.postgres import open_postgres_log
from tests.nodes import TestNode, bus_away, serving_cluster, serving_node, token
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.wire_client import WireClient, hello

FLIGHT = "QX12-20261121"
HOUR_MS = 3_600_000


def now_ms() -> int:
    return int(1000 * time.time())


def at(minutes: float) -> str:
    """So many minutes from now."""
    return write(now_ms() + int(60_000 * minutes))


class Place:
    """A node with a worker in it, and callers of its HTTP API."""

    def __init__(self, node: TestNode, work: Work, worker: Worker | None) -> None:
        self.node = node
        self.work = work
        self.worker = worker
        self.reads = Reads(node.node, work, node.desk)
        app = make_app(node.desk, reads=self.reads)
        self._http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node")

    async def ask(
        self, method: str, path: str, who: str = "user:ops", roles: tuple[str, ...] = ("admin",), **more: Any
    ) -> httpx.Response:
        tenant = more.pop("tenant", "demo")
        headers = more.pop("headers", {}) | {"authorization": f"Bearer {token(who, tenant=tenant, roles=roles)}"}
        return await self._http.request(method, path, headers=headers, **more)

    async def get(self, path: str, **params: Any) -> Any:
        answer = await self.ask("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def code(self, path: str, who: str, roles: tuple[str, ...] = (), **params: Any) -> str:
        answer = await self.ask("GET", path, who, roles, params=params)
        return "ok" if answer.is_success else str(answer.json()["code"])

    async def command(self, name: str, verb: str, tenant: str = "demo", /, **body: Any) -> int:
        answer = await self.ask(
            "POST",
            f"/v1/flights/{name}/commands",
            tenant=tenant,
            headers={"idempotency-key": str(uuid.uuid4())},
            json={"type": verb, "body": body},
        )
        assert answer.status_code == 201, answer.text
        return int(answer.json()["seqs"][-1])

    async def flight(
        self, flight: str = FLIGHT, tenant: str = "demo", members: dict[str, str] | None = None, **plan: str
    ) -> int:
        """A flight with its cabin's stream, scheduled."""
        people = [{"principal": who, "role": role} for who, role in (members or {}).items()]
        made = await self.ask("POST", "/v1/flights", tenant=tenant, json={"flight": flight, "members": people})
        assert made.status_code == 201, made.text
        body = {"flight": "QX12", "operator": "QX", "registration": "VH-ABC", "type": "B738"}
        body |= {"from": "SYD", "to": "MEL", "out": at(60), "in": at(150)}
        body |= {name.removesuffix("_"): text for name, text in plan.items()}
        return await self.command(flight, "schedule", tenant, **body)

    async def cabin(self, flight: str = FLIGHT) -> None:
        layout = {"rows": [{"row": 1, "seats": "AB"}]}
        await self.command(f"{flight}.seats", "open", flight=flight, layout=layout)
        await self.command(f"{flight}.seats", "book", passenger={"id": "p1", "name": "Ann"})
        await self.command(f"{flight}.seats", "assign", passenger="p1", seat="1A")

    async def caught_up(self) -> None:
        """Until the worker has taken all that was committed."""
        with trio.fail_after(10):
            heads = await self.node.log.heads()
            while True:
                cursors = await self.work.cursors("views")
                if cursors and all(cursor.pos >= heads[cursor.partition] for cursor in cursors):
                    return
                await trio.sleep(0.002)


async def begin(node: TestNode, work: Work, nursery: trio.Nursery, name: str = "w1") -> Worker:
    worker = Worker(
        node.log,
        work,
        [Views(node.log)],
        [],
        holder=name,
        limits=WorkLimits(),
        rng=Random(1),
        wall=time.time,
    )
    node.node.on_commit.append(worker.heard)
    worker.committed.append(node.node.rows_changed)
    await nursery.start(worker.run)
    return worker


@asynccontextmanager
async def place(log: Log | None = None, *, working: bool = True) -> AsyncIterator[Place]:
    async with serving_node(log) as node, trio.open_nursery() as nursery:
        work = node.node.work
        assert work is not None
        worker = await begin(node, work, nursery) if working else None
        yield Place(node, work, worker)
        nursery.cancel_scope.cancel()


async def rows(client: WireClient, count: int, stream: str = "flight:board") -> list[tuple[str, Any]]:
    """The next rows that come: (key, status or None)."""
    found: list[tuple[str, Any]] = []
    while len(found) < count:
        frame = await client.next("signal", stream=stream, kind="row")
        found.append((frame["key"], frame["value"] and frame["value"]["status"]))
    return found


# The live board


async def test_a_command_becomes_a_row_at_who_follows_the_board() -> None:
    """Those that are there at once, then each change; a station's board has its own flights alone."""
    async with place() as here:
        for stream in ("flight:board", "flight:board.PER"):
            await here.node.stream(stream)
        await here.flight()
        await here.caught_up()
        async with (
            hello(here.node.url, "user:amy", {"flight:board": {}}) as amy,
            hello(here.node.url, "user:bob", {"flight:board.PER": {}}) as bob,
        ):
            assert await rows(amy, 1) == [(FLIGHT, "scheduled")]
            await here.flight("QX7-20261121", from_="PER", to="ADL")
            assert await rows(amy, 1) == [("QX7-20261121", "scheduled")]
            assert await rows(bob, 1, "flight:board.PER") == [("QX7-20261121", "scheduled")]
            await here.command(FLIGHT, "cancel", reason="weather")
            assert await rows(amy, 1) == [(FLIGHT, "cancelled")]


async def test_another_tenants_flights_are_on_no_board_but_its_own() -> None:
    """Of the same name even."""
    async with place() as here:
        await here.node.stream("flight:board")
        await here.node.stream("flight:board", tenant="twin")
        async with hello(here.node.url, "user:amy", {"flight:board": {}}) as amy:
            await here.flight(tenant="twin", to="CBR")
            await here.flight()
            frame = await amy.next("signal", stream="flight:board", kind="row")
            assert (frame["key"], frame["value"]["to"]) == (FLIGHT, "MEL")
        assert [row["to"] for row in (await here.get("/v1/board"))["rows"]] == ["MEL"]


@pytest.mark.parametrize("heard", [True, False])
async def test_rows_reach_the_other_nodes(heard: bool) -> None:
    """Over the bus at once; with the bus away, by looking."""
    from store.memory_bus import MemoryBroker

    broker = MemoryBroker()
    async with serving_cluster(2, broker=broker) as nodes, trio.open_nursery() as nursery:
        work = nodes[0].node.work
        assert work is not None
        await begin(nodes[0], work, nursery)
        here = Place(nodes[0], work, None)
        await nodes[0].stream("flight:board")
        async with hello(nodes[1].url, "user:amy", {"flight:board": {}}) as amy:
            if not heard:
                await bus_away(broker, nodes)
            await here.flight()
            assert await rows(amy, 1) == [(FLIGHT, "scheduled")]
        nursery.cancel_scope.cancel()


# What is read


async def test_reads_tell_of_now_with_the_place_they_are_as_of() -> None:
    """A flight, its manifest, its seats; the aircraft's line and the board."""
    async with place() as here:
        seq = await here.flight()
        await here.cabin()
        await here.caught_up()
        state = await here.get(f"/v1/flights/{FLIGHT}")
        assert (state["seq"], state["as_of"], state["state"]["status"]) == (seq, None, "scheduled")
        assert state["state"]["timers"] == {}
        manifest = await here.get(f"/v1/flights/{FLIGHT}/manifest")
        assert manifest["rows"] == [{"passenger": "p1", "name": "Ann", "status": "booked", "seat": "1A"}]
        assert (manifest["behind"], manifest["seq"]) == (0, 3)
        seats = await here.get(f"/v1/flights/{FLIGHT}/seats")
        assert [(seat["seat"], seat["status"]) for seat in seats["rows"]] == [("1A", "assigned"), ("1B", "free")]
        line = await here.get("/v1/aircraft/VH-ABC/line")
        assert [(row["flight"], row["key"].endswith(f"/{FLIGHT}")) for row in line["rows"]] == [("QX12", True)]
        assert (await here.get("/v1/aircraft/VH-ABC/line", after=at(600)))["rows"] == []
        assert (await here.get("/v1/aircraft/VH-AB/line"))["rows"] == []
        board = await here.get("/v1/board", station="MEL")
        assert [(row["key"], row["seq"]) for row in board["rows"]] == [(FLIGHT, seq)]
        assert (board["next"], board["behind"]) == (None, 0)


async def test_the_board_is_read_by_station_and_day_in_pages() -> None:
    """Each page goes on where the one before ended."""
    async with place() as here:
        for number in range(5):
            await here.flight(f"QX{number}", from_="SYD" if number % 2 else "PER")
        await here.caught_up()
        found, after = [], ""
        while True:
            page = await here.get("/v1/board", limit=2, after=after)
            found += [row["key"] for row in page["rows"]]
            if page["next"] is None:
                break
            after = page["next"]
        assert found == [f"QX{number}" for number in range(5)]
        assert [row["key"] for row in (await here.get("/v1/board", station="SYD"))["rows"]] == ["QX1", "QX3"]
        assert (await here.get("/v1/board", day="2001-01-01"))["rows"] == []


async def test_a_read_model_says_how_far_it_is_behind() -> None:
    """Without any worker, by all there is."""
    async with place(working=False) as here:
        await here.flight()
        await here.cabin()
        manifest = await here.get(f"/v1/flights/{FLIGHT}/manifest")
        assert (manifest["rows"], manifest["behind"] >= 3) == ([], True)
        assert (await here.get("/v1/board"))["behind"] == 4


async def test_a_crew_member_and_a_roster_are_read() -> None:
    """Duties with totals by the member's own stream; the roster by flight, without those who were released."""
    async with place() as here:
        await here.flight()
        for name in ("c1", "c2"):
            await here.node.stream(f"flight:crew.{name}", open=False)
            await here.command(
                f"crew.{name}",
                "register",
                name=name.upper(),
                base="SYD",
                roles=["captain"],
                types=["B738"],
                pack="far135",
            )
            await here.command(
                f"crew.{name}",
                "assign",
                flight=FLIGHT,
                role="captain",
                report_at=at(10),
                release_at=at(200),
                type="B738",
                block_minutes=90,
            )
        before = at(0)
        await trio.sleep(0.005)
        await here.command("crew.c2", "release", flight=FLIGHT, why="sick")
        await here.caught_up()
        roster = await here.get(f"/v1/flights/{FLIGHT}/roster")
        assert [(row["crew"], row["status"]) for row in roster["rows"]] == [("c1", "assigned")]
        then = await here.get(f"/v1/flights/{FLIGHT}/roster", recorded_at=before)
        assert [(row["crew"], row["status"]) for row in then["rows"]] == [("c1", "assigned"), ("c2", "assigned")]
        member = (await here.get("/v1/crew/c1"))["state"]
        assert [duty["flight"] for duty in member["duties"]] == [FLIGHT]
        assert member["totals"]
        assert await here.code("/v1/crew/c1", "user:amy") == "forbidden"


# As of a moment


async def test_a_flight_as_it_was_true_and_as_it_was_known() -> None:
    """OUT twenty minutes ago, told only now: true then, and not known then."""
    async with place() as here:
        await here.flight(out=at(-30))
        known_before = at(0)
        await trio.sleep(0.005)
        seq = await here.command(FLIGHT, "depart", at=at(-20), source="ops")

        async def status(**moment: str) -> str:
            return str((await here.get(f"/v1/flights/{FLIGHT}", **moment))["state"]["status"])

        assert await status() == "departed"
        assert await status(valid_at=at(-10)) == "departed"
        assert await status(valid_at=at(-25)) == "scheduled"
        assert await status(recorded_at=known_before) == "scheduled"
        assert await status(valid_at=at(-10), recorded_at=known_before) == "scheduled"
        assert await status(recorded_at=at(-60)) == "new"
        now = await here.get(f"/v1/flights/{FLIGHT}", recorded_at=at(1).replace("Z", "+00:00"))
        assert (now["seq"], now["as_of"]["valid_at"]) == (seq, None)


async def test_a_manifest_and_seats_as_they_were() -> None:
    """Before the passenger came, and after; in the shape that the read model has."""
    async with place() as here:
        await here.flight()
        before = at(0)
        await trio.sleep(0.005)
        await here.cabin()
        await here.caught_up()
        assert (await here.get(f"/v1/flights/{FLIGHT}/manifest", recorded_at=before))["rows"] == []
        assert (await here.get(f"/v1/flights/{FLIGHT}/seats", recorded_at=before))["rows"] == []
        for what in ("manifest", "seats"):
            now = await here.get(f"/v1/flights/{FLIGHT}/{what}")
            then = await here.get(f"/v1/flights/{FLIGHT}/{what}", valid_at=at(1))
            assert then["rows"] == now["rows"] != []
            assert (then["behind"], then["seq"]) == (None, now["seq"])


async def test_a_hold_that_ran_out_is_no_hold() -> None:
    """Neither in the seats of now nor in those of a moment after it."""
    async with place() as here:
        await here.flight()
        await here.cabin()
        await here.command(f"{FLIGHT}.seats", "book", passenger="p2")
        await here.command(f"{FLIGHT}.seats", "hold", passenger="p2", seat="1B", until=at(0.003))
        await here.caught_up()
        held = await here.get(f"/v1/flights/{FLIGHT}/seats", recorded_at=at(0))
        assert held["rows"][1]["status"] == "held"
        await trio.sleep(0.2)
        for moment in ({}, {"valid_at": at(1)}):
            assert (await here.get(f"/v1/flights/{FLIGHT}/seats", **moment))["rows"][1]["status"] == "free"


@pytest.mark.parametrize("text", ["yesterday", "2026-11-21T06:40:00", "2026-13-21T06:40:00Z", ""])
async def test_a_moment_that_is_none_is_named(text: str) -> None:
    """Which parameter, and what a time looks like."""
    async with place(working=False) as here:
        await here.flight()
        answer = await here.ask("GET", f"/v1/flights/{FLIGHT}", params={"recorded_at": text})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        assert answer.json()["detail"].startswith("recorded_at is ")


# Who may


async def test_reads_are_for_who_may_follow() -> None:
    """The flight by its stream, manifest and seats by the cabin's, what looks across flights by the board's; nobody else, and
    nothing of another tenant."""
    async with place() as here:
        await here.flight(members={"user:amy": "reader"})
        await here.node.stream("flight:board", open=False, members={"user:bob": "reader"})
        own = [f"/v1/flights/{FLIGHT}", f"/v1/flights/{FLIGHT}/manifest", f"/v1/flights/{FLIGHT}/seats"]
        across = [f"/v1/flights/{FLIGHT}/roster", "/v1/board", "/v1/aircraft/VH-ABC/line"]
        assert {await here.code(path, "user:amy") for path in own} == {"ok"}
        assert {await here.code(path, "user:amy") for path in across} == {"forbidden"}
        assert {await here.code(path, "user:bob") for path in own} == {"forbidden"}
        assert {await here.code(path, "user:bob") for path in across} == {"ok"}
        assert {await here.code(path, "user:cy", ("auditor",)) for path in own + across} == {"forbidden"}
        assert {await here.code(path, "user:cy", ("service",)) for path in own + across} == {"ok"}
        for path in own:
            twin = await here.ask("GET", path, tenant="twin")
            assert (twin.status_code, twin.json()["code"]) == (404, "not_found")
        assert (await here.ask("GET", "/v1/board", tenant="twin")).json()["rows"] == []


async def test_what_is_no_flight_is_not_found() -> None:
    """A board, a crew member, a cabin: each has its own route."""
    async with place(working=False) as here:
        for name in ("board", "crew.c1", f"{FLIGHT}.seats", "QX404"):
            assert await here.code(f"/v1/flights/{name}", "user:ops", ("admin",)) == "not_found"


async def test_who_was_removed_is_shown_nothing_past_it() -> None:
    """Also by a node that has not heard of the removal."""
    async with serving_cluster(2) as nodes:
        work = nodes[0].node.work
        assert work is not None
        first, second = Place(nodes[0], work, None), Place(nodes[1], work, None)
        await first.flight(members={"user:amy": "member"})
        assert await second.code(f"/v1/flights/{FLIGHT}", "user:amy") == "ok"
        await nodes[0].log.remove_member("demo", f"flight:{FLIGHT}", "user:amy", "user:ops")
        await first.command(FLIGHT, "cancel", reason="weather")
        assert await second.code(f"/v1/flights/{FLIGHT}", "user:amy") == "forbidden"


async def test_a_store_that_does_not_answer_is_said() -> None:
    """Of the past and of rows alike: come back, nothing is wrong with what was asked."""
    async with place() as here:
        await here.flight()
        await here.caught_up()
        assert await here.code(f"/v1/flights/{FLIGHT}", "user:ops", ("admin",)) == "ok"
        log = here.node.log
        assert isinstance(log, MemoryLog)
        log.down = "away"
        for path in (f"/v1/flights/{FLIGHT}", "/v1/board", "/v1/aircraft/VH-ABC/line"):
            assert await here.code(path, "user:ops", ("admin",)) == "unavailable"
        log.down = None
        assert await here.code("/v1/board", "user:ops", ("admin",)) == "ok"


# Over Postgres


async def test_over_postgres_it_is_the_same(database: Database) -> None:  # noqa: F811
    """From a command to a row on the board and in the answers."""
    async with open_postgres_log(database.url) as log, place(log) as here:
        await here.node.stream("flight:board")
        async with hello(here.node.url, "user:amy", {"flight:board": {}}) as amy:
            await here.flight()
            assert await rows(amy, 1) == [(FLIGHT, "scheduled")]
            await here.cabin()
            await here.caught_up()
        manifest = await here.get(f"/v1/flights/{FLIGHT}/manifest")
        assert [row["seat"] for row in manifest["rows"]] == ["1A"]
        assert (await here.get(f"/v1/flights/{FLIGHT}", recorded_at=at(-60)))["state"]["status"] == "new"


def test_readback_rebuild_makes_a_model_anew(database: Database) -> None:  # noqa: F811
    """With what it did in a sentence; what the rows said wrongly is right again. A name that is none is said."""

    async def prepare() -> None:
        async with open_postgres_log(database.url) as log, place(log) as here:
            await here.flight()
            await here.caught_up()

    async def shown() -> list[Any]:
        async with open_postgres_log(database.url) as log:
            return [row.doc for row in await log.work.rows("flight_board", "demo")]

    trio.run(prepare)
    good = trio.run(shown)
    assert [doc["status"] for doc in good] == ["scheduled"]
    database.sql("""update readback.rows set doc = '{"wrong": true}'""")
    assert trio.run(shown) == [{"wrong": True}]
    done = CliRunner().invoke(cli.app, ["rebuild", "all", "--database-url", database.url])
    assert done.exit_code == 0, done.output
    assert re.match(r"all is made anew: 2 rows of \d+ events in .* s; workers waited \d+ ms", done.output.strip())
    assert trio.run(shown) == good
    refused = CliRunner().invoke(cli.app, ["rebuild", "bord", "--database-url", database.url])
    assert refused.exit_code == 2
