"""``readback demo flights``: a day played into a gateway, with its board in the terminal.

For: somebody who wants to see flights live in a `readback dev` (or any gateway whose keys are at hand). Promises: Ctrl-C ends
it with what was done, and the terminal as it was; into a pipe it says a line now and then. Does not: decide anything
(`gateway.demo.play`).
"""

from __future__ import annotations

import io
import re
import signal
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import trio
from rich.console import Console, RenderableType
from rich.live import Live

from gateway.cli_errors import CliError
from gateway.demo.board import Board
from gateway.demo.play import MakeStream, MakeToken, Player, make_streams, playable
from gateway.demo.view import rows_of, screen

FRAME_S: Final = 0.25
LINE_S: Final = 5.0
"""Between lines, where nobody looks at a terminal."""
RATE_S: Final = 5.0
PICTURE_COLUMNS, PICTURE_ROWS = 116, 24
PICTURE_AT: Final = 0.65
"""Of the commands: about noon."""
TIMEOUT_S: Final = 15.0
SEED: Final = 20_261_121


@dataclass(frozen=True, slots=True)
class Wanted:
    """``now_s``: the time of day, for which day to play; ``svg``: where to leave a picture of the board."""

    url: str
    http_url: str
    admin: str
    token: MakeToken
    now_s: Callable[[], float]
    speed: float = 60.0
    loop: bool = False
    seed: int = SEED
    svg: Path | None = None


class Streams:
    """Makes streams over the HTTP API, as an admin."""

    def __init__(self, client: httpx.AsyncClient, token: str) -> None:
        self._client = client
        self._headers = {"authorization": f"Bearer {token}"}

    async def make(self, stream: str, members: Mapping[str, str]) -> bool:
        body = {"stream": stream, "members": [{"principal": who, "role": role} for who, role in members.items()]}
        while True:
            try:
                answer = await self._client.post("/v1/streams", json=body, headers=self._headers)
            except httpx.HTTPError as error:
                said = str(error) or type(error).__name__
                raise CliError(
                    f"no gateway answers at {self._client.base_url} ({said}); start one with `readback dev`, or give --http-url"
                ) from None
            if answer.status_code not in (429, 503):
                break
            await trio.sleep(float(answer.headers.get("retry-after", "1")))
        if answer.is_success:
            return True
        if answer.status_code == 409:
            return False
        raise CliError(f"the gateway does not make {stream}: {_detail(answer)}")


def _detail(answer: httpx.Response) -> str:
    try:
        said: Any = answer.json()
        return str(said.get("detail") or answer.status_code)
    except (ValueError, AttributeError):
        return f"status {answer.status_code}"


class Rate:
    """Commands a second, of late."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def at(self, now_s: float, given: int) -> float:
        points = self._points
        points.append((now_s, given))
        while len(points) > 2 and points[0][0] < now_s - RATE_S:
            points.popleft()
        then_s, then = points[0]
        passed = now_s - then_s
        return (given - then) / passed if passed > 0 else 0.0


async def run_demo(wanted: Wanted, console: Console, make: MakeStream | None = None) -> list[Board]:
    """The boards of the days that were played. Ends by itself, or with SIGINT or SIGTERM. Raises `CliError`."""
    played: list[Board] = []
    async with trio.open_nursery() as nursery, httpx.AsyncClient(base_url=wanted.http_url, timeout=TIMEOUT_S) as client:
        nursery.start_soon(until_told, nursery.cancel_scope)
        maker = make or Streams(client, wanted.admin).make
        while True:
            await _play(wanted, console, maker, played)
            if not wanted.loop:
                break
        nursery.cancel_scope.cancel()
    return played


async def until_told(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def _play(wanted: Wanted, console: Console, make: MakeStream, played: list[Board]) -> None:
    date = playable(wanted.now_s(), wanted.speed)
    console.print(f"making the streams of {date}", style="dim")
    day = await make_streams(make, date, wanted.seed)
    player = Player(day, speed=wanted.speed, url=wanted.url, token=wanted.token)
    played.append(player.board)
    name = day.flights[0].name
    console.print(
        f"playing {len(day.given):,} commands to {len(day.streams)} streams, such as flight:{name}", style="dim"
    )
    began_s = trio.current_time()
    try:
        async with trio.open_nursery() as nursery:
            show = _draw if console.is_terminal else _tell
            nursery.start_soon(show, player, console)
            if wanted.svg is not None:
                nursery.start_soon(_picture, player, wanted.svg)
            await player.run()
            nursery.cancel_scope.cancel()
    finally:
        board = player.board
        console.print(
            f"{board.given:,} of {player.total:,} commands in {trio.current_time() - began_s:,.1f} s: {board.obeyed:,} obeyed, "
            f"{sum(board.refused.values()):,} refused; {board.events:,} events of flights",
            highlight=False,
        )


async def draw(console: Console, screen: Callable[[int], RenderableType]) -> None:
    """The screen of so many rows, again and again; the last one stays."""
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        try:
            while True:
                live.update(screen(rows_of(console)), refresh=True)
                await trio.sleep(FRAME_S)
        finally:
            live.update(screen(rows_of(console)), refresh=True)


async def save_picture(file: Path, screen: RenderableType, columns: int, title: str) -> None:
    """An SVG that asks nobody for a font."""
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True)
    console.print(screen)
    svg = console.export_svg(title=title)
    await trio.Path(file).write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))


async def _draw(player: Player, console: Console) -> None:
    rate = Rate()
    await draw(console, lambda rows: _screen(player, rate, rows))


async def _tell(player: Player, console: Console) -> None:
    while True:
        await trio.sleep(LINE_S)
        board = player.board
        statuses = ", ".join(f"{count} {status}" for status, count in board.statuses().most_common())
        console.print(f"{board.given:,} of {player.total:,} commands; {statuses}", highlight=False)


def _screen(player: Player, rate: Rate, rows: int) -> RenderableType:
    board = player.board
    per_s = rate.at(trio.current_time(), board.given)
    return screen(board, player.now_ms(), player.total, per_s, rows=rows)


async def _picture(player: Player, file: Path) -> None:
    """The screen when `PICTURE_AT` of the commands are given."""
    rate = Rate()
    while player.board.given < PICTURE_AT * player.total:
        rate.at(trio.current_time(), player.board.given)
        await trio.sleep(FRAME_S)
    await save_picture(file, _screen(player, rate, PICTURE_ROWS), PICTURE_COLUMNS, "readback demo flights")
