"""`readback demo flights`: a day played into a node over sockets, and what is shown of it."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from random import Random

import httpx
import pytest
import trio
from rich.console import Console
from typer.testing import CliRunner

from core.model import Member
from core.ports import Refused
from gateway.cli import app
from gateway.cli_errors import CliError, explain
from gateway.demo import play, show
from gateway.demo.board import Board
from gateway.demo.day import Day, make_day
from gateway.demo.play import MakeStream, Player, bounds, make_streams, playable
from gateway.demo.script import MEMBERS, referred
from gateway.demo.show import Streams, Wanted, run_demo
from gateway.demo.view import screen
from tests.measure.golden import World, refused_for
from tests.nodes import TestNode, serving_node, token, until

AT_ONCE = 1e6
"""A day in a tenth of a second, as far as its clock goes."""


def small(day: Day, flights: int = 12) -> Day:
    """A day's first flights, with their cabins and crew."""
    names = {flight.name for flight in day.flights[:flights]}
    crew = {one.stream for one in day.given if one.type == "assign" and one.body.get("flight") in names}

    def is_of(stream: str) -> bool:
        return stream in crew or stream.removeprefix("flight:").removesuffix(".seats") in names

    return replace(
        day,
        flights=day.flights[:flights],
        streams=tuple(stream for stream in day.streams if is_of(stream)),
        given=tuple(one for one in day.given if is_of(one.stream)),
    )


@pytest.fixture
def small_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play, "make_day", lambda rng, day, run: small(make_day(rng, day, run)))


def maker(node: TestNode) -> MakeStream:
    async def make(stream: str, members: Mapping[str, str]) -> bool:
        people = [Member(who, role) for who, role in members.items()]
        try:
            await node.log.create_stream("demo", stream, open=False, members=people, by="service:test")
        except Refused:
            return False
        return True

    return make


def wanted(node: TestNode, **fields: object) -> Wanted:
    made = Wanted(node.url, "http://127.0.0.1:1", token("service:demo", roles={"admin"}), token, time.time, AT_ONCE)
    return replace(made, **fields)  # type: ignore[arg-type]


def test_the_day_that_is_played_is_over_by_then() -> None:
    """As fast as it goes, the last day that is over; at its own speed, today's from its opening on."""
    day = date(2026, 11, 21)
    opens_ms, closes_ms = bounds(day)
    assert playable(closes_ms / 1000 + 1, AT_ONCE) == day
    assert playable(closes_ms / 1000 - 1, AT_ONCE) == date(2026, 11, 20)
    assert playable(opens_ms / 1000, 1.0) == day
    assert playable(opens_ms / 1000 - 1, 1.0) == date(2026, 11, 20)
    last_ms = max(one.at_ms for one in make_day(Random(1), day).given)
    assert opens_ms < last_ms < closes_ms


async def test_a_day_is_played_into_a_node(small_days: None) -> None:
    """Every command is given, in its stream's order, by whom the day says; the board knows each flight as the log has it."""
    async with serving_node() as node:
        day = await make_streams(maker(node), date(2026, 11, 20), show.SEED)
        player = Player(day, speed=AT_ONCE, url=node.url, token=token)
        with trio.fail_after(30):
            await player.run()
        board = player.board
        assert board.given == len(day.given) == board.obeyed + sum(board.refused.values())
        assert board.refused["unchanged"]
        assert board.repeated == 0
        assert board.statuses() == {"completed": 12}
        found = await node.log.open_streams([("demo", flight.stream, "user:ops") for flight in day.flights])
        heads = {facts.stream: facts.head for facts in found if facts is not None}
        assert {stream: board.heads[stream] for stream in heads} == heads
        events = await node.log.ruled("demo", found[0].sid, 0, 100)  # type: ignore[union-attr]
        assert {event.by for event in events} <= set(MEMBERS)
        assert len({event.by for event in events}) > 3


async def test_a_day_can_be_played_again_and_again(small_days: None) -> None:
    """Each time its streams have names of their own; with --loop it begins anew by itself."""
    async with serving_node() as node:
        out = io.StringIO()
        first = await run_demo(wanted(node), Console(file=out, width=120), maker(node))
        second = await run_demo(wanted(node), Console(file=out, width=120), maker(node))
        assert [board.given for board in first] == [board.given for board in second] != [0]
        assert not set(first[0].flights) & set(second[0].flights)
        assert all(stream.endswith("-2") for stream in second[0].flights)
        assert f"flight:{next(iter(second[0].flights.values())).name}" in out.getvalue()
        assert "obeyed" in out.getvalue()


async def test_a_terminal_shows_the_board_and_a_picture_is_left(
    small_days: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal the flights are there with their status; the SVG has them as well."""
    async with serving_node() as node:
        out = io.StringIO()
        console = Console(file=out, width=130, height=40, force_terminal=True)
        picture = tmp_path / "demo.svg"
        monkeypatch.setattr(show, "FRAME_S", 0.002)
        await run_demo(wanted(node, svg=picture), console, maker(node))
        text = out.getvalue()
        assert "QX100" in text
        assert "arrived" in text
        assert "refused:" in text
        assert "QX100" in picture.read_text()


def test_rows_of_the_node_are_what_is_shown_where_it_has_them() -> None:
    """A row of flight:board takes the place of what was folded here; of flights of other days nothing is taken."""
    day = make_day(Random(1), date(2026, 11, 21))
    board = Board(day.flights)
    flight = day.flights[0]
    row = {**board.shown(flight.stream), "status": "cancelled"}
    signal = {"op": "signal", "stream": "flight:board", "kind": "row", "value": row, "age": 0.0}
    board.heard({**signal, "key": "QX1-20200101"})
    before = board.from_node
    board.heard({**signal, "key": flight.name})
    board.heard({"op": "signal", "stream": flight.stream, "kind": "presence", "by": "user:ops", "value": "online"})
    assert (before, board.from_node) == (False, True)
    assert board.row(flight)["status"] == "cancelled"
    console = Console(width=130, file=io.StringIO(), record=True)
    console.print(screen(board, flight.out_ms, len(day.given), 12.0, rows=200))
    assert "rows of flight:board" in (text := console.export_text())
    assert "1 cancelled" in text


async def test_streams_are_made_over_http_and_refusals_are_told() -> None:
    """New, there before, asked to wait, and a refusal in the gateway's words; nobody there is a sentence."""
    answers = [httpx.Response(429, headers={"retry-after": "0"}), httpx.Response(201), httpx.Response(409)]
    answers.append(httpx.Response(403, json={"detail": "creating a stream needs a token with role admin"}))
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answers.pop(0)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://rt.example") as client:
        streams = Streams(client, "TOKEN")
        assert await streams.make("flight:QX1", MEMBERS)
        assert not await streams.make("flight:QX1", MEMBERS)
        with pytest.raises(CliError, match="needs a token with role admin"):
            await streams.make("flight:QX1", MEMBERS)
        assert asked[0].headers["authorization"] == "Bearer TOKEN"
    async with httpx.AsyncClient(base_url="http://127.0.0.1:1") as client:
        with pytest.raises(CliError, match=r"no gateway answers at http://127\.0\.0\.1:1"):
            await Streams(client, "TOKEN").make("flight:QX1", MEMBERS)


async def test_a_gateway_that_goes_away_ends_the_demo_with_a_sentence(small_days: None) -> None:
    """The connection's end is said, and what was given before is told."""
    async with serving_node() as node:
        day = await make_streams(maker(node), date(2026, 11, 20), show.SEED)
        player = Player(day, speed=60.0, url=node.url, token=token)

        async def playing() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(player.run)
                await until(lambda: player.board.given)
                await node.stop()

        with pytest.raises(BaseExceptionGroup) as raised:
            await playing()
        said = explain(raised.value)
        assert said is not None
        assert "the gateway ended the connection" in said[0]


async def test_nobody_there_is_a_sentence() -> None:
    """A port where nothing listens: what to start, and no traceback."""
    day = small(make_day(Random(1), date(2026, 11, 20)))
    with pytest.raises(BaseExceptionGroup) as raised:
        await Player(day, speed=60.0, url="ws://127.0.0.1:1/v1/ws", token=token).run()
    said = explain(raised.value)
    assert said is not None
    assert "start one with `readback dev`" in said[0]


def test_a_speed_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """Said before anything is asked of a gateway."""
    result = CliRunner().invoke(app, ["demo", "flights", "--speed", "0", "--data", str(tmp_path)])
    assert result.exit_code == 2
    assert "--speed" in result.output


def test_mistakes_of_the_day_are_refused_whatever_the_clock_says() -> None:
    """A day played later than it was is refused the same: no mistake in it becomes right by the passing of time."""
    day = make_day(Random(show.SEED), date(2026, 11, 20))
    then, later = World(), World()
    refused = []
    for one in day.given:
        body = referred(one, then.shown(one.stream)) if "ref" in one.body else one.body
        mine = refused_for(then.give(one._replace(body=body)))
        other = refused_for(later.give(one._replace(body=body, at_ms=one.at_ms + 86_400_000)))
        refused.append((mine, other))
    assert [pair for pair in refused if bool(pair[0]) != bool(pair[1])] == []
