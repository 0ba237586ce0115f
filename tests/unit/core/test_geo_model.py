"""A model is one JSON document; what cannot be used is a sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.geo.features import NAMES
from core.geo.model import BANDS_S, EARLY_MAX_S, Model, aimed_s, read_model, seconds_of
from core.geo.pace import learn
from core.geo.steady import Calm
from core.geo.trees import Trees

BANDS = (-1.0, -1.1, -1.2, -1.3, -1.4)


def model() -> Model:
    high = tuple(-one for one in BANDS)
    trees = Trees(0.1, [(0, 5.0, 0.1, -0.1)])
    return Model(learn([]), trees, trees, BANDS, high, (0.1,) * 5, -0.5, Calm(), {"trips": 3})


def test_json_keeps_it() -> None:
    """What is written is read."""
    again = read_model(json.loads(json.dumps(model().json())))
    assert not isinstance(again, str)
    assert again[3:] == model()[3:]
    assert again.mean.trees == model().mean.trees
    assert again.spread.base == 0.1


def test_bands_are_by_time_to_go() -> None:
    """Each end belongs to the nearer band."""
    assert [model().band(end)[0] for end in BANDS_S] == list(BANDS[:4])
    assert model().band(901.0) == (-1.4, 1.4, 0.1)


def test_seconds_are_between_none_and_a_week() -> None:
    """Whatever a model says."""
    assert seconds_of(-1e300) == 0.0
    assert seconds_of(1e300) == 7 * 86_400.0
    assert seconds_of(0.0) == 0.0


def test_the_aim_is_early_but_never_by_much() -> None:
    """By spreads near the arrival, by the bound far from it."""
    assert aimed_s(5.0, 0.2, -1.0) == seconds_of(4.8)
    assert aimed_s(8.0, 0.2, -1.0) == seconds_of(8.0) - EARLY_MAX_S


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "x"}, "no model"),
        ({"version": 2}, "another version"),
        ({"features": list(NAMES[1:])}, "another version"),
        ({"pace": []}, "pace"),
        ({"mean": []}, "JSON object"),
        ({"spread": {"base": 0, "trees": 1}}, "list of at most"),
        ({"low": 5}, "spreads"),
        ({"low": [1.0] * 5}, "spreads"),
        ({"high": [float("nan")] * 5}, "spreads"),
        ({"even": ["x"] * 5}, "spreads"),
        ({"aim": None}, "spreads"),
        ({"even": [0.0] * 4}, "5 bands"),
        ({"calm": {}}, "calm has"),
        ({"calm": 5}, "calm has"),
        ({"trained": 5}, "trained"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(change: dict[str, Any], says: str) -> None:
    """Each fault has its words."""
    found = read_model(model().json() | change)
    assert isinstance(found, str)
    assert says in found


def test_only_an_object_is_a_model() -> None:
    """A list is none."""
    assert isinstance(read_model([]), str)
