"""The result of a benchmark as data: what a JSON file of it holds, and what the tables and plots are made from.

A `Result` is one scenario in one run of the harness; it holds a `PeerResult` for every server measured in that run, the
bare floor among them, because only ratios within one run are claims. Every figure that was repeated is a `Spread`
(median, least, greatest); every latency is a `Summary` of merged samples with its count.

Written by `to_json`, read back by `from_json`, which refuses what it does not know.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import orjson

from bench.proc import Machine
from bench.stats import Spread, Summary

FORMAT = 1
"""Raised whenever a field changes its meaning; a reader refuses other numbers."""

Parameter = int | float | str | bool


@dataclass(frozen=True, slots=True)
class Target:
    """One promise of the issue: what was asked, what was measured, whether it is met in this run."""

    name: str
    asked: str
    """In words, with the bound and its unit: ``at most 1.5 x floor``."""
    measured: float
    unit: str
    met: bool


@dataclass(slots=True)
class PeerResult:
    """One server in one scenario. ``missing`` says in words why nothing was measured; then all else is empty."""

    peer: str
    durable: bool = False
    note: str = ""
    missing: str | None = None
    cpu_us: dict[str, Spread] = field(default_factory=dict)
    """CPU microseconds a unit, by what was counted: ``server per delivery``, ``postgres per send``, …"""
    rates: dict[str, Spread] = field(default_factory=dict)
    """Units a second of wall time: ``echoes/s``, ``sends/s``."""
    values: dict[str, Spread] = field(default_factory=dict)
    """Anything else, its unit in its name: ``rss an idle connection (KB)``."""
    latency_us: dict[str, Summary] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    """Exact counts, summed over all runs: ``deliveries``, ``duplicates``."""
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """(seconds since the start, value) pairs for plots."""


@dataclass(slots=True)
class Result:
    scenario: str
    at: str
    """RFC 3339 UTC, when the run began."""
    quick: bool
    """A smoke run: its figures show that the harness works, nothing else."""
    machine: Machine
    parameters: dict[str, Parameter]
    peers: list[PeerResult]
    targets: list[Target]
    notes: list[str] = field(default_factory=list)
    """How it was measured, where that is not obvious: sampling, who was the bottleneck."""
    took_s: float = 0.0
    format: int = FORMAT

    def peer(self, name: str) -> PeerResult | None:
        return next((one for one in self.peers if one.peer == name and one.missing is None), None)


def at_most(name: str, limit: float, measured: float, unit: str) -> Target:
    return Target(name, f"at most {limit:g}{_spaced(unit)}", measured, unit, measured <= limit)


def at_least(name: str, limit: float, measured: float, unit: str) -> Target:
    return Target(name, f"at least {limit:g}{_spaced(unit)}", measured, unit, measured >= limit)


def below(name: str, limit: float, measured: float, unit: str) -> Target:
    return Target(name, f"below {limit:g}{_spaced(unit)}", measured, unit, measured < limit)


def exactly(name: str, value: float, measured: float, unit: str) -> Target:
    return Target(name, f"exactly {value:g}{_spaced(unit)}", measured, unit, measured == value)


def _spaced(unit: str) -> str:
    return f" {unit}" if unit else ""


def to_json(result: Result) -> bytes:
    return orjson.dumps(dataclasses.asdict(result), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def write(result: Result, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_json(result))


def from_json(data: bytes) -> Result:
    """`ValueError`, in words fit for a terminal, when the file is not a result of this format."""
    try:
        raw = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise ValueError(f"not a benchmark result of format {FORMAT}")
    try:
        return _build(Result, raw)
    except (KeyError, TypeError) as error:
        raise ValueError(f"a field is missing or of the wrong shape: {error}") from error


T = TypeVar("T")


def _build(kind: type[T], raw: Any) -> T:
    """A dataclass from its JSON, by its annotations; `TypeError` on any other shape."""
    if not isinstance(raw, dict):
        raise TypeError(f"{kind.__name__} is an object")
    hints = typing.get_type_hints(kind)
    unknown = raw.keys() - hints.keys()
    if unknown:
        raise TypeError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
    return kind(**{name: _value(hints[name], value) for name, value in raw.items()})


def _value(hint: Any, raw: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type[Any], hint), raw)
    if origin is list and isinstance(raw, list):
        return [_value(arguments[0], one) for one in raw]
    if origin is dict and isinstance(raw, dict):
        return {name: _value(arguments[1], one) for name, one in raw.items()}
    if origin is tuple and isinstance(raw, list) and len(raw) == len(arguments):
        return tuple(_value(one, value) for one, value in zip(arguments, raw, strict=True))
    if origin in (typing.Union, types.UnionType):
        if raw is None and type(None) in arguments:
            return None
        if all(one in (int, float, str, bool, type(None)) for one in arguments):
            return _scalar(raw)
        return _value(next(one for one in arguments if one is not type(None)), raw)
    if origin is Literal and raw in arguments:
        return raw
    if hint is float and isinstance(raw, int | float) and not isinstance(raw, bool):
        return float(raw)
    if hint in (int, str, bool) and type(raw) is hint:
        return raw
    raise TypeError(f"{raw!r} where {hint} belongs")


def _scalar(raw: Any) -> Any:
    if isinstance(raw, int | float | str | bool):
        return raw
    raise TypeError(f"{raw!r} where a plain value belongs")
