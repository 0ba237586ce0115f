"""``readback demo trips``: vehicles driven into a gateway, with their arrival times in the terminal.

For: somebody who wants to see positions, arrival times and alerts live. Promises: Ctrl-C ends it, and the terminal is as it
was; into a pipe it says a line now and then. Does not: drive (`gateway.demo.drive`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final
from uuid import uuid4

import httpx
import trio
from rich.console import Console

from gateway.demo.drive import Driver, Tally
from gateway.demo.drive_view import screen, summary
from gateway.demo.play import MakeStream, MakeToken
from gateway.demo.show import LINE_S, TIMEOUT_S, Streams, draw, save_picture, until_told
from gateway.demo.town import town_trips
from gateway.eta.trips import Trip, read_trips

SEED: Final = 20_261_128
TOWN_TRIPS: Final = 200
PICTURE_COLUMNS, PICTURE_ROWS = 124, 26
PICTURE_AT_S: Final = 150.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """``trips``: a file of `readback eta`'s format; ``None``: a made-up town's."""

    url: str
    http_url: str
    admin: str
    token: MakeToken
    wall: Callable[[], float]
    trips: Path | None = None
    count: int = 12
    speed: float = 1.0
    loop: bool = False
    seed: int = SEED
    svg: Path | None = None


def trips_of(wanted: Wanted) -> list[Trip]:
    """In an order of the seed's. Raises `CliError`."""
    if wanted.trips is None:
        return town_trips(TOWN_TRIPS, wanted.seed)
    found = read_trips(wanted.trips)
    Random(wanted.seed).shuffle(found)
    return found


async def run_trips(wanted: Wanted, console: Console, make: MakeStream | None = None) -> Tally:
    """What became of the trips. Ends when all were driven, or with SIGINT or SIGTERM. Raises `CliError`."""
    trips = trips_of(wanted)
    async with trio.open_nursery() as nursery, httpx.AsyncClient(base_url=wanted.http_url, timeout=TIMEOUT_S) as client:
        nursery.start_soon(until_told, nursery.cancel_scope)
        driver = Driver(
            trips,
            count=wanted.count,
            speed=wanted.speed,
            url=wanted.url,
            token=wanted.token,
            make=make or Streams(client, wanted.admin).make,
            rng=Random(wanted.seed),
            wall=wanted.wall,
            new_id=uuid4,
            loop=wanted.loop,
        )
        whose = "a made-up town's" if wanted.trips is None else f"of {wanted.trips.name}"
        said = f"driving {len(trips)} trips {whose}, {wanted.count} at a time"
        console.print(said, style="dim", highlight=False, soft_wrap=True)
        try:
            nursery.start_soon(_draw if console.is_terminal else _tell, driver, console)
            if wanted.svg is not None:
                nursery.start_soon(_picture, driver, wanted.svg)
            await driver.run()
        finally:
            if not console.is_terminal:  # there it is on the screen that stays
                console.print(summary(driver.tally), highlight=False, soft_wrap=True)
        nursery.cancel_scope.cancel()
    return driver.tally


async def _draw(driver: Driver, console: Console) -> None:
    await draw(console, lambda rows: screen(driver.tally, driver.wall(), rows))


async def _tell(driver: Driver, console: Console) -> None:
    """What is new, and how it stands where that has changed."""
    tally, heard, before = driver.tally, 0, ""
    while True:
        await trio.sleep(LINE_S)
        fresh, heard = tally.heard - heard, tally.heard
        for line in list(tally.news)[-fresh:] if fresh else ():
            console.print(line, highlight=False, soft_wrap=True)
        said = f"{len(tally.rides)} under way; {summary(tally)}"
        if said != before:
            console.print(said, style="dim", highlight=False, soft_wrap=True)
        before = said


async def _picture(driver: Driver, file: Path) -> None:
    """The screen when the first have arrived."""
    await trio.sleep(PICTURE_AT_S)
    await save_picture(file, screen(driver.tally, driver.wall(), PICTURE_ROWS), PICTURE_COLUMNS, "readback demo trips")
