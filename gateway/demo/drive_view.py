"""How driven trips look in a terminal: who is where, when each will arrive and how sure that is, what came of those that
have."""

from __future__ import annotations

from datetime import datetime
from statistics import median
from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gateway.demo.drive import Ride, Tally

STYLES: Final = {"joining": "dim", "under way": "green", "arrived": "blue", "lost": "bold red"}
BAR: Final = 18
ROWS_BESIDE: Final = 10
"""Of the terminal, that are not trips'."""
NEWS: Final = 6


def clock(at_s: float | None) -> str:
    """Local time of day."""
    return "" if at_s is None else datetime.fromtimestamp(at_s).astimezone().strftime("%H:%M:%S")


def minutes(seconds: float) -> str:
    sign, whole = "-" if seconds < 0 else "", abs(round(seconds))
    return f"{sign}{whole // 60}:{whole % 60:02d}"


def table(rides: list[Ride], now_s: float) -> Table:
    shown = Table(box=None, padding=(0, 1), header_style="bold", expand=False)
    for name in ("vehicle", "way", "left", "arrives", "between", "and", "by", "told", "next in", "positions", "status"):
        shown.add_column(name, justify="right" if name in ("left", "next in", "positions") else "left", no_wrap=True)
    for ride in rides:
        whole_s = ride.trip.arrive_s / ride.speed
        eta_s = ride.eta_s()
        told = " ".join(f"{threshold_s // 60}′" for threshold_s in sorted(ride.told, reverse=True))
        odd = sum(count for verdict, count in ride.verdicts.items() if verdict != "accepted")
        shown.add_row(
            ride.trip.vehicle,
            ProgressBar(total=max(1.0, whole_s), completed=min(whole_s, max(0.0, now_s - ride.began_s)), width=BAR),
            "" if eta_s is None else "any moment" if eta_s <= now_s else minutes(eta_s - now_s),
            Text(clock(eta_s), "bold"),
            Text(clock(ride.eta_s("low")), "dim"),
            Text(clock(ride.eta_s("high")), "dim"),
            str(ride.shown.get("source", "")),
            told,
            f"{ride.next_in_s:.0f} s" if ride.next_in_s else "",
            f"{ride.sent}" + (f" ({odd} odd)" if odd else ""),
            Text(ride.status, STYLES[ride.status]),
        )
    return shown


def summary(tally: Tally) -> str:
    """How many arrived; how many alerts came, and of those that are over how many came twice or not, and how far they were from
    when they should have."""
    over = [ride for ride in tally.done if ride.status == "arrived"]
    lost = sum(ride.status == "lost" for ride in tally.done)
    told = sum(len(ride.told) for ride in (*tally.done, *tally.rides))
    doubled = sum(ride.doubled for ride in (*tally.done, *tally.rides))
    due = [(ride, threshold_s) for ride in over for threshold_s in ride.due_s]
    missed = sum(threshold_s not in ride.told and threshold_s not in ride.merged for ride, threshold_s in due)
    errors = [abs(ride.alerts[threshold_s] - threshold_s) for ride, threshold_s in due if threshold_s in ride.alerts]
    said = f"{len(over)} arrived, {lost} not seen to; {told} alerts, {doubled} twice, {missed} missed"
    return said + (f"; half of them within {median(errors):.0f} s of when they were due" if errors else "")


def screen(tally: Tally, now_s: float, rows: int) -> RenderableType:
    rides = sorted(tally.rides, key=lambda ride: ride.arrives_s)[: max(3, rows - ROWS_BESIDE)]
    more = len(tally.rides) - len(rides)
    parts: list[RenderableType] = [table(rides, now_s)]
    if more > 0:
        parts.append(Text(f"  and {more} more", "dim"))
    parts.append(Text(""))
    parts += [Text(f"  {line}", "dim") for line in list(tally.news)[-NEWS:]]
    parts.append(Text(f"{clock(now_s)}  {summary(tally)}"))
    if tally.refused:
        odd = ", ".join(f"{count} {what}" for what, count in tally.refused.most_common(4))
        parts.append(Text(f"positions: {odd}", "dim"))
    return Group(*parts)
