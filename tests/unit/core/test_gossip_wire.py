"""core.gossip_wire: whatever bytes come, they are a whole message or none."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import gossip_wire
from core.bus import BUS_PAYLOAD_MAX
from core.gossip_wire import COUNT_MAX, Ask, Beat, End, Told
from core.wire import SEQ_MAX
from tests.gossips import Nodes

GOOD = ["n1", 1, [[7, "user:amy", 1]], [[7]], [[7, "user:amy", True]], [[7, "user:amy", 2, 1]]]


def test_what_is_told_comes_out_as_it_went_in() -> None:
    """Every field, through bytes and back."""
    told = Told(
        "n1",
        SEQ_MAX,
        [[1, "user:amy", 0, "user:bob", COUNT_MAX - 1]],
        [[2], [3, "service:x", 1 << 20]],
        [[1, "device:truck-7", False]],
        [[1, "user:amy", 5, 3, "user:bob", 0, 0]],
    )
    assert gossip_wire.parse_told(gossip_wire.encode_told(told)) == told
    assert gossip_wire.parse_notice(gossip_wire.encode_beat("n1", 3, {0: 1, 15: 99})) == Beat("n1", 3, {0: 1, 15: 99})
    assert gossip_wire.parse_notice(gossip_wire.encode_ask("n1", ["n2"], 4, [7])) == Ask("n1", ["n2"], 4, [7])
    assert gossip_wire.parse_notice(gossip_wire.encode_end("n1")) == End("n1")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, ""),
        (0, "x" * 65),
        (0, 1),
        (1, 0),
        (1, True),
        (1, 1.0),
        (1, SEQ_MAX + 1),
        (2, {}),
        (2, [7]),
        (2, [[]]),
        (2, [["7", "user:amy", 1]]),
        (2, [[7, "user:amy"]]),
        (2, [[7, "amy", 1]]),
        (2, [[7, "user:amy", -1]]),
        (2, [[7, "user:amy", COUNT_MAX]]),
        (2, [[7, "user:amy", True]]),
        (3, [[7, "user:amy", "1"]]),
        (3, [[0]]),
        (4, [[7]]),
        (4, [[7, "user:amy", 1]]),
        (4, [[7, "user:amy", True, "user:bob", True]]),
        (5, [[7, "user:amy", 1]]),
        (5, [[7, "user:amy", 1, -1]]),
        (5, [[7, None, 1, 1]]),
        (5, None),
    ],
)
def test_one_wrong_value_spoils_the_message(field: int, value: object) -> None:
    """Nothing of it is taken, however good the rest is."""
    assert gossip_wire.parse_told(orjson.dumps(GOOD)) is not None
    assert gossip_wire.parse_told(orjson.dumps([*GOOD[:field], value, *GOOD[field + 1 :]])) is None


@pytest.mark.parametrize(
    "parts",
    [
        [],
        {},
        "beat",
        ["beat"],
        ["beat", "n1", 0, []],
        ["beat", "n1", 1, [1]],
        ["beat", "n1", 1, [1, "2"]],
        ["beat", "n1", 1, [1, -2]],
        ["beat", "n1", 1, list(range(10_000))],
        ["ask", "n1", ["n2"], -1, [7]],
        ["ask", "n1", [2], 0, [7]],
        ["ask", "n1", ["n2"], 0, ["7"]],
        ["ask", "n1", ["n2"], 0, list(range(1, 502))],
        ["ask", "n1", ["n2"], 0],
        ["end"],
        ["end", None],
        ["end", "n1", 1],
        ["other", "n1"],
    ],
)
def test_no_notice(parts: object) -> None:
    """Neither a heartbeat nor a question nor an end."""
    assert gossip_wire.parse_notice(orjson.dumps(parts)) is None


def test_what_is_too_long_is_not_even_read() -> None:
    """More than the bus carries cannot have come over it."""
    assert gossip_wire.parse_told(b" " * BUS_PAYLOAD_MAX + orjson.dumps(GOOD)) is None


_atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(0, 9),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.sampled_from(["n1", "n2", "user:amy", "user:bob", "beat", "ask", "end"]),
)
_values = st.recursive(
    _atoms,
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=25,
)
_payloads = st.one_of(
    st.binary(max_size=60),
    _values.map(orjson.dumps),
    st.tuples(st.integers(0, 5), _values).map(lambda at: orjson.dumps([*GOOD[: at[0]], at[1], *GOOD[at[0] + 1 :]])),
)


@settings(max_examples=500, derandomize=True, database=None, deadline=None)
@given(st.sampled_from(["nodes", "signals:0", "signals:1", "events:0", ""]), _payloads)
def test_a_node_takes_any_bytes(channel: str, payload: bytes) -> None:
    """Never an exception; what it does not take changes nothing."""
    nodes = Nodes("a")
    amy = nodes["a"].follow(7, "user:amy")
    nodes.pump(1.0)
    stream = nodes["a"].hub.by_sid[7]
    before = (dict(stream.present), stream.far, dict(stream.marks), dict(stream.signals), nodes["a"].gossip.nodes)
    taken = nodes["a"].gossip.receive(channel, payload, nodes.now_s)
    if not taken:
        after = (dict(stream.present), stream.far, dict(stream.marks), dict(stream.signals), nodes["a"].gossip.nodes)
        assert after == before
        assert not nodes["a"].gossip.pressing
    nodes.pump(1.0)
    assert amy.frames()


def test_a_row_that_is_too_long_goes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two people a message: of a state all but the first part are changes, or each would deny the one before."""
    monkeypatch.setattr(gossip_wire, "ROWS_PER_MESSAGE", 2)
    rows = gossip_wire.Rows()
    rows.add(0, gossip_wire.STATES, [7, "a", 1, "b", 1, "c", 1], 2)
    rows.add(0, gossip_wire.MARKS, [7, "a", 1, 1, "b", 2, 2, "c", 3, 3], 3)
    rows.add(1, gossip_wire.STATES, [8], 2)
    assert rows.parts == {
        0: [
            ([], [[7, "a", 1, "b", 1]], [], []),
            ([[7, "c", 1]], [], [], []),
            ([], [], [], [[7, "a", 1, 1, "b", 2, 2]]),
            ([], [], [], [[7, "c", 3, 3]]),
        ],
        1: [([], [[8]], [], [])],
    }


def test_short_rows_share_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is full; one that has nobody takes a place too."""
    monkeypatch.setattr(gossip_wire, "ROWS_PER_MESSAGE", 3)
    rows = gossip_wire.Rows()
    rows.add(0, gossip_wire.CHANGES, [1, "a", 1], 2)
    rows.add(0, gossip_wire.STATES, [2], 2)
    rows.add(0, gossip_wire.TYPING, [3, "a", True], 2)
    rows.add(0, gossip_wire.STATES, [4], 2)
    assert rows.parts == {0: [([[1, "a", 1]], [[2]], [[3, "a", True]], []), ([], [[4]], [], [])]}


@pytest.mark.parametrize("payload", [b"", b"[", b"\xff", b"{}", b'"x"', b"[NaN]", b'["end","n1"]x'])
def test_what_is_no_list_is_no_message(payload: bytes) -> None:
    """Cut short, not JSON, or JSON of another kind."""
    assert gossip_wire.parse_told(payload) is None
    assert gossip_wire.parse_notice(payload) is None
