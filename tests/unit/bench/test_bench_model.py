"""bench.model: results survive their JSON, and what is not a result is refused in words."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import orjson
import pytest
from bench_results import result

from bench import model
from bench.model import PeerResult


def test_a_result_survives_its_json(tmp_path: Path) -> None:
    """Everything that was measured is read back equal."""
    path = tmp_path / "deep" / "bench-fanout.json"
    model.write(result(), path)
    assert model.from_json(path.read_bytes()) == result()


def test_the_json_names_no_machine_and_no_path() -> None:
    """A result can be published as it is."""
    written = model.to_json(result())
    assert b'"/' not in written
    assert os.uname().nodename.encode() not in written


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"[]", "not a benchmark result of format 1"),
        (b'{"format":2}', "not a benchmark result of format 1"),
        (b'{"format":1}', "missing or of the wrong shape"),
    ],
)
def test_what_is_no_result_is_refused_in_words(data: bytes, reason: str) -> None:
    """A wrong file is named for what it is."""
    with pytest.raises(ValueError, match=reason):
        model.from_json(data)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("surprise", 1),
        ("scenario", 7),
        ("quick", 1),
        ("peers", {}),
        ("peers", [{"peer": "x", "rates": {"a": 1}}]),
        ("parameters", {"a": [1]}),
        ("machine", None),
    ],
)
def test_a_field_of_the_wrong_shape_is_refused(field: str, value: object) -> None:
    """Nothing of another shape gets into a table by accident."""
    raw = dataclasses.asdict(result()) | {field: value}
    with pytest.raises(ValueError, match="missing or of the wrong shape"):
        model.from_json(orjson.dumps(raw))


def test_a_peer_that_is_missing_is_no_peer_of_a_ratio() -> None:
    """Targets are computed from what was measured only."""
    made = result()
    assert made.peer("readback") is not None
    assert made.peer("ws") is None
    assert made.peer("nobody") is None


@pytest.mark.parametrize(
    ("target", "asked", "met"),
    [
        (model.at_most("a", 1.5, 1.5, "x"), "at most 1.5 x", True),
        (model.at_most("a", 1.5, 1.51, "x"), "at most 1.5 x", False),
        (model.at_least("a", 25_000, 25_000, ""), "at least 25000", True),
        (model.at_least("a", 25_000, 24_999, ""), "at least 25000", False),
        (model.below("a", 100, 100, "ms"), "below 100 ms", False),
        (model.below("a", 100, 99.9, "ms"), "below 100 ms", True),
        (model.exactly("a", 0, 0, ""), "exactly 0", True),
        (model.exactly("a", 0, 1, ""), "exactly 0", False),
    ],
)
def test_a_target_is_met_on_its_own_side_of_the_bound(target: model.Target, asked: str, met: bool) -> None:
    """The bound belongs to "at most" and "at least", not to "below"."""
    assert (target.asked, target.met) == (asked, met)


def test_two_results_of_peers_share_nothing() -> None:
    """One server's figures never appear in another's row."""
    one, other = PeerResult("a"), PeerResult("b")
    one.counts["x"] = 1
    assert other.counts == {}
