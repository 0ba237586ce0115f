"""Trees say compiled what they say walked; what are none is a sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.geo.trees import DEPTH_MAX, NODES_MAX, TREES_MAX, Tree, Trees, read_trees

NUMBERS = st.floats(-1e3, 1e3)
TREES = st.recursive(NUMBERS, lambda deeper: st.tuples(st.integers(0, 3), NUMBERS, deeper, deeper), max_leaves=12)


def walk(tree: Tree, x: list[float]) -> float:
    """The plain way."""
    while not isinstance(tree, float):
        tree = tree[2] if x[tree[0]] <= tree[1] else tree[3]
    return tree


@given(NUMBERS, st.lists(TREES, max_size=6), st.lists(NUMBERS, min_size=4, max_size=6))
def test_compiled_is_walked(base: float, trees: list[Tree], x: list[float]) -> None:
    """For any trees and features, also read back from JSON."""
    asked = Trees(base, trees)
    meant = base
    for tree in trees:
        meant += walk(tree, x)
    assert asked.ask(x) == meant
    again = read_trees(json.loads(json.dumps(asked.json())), 4)
    assert not isinstance(again, str)
    assert again.ask(x) == meant


def test_at_most_the_threshold_goes_left() -> None:
    """Equal is left."""
    trees = Trees(1.0, [(0, 5.0, 10.0, 20.0)])
    assert trees.ask([5.0]) == 11.0
    assert trees.ask([5.1]) == 21.0


def deep(levels: int) -> Any:
    return 1.0 if levels == 0 else [0, 0.0, deep(levels - 1), 1.0]


def full(levels: int) -> Any:
    return 1.0 if levels == 0 else [0, 0.0, full(levels - 1), full(levels - 1)]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "JSON object"),
        ({"trees": []}, "base"),
        ({"base": True, "trees": []}, "base"),
        ({"base": 0, "trees": 1}, "list of at most"),
        ({"base": 0, "trees": [1.0] * (TREES_MAX + 1)}, "list of at most"),
        ({"base": 0, "trees": [1.0, "import os"]}, "tree 1: a node"),
        ({"base": 0, "trees": [[0, 1.0, 2.0]]}, "a node"),
        ({"base": 0, "trees": [["x", 1.0, 2.0, 3.0]]}, "a feature"),
        ({"base": 0, "trees": [[True, 1.0, 2.0, 3.0]]}, "a feature"),
        ({"base": 0, "trees": [[2, 1.0, 2.0, 3.0]]}, "from 0 to 1"),
        ({"base": 0, "trees": [[0, "__import__('os')", 2.0, 3.0]]}, "a threshold"),
        ({"base": 0, "trees": [[0, float("nan"), 2.0, 3.0]]}, "a threshold"),
        ({"base": 0, "trees": [[0, 0.0, float("inf"), 3.0]]}, "a node"),
        ({"base": 0, "trees": [deep(DEPTH_MAX + 1)]}, "deeper"),
        ({"base": 0, "trees": [full(12)] * (NODES_MAX // 4_096 + 1)}, "nodes"),
    ],
)
def test_what_are_no_trees_is_a_sentence(body: Any, says: str) -> None:
    """Each fault has its words; nothing but numbers gets as far as being compiled."""
    found = read_trees(body, 2)
    assert isinstance(found, str)
    assert says in found


def test_the_deepest_tree_that_is_allowed_is_read() -> None:
    """The bound itself."""
    assert isinstance(read_trees({"base": 0, "trees": [deep(DEPTH_MAX)]}, 2), Trees)
