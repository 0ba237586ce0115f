"""core.flight.read_models: which rows a stream makes, by its name."""

from __future__ import annotations

import pytest

from core.flight.read_models import source_of
from core.flight.registry import machine_of
from tests.flight_rows import FLIGHT


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        (f"flight:{FLIGHT}", FLIGHT),
        (f"flight:{FLIGHT}.seats", FLIGHT),
        ("flight:crew.c7", "c7"),
        ("flight:boards", "boards"),
        ("flight:board", None),
        ("flight:board.SYD", None),
        ("chat:ops", None),
    ],
)
def test_streams_are_told_apart_by_name(stream: str, name: str | None) -> None:
    """As the registry of machines does it: where one decides, rows are made."""
    source = source_of(stream)
    assert (None if source is None else source.name) == name
    assert (source is None) is (machine_of(stream) is None)
