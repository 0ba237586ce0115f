"""Files of models, predictions and alerts: written whole or not at all, read with file and line where they are wrong.

For: `readback eta`. Promises: a file that is there is whole (it is written beside it and renamed). Does not: score.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import orjson

from core.geo.model import Model, read_model
from core.geo.score import Alert, Call, Said
from gateway.cli_errors import USAGE, CliError
from gateway.eta.played import Played
from gateway.eta.trips import is_number, lines_of

MODEL_MAX = 500_000_000  # bytes


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file that is there when all went well, and else as it was."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            yield file
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_whole(path: Path, lines: Iterable[bytes]) -> None:
    with whole(path) as file:
        file.writelines(lines)


def write_model(path: Path, model: Model) -> None:
    write_whole(path, [orjson.dumps(model.json(), option=orjson.OPT_APPEND_NEWLINE)])


def load_model(path: Path) -> Model:
    if not path.is_file():
        raise CliError(f"there is no model {path}; `readback eta train` makes one", USAGE)
    if path.stat().st_size > MODEL_MAX:
        raise CliError(f"{path} is larger than any model ({MODEL_MAX} bytes)", USAGE)
    try:
        model = read_model(orjson.loads(path.read_bytes()))
    except orjson.JSONDecodeError as error:
        raise CliError(f"{path} is no JSON ({error})", USAGE)
    if isinstance(model, str):
        raise CliError(f"{path}: {model}", USAGE)
    return model


def prediction_lines(played: Iterable[Played]) -> Iterable[bytes]:
    for one in played:
        for said in one.said:
            line = {
                "trip": one.trip.name,
                "at_s": round(said.at_s, 1),
                "eta_s": round(said.eta_s, 1),
                "low_s": round(said.low_s, 1),
                "high_s": round(said.high_s, 1),
                "source": said.source,
            }
            yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def alert_lines(played: Iterable[Played]) -> Iterable[bytes]:
    for one in played:
        for threshold_s, at_s, eta_s, merged in one.alerts:
            line = {
                "trip": one.trip.name,
                "threshold_s": threshold_s,
                "at_s": round(at_s, 1),
                "eta_s": round(eta_s, 1),
            }
            yield orjson.dumps(line | ({"merged": merged} if merged else {}), option=orjson.OPT_APPEND_NEWLINE)


def call_lines(played: Iterable[Played]) -> Iterable[bytes]:
    for one in played:
        for call in one.calls:
            line = {"trip": one.trip.name, "at_s": round(call.at_s, 1), "why": call.why, "failed": call.failed}
            yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _number(body: dict[str, object], name: str, where: str) -> float:
    value = body.get(name)
    if not is_number(value):
        raise CliError(f"{where}: {name} is no number", USAGE)
    return float(value)


def _lines(path: Path, known: frozenset[str]) -> Iterable[tuple[str, str, dict[str, object]]]:
    for number, body in lines_of(path):
        where = f"{path}, line {number}"
        trip = body.get("trip") if isinstance(body, dict) else None
        if not isinstance(body, dict) or not isinstance(trip, str):
            raise CliError(f"{where}: a line is a JSON object with its trip", USAGE)
        if trip not in known:
            raise CliError(f"{where}: there is no trip {trip[:80]} among the trips", USAGE)
        yield where, trip, body


def read_predictions(path: Path, known: frozenset[str]) -> dict[str, list[Said]]:
    said: dict[str, list[Said]] = {}
    for where, trip, body in _lines(path, known):
        at_s, eta_s, low_s, high_s = (_number(body, name, where) for name in ("at_s", "eta_s", "low_s", "high_s"))
        lines = said.setdefault(trip, [])
        if lines and at_s < lines[-1].at_s:
            raise CliError(f"{where}: this was said before the line above", USAGE)
        lines.append(Said(at_s, eta_s, low_s, high_s, str(body.get("source", ""))))
    return said


def read_alerts(path: Path, known: frozenset[str]) -> dict[str, list[Alert]]:
    alerts: dict[str, list[Alert]] = {}
    for where, trip, body in _lines(path, known):
        merged = body.get("merged", [])
        if not (isinstance(merged, list) and all(isinstance(one, int | float) for one in merged)):
            raise CliError(f"{where}: merged is no list of thresholds", USAGE)
        alert = Alert(_number(body, "threshold_s", where), _number(body, "at_s", where), tuple(map(float, merged)))
        alerts.setdefault(trip, []).append(alert)
    return alerts


def read_calls(path: Path, known: frozenset[str]) -> dict[str, list[Call]]:
    calls: dict[str, list[Call]] = {}
    for where, trip, body in _lines(path, known):
        why, failed = body.get("why", ""), body.get("failed", False)
        if not (isinstance(why, str) and isinstance(failed, bool)):
            raise CliError(f"{where}: why is a word, and failed true or false", USAGE)
        calls.setdefault(trip, []).append(Call(_number(body, "at_s", where), why, failed))
    return {trip: sorted(made) for trip, made in calls.items()}
