"""docs/asyncapi.yaml against a node: whatever is said on a lively wire has a schema there, and validates.

The sessions are docs/protocol.md's own examples and a script of what that page has no room for. Every frame of the node
is looked up by its op, an answer by the op it answers; a frame without a message in the document is a failure.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
import yaml

from core.geo.plausible_words import REASONS, VERDICTS
from core.limits import Limits
from core.wire import Close
from gateway.ops import _HANDLERS
from gateway.service import WIRE_CODES
from store.memory import MemoryLog
from store.memory_tracks import MemoryTracks
from tests.flight_rows import FLIGHT, flight
from tests.hubs import Bench
from tests.moving import TRIP, Mover, send, tracking_node
from tests.nodes import TestNode, memory_log, serving_node
from tests.wire_client import hello
from tests.wire_page import ANY, blocks, playing

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT: dict[str, Any] = yaml.safe_load((DOCS / "asyncapi.yaml").read_text())
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]

PUSHED = {
    "event": "event",
    "reset": "reset",
    "unsub": "removed",
    "mark": "marker",
    "marks": "marks",
    "signal": "latest",
    "drain": "drain",
    "bye": "bye",
    "error": "error",
    "pong": "pong",
}
"""Message of each op that the node says without an id."""

ROOMY = """
ops → POST /v1/streams {"stream":"chat:hall","open":true}
ops ← 201 {"stream":"chat:hall","open":true,"head":0,"first":1}
ops → PUT /v1/streams/chat:hall/members/user:amy {"role":"owner"}
ops ← 200 {"changed":true,"event":"…"}
ops → PUT /v1/streams/chat:hall/members/user:amy {"role":"reader"}
ops ← 200 {"changed":true,"event":"…"}
amy → {"op":"hello","id":1,"token":"<token>","log":"another life","streams":{"chat:hall":{"after":1},"no name":{},
       "user:amy":{"last":3},"chat:gone":{"after":-1}}}
amy ← {"op":"welcome","id":1,"session":"…","principal":"user:amy","log":"…","resume":"…","resume_ttl":300,
       "heartbeat":25,"time":"…","expires":"…","limits":"…","streams":{"chat:hall":{"head":2,"after":0},
       "no name":{"error":"bad_request"},"user:amy":{"head":0,"after":0},"chat:gone":{"error":"bad_request"}}}
amy ← {"op":"reset","stream":"chat:hall","reason":"epoch","first":1,"head":2}
amy ← {"op":"event","stream":"chat:hall","seq":1,"type":"member.joined","key":"…","by":"service:ops","at":"…","body":"…"}
amy ← {"op":"event","stream":"chat:hall","seq":2,"type":"member.role","key":"…","by":"service:ops","at":"…","body":"…"}
amy → {"op":"signal","id":2,"stream":"chat:hall","kind":"typing","value":true}
amy ← {"op":"error","id":2,"code":"forbidden","message":"only a reader of chat:hall"}
amy → {"op":"mark","id":3,"stream":"chat:hall","delivered":2}
amy ← {"op":"ok","id":3,"stream":"chat:hall","delivered":2,"read":0}
bob → {"op":"hello","id":1,"token":"<token>","streams":{"chat:hall":{}}}
bob ← {"op":"welcome","id":1,"session":"…","principal":"user:bob","log":"…","resume":"…","resume_ttl":300,
       "heartbeat":25,"time":"…","expires":"…","limits":"…","streams":{"chat:hall":{"head":2,"after":2}}}
bob ← {"op":"mark","stream":"chat:hall","by":"user:amy","delivered":2,"read":0}
bob → {"op":"signal","id":2,"stream":"chat:hall","kind":"typing","value":true}
bob ← {"op":"ok","id":2}
amy ← {"op":"signal","stream":"chat:hall","kind":"typing","by":"user:bob","value":true,"age":"…"}
cy → {"op":"hello","id":1,"token":"<token>","streams":{"chat:hall":{}}}
cy ← {"op":"welcome","id":1,"session":"…","principal":"user:cy","log":"…","resume":"…","resume_ttl":300,
       "heartbeat":25,"time":"…","expires":"…","limits":"…","streams":{"chat:hall":{"head":2,"after":2}}}
amy ← {"op":"signal","stream":"chat:hall","kind":"online","value":3,"joined":["user:cy"],"age":0.0}
cy → {"op":"mark","stream":"chat:hall","read":2}
amy ← {"op":"marks","stream":"chat:hall","seq":2,"delivered":2,"read":1}
cy → {"op":"mark","stream":"chat:hall","read":"two"}
cy ← {"op":"error","code":"bad_request","message":"…"}
cy → {"op":"send","id":2,"stream":"chat:hall","key":"5e0f6a1c-8f39-4a1e-9f0e-2a7d3c1b4e51","body":null}
cy ← {"op":"ok","id":2,"stream":"chat:hall","seq":3,"at":"…","dup":false}
cy ← {"op":"event","stream":"chat:hall","seq":3,"type":"message","key":"…","by":"user:cy","at":"…","body":null}
amy ← {"op":"event","stream":"chat:hall","seq":3,"type":"message","key":"…","by":"user:cy","at":"…","body":null}
bob ← {"op":"event","stream":"chat:hall","seq":3,"type":"message","key":"…","by":"user:cy","at":"…","body":null}
cy2 → {"op":"resume","id":1,"resume":"r1.forged"}
cy2 ← {"op":"error","id":1,"code":"resume_rejected","message":"…"}
cy2 → {"op":"hello","id":2,"token":"forged"}
cy2 ← {"op":"bye","code":"unauthorized","reason":"…","retry_after":null}
cy2 ← close 4501
"""
"""For a node where a room of three is large."""


@functools.cache
def validator(message: str) -> jsonschema.Draft7Validator:
    pointer = f"#/components/messages/{message}/payload"
    return jsonschema.Draft7Validator({"allOf": [{"$ref": pointer}], "components": DOCUMENT["components"]})


def check(message: str, frame: dict[str, Any]) -> None:
    errors = [error.message for error in validator(message).iter_errors(frame)]
    assert not errors, f"{message}: {frame}: {errors}"


def replies(op: str) -> list[str]:
    return [name_of(ref) for ref in DOCUMENT["operations"][op]["reply"]["messages"]]


def name_of(reference: dict[str, str]) -> str:
    return reference["$ref"].rpartition("/")[2]


class Judge:
    """Looks at every frame of a session; ``met`` counts the messages that were found good."""

    def __init__(self) -> None:
        self.met: Counter[str] = Counter()
        self._asked: dict[tuple[str, int], dict[str, Any]] = {}

    def __call__(self, name: str, way: str, frame: dict[str, Any]) -> None:
        if way == "→":
            if "id" in frame:
                self._asked[name, frame["id"]] = frame
        elif "id" in frame:
            self._answer(self._asked.pop((name, frame["id"])), frame)
        else:
            self._found(PUSHED[frame["op"]], frame)

    def _answer(self, request: dict[str, Any], frame: dict[str, Any]) -> None:
        if frame["op"] == "error":
            self._found("error", frame)
            return
        [message] = [reply for reply in replies(request["op"]) if reply != "error"]
        self._found(message, frame)
        if not any(told.get("error") == "bad_request" for told in frame.get("streams", {}).values()):
            self._found(request["op"], request)  # what was carried out is what the document lets a client say

    def _found(self, message: str, frame: dict[str, Any]) -> None:
        check(message, frame)
        self.met[message] += 1


async def part(node: TestNode, judge: Judge, log: MemoryLog) -> None:
    """A store that fails, a fresh token in a pong, a message too large, a drain and its last words."""
    async with playing(node, judge) as page:
        hello = 'amy → {"op":"hello","id":1,"token":"<token>","streams":{"chat:hall":{}}}'
        await page.play([hello, f'amy ← {{"op":"welcome","id":1{WELCOME}}}'])
        log.fail_next("unavailable", "append")
        send = '"stream":"chat:hall","key":"5e0f6a1c-8f39-4a1e-9f0e-2a7d3c1b4e60","body":1'
        error = '"code":"unavailable","message":"…","retry_after":"…"'
        await page.play([f"bob → {HELLO}", f'bob ← {{"op":"welcome","id":1{WELCOME}}}'])
        await page.play([f'bob → {{"op":"send","id":2,{send}}}', f'bob ← {{"op":"error","id":2,{error}}}'])
        for connection in node.node.shard.connections.values():
            connection.token_at_s = 0.0
        await page.play(['bob → {"op":"ping","id":3}', 'bob ← {"op":"pong","id":3,"time":"…","resume":"…"}'])
        large = '{"op":"ping","x":"' + "x" * node.node.limits.frame_bytes_max + '"}'
        bye = '{"op":"bye","code":"%s","reason":"…","retry_after":%s}'
        await page.play([f"bob → {large}", f"bob ← {bye % ('too_large', 'null')}", "bob ← close 4505"])
        await node.node.drain(window_s=0.1)
        drain = 'amy ← {"op":"drain","after_ms":0,"resume":"…"}'
        last = bye % ("draining", '"…"')
        await page.play([drain, f"amy ← {last}", "amy ← close 4001"])


HELLO = '{"op":"hello","id":1,"token":"<token>","streams":{"chat:hall":{}}}'
WELCOME = "".join(
    f',"{name}":"{ANY}"'
    for name in (
        "session",
        "principal",
        "log",
        "resume",
        "resume_ttl",
        "heartbeat",
        "time",
        "expires",
        "limits",
        "streams",
    )
)


async def test_every_frame_of_a_lively_session_has_its_schema() -> None:
    """Whatever a node says validates, and every message of the document that this version can say was said."""
    judge, first = Judge(), memory_log()
    async with serving_node(first, tracks=MemoryTracks(first)) as node, playing(node, judge) as page:
        for lines in blocks((DOCS / "protocol.md").read_text()):
            await page.play(lines)
    log = memory_log()
    limits = Limits(presence_list_max=2, presence_grace_s=0.1)
    async with serving_node(log, limits) as node:
        async with playing(node, judge) as page:
            for lines in blocks(f"```wire{ROOMY}```"):
                await page.play(lines)
        await part(node, judge, log)
    assert set(MESSAGES) - set(judge.met) == set()


def test_what_large_rooms_are_told_has_its_schema() -> None:
    """Who joined and left, that there were more, and everybody once the room is small again."""
    bench = Bench(replace(Limits(), presence_list_max=2))
    room = bench.stream()
    amy, *others = [bench.follow(room, f"user:u{n}") for n in range(60)]
    bench.signals()
    for port in others[:3]:
        bench.hub.drop(port, bench.now_s)
    bench.signals(6.0)
    for port in others[3:]:
        bench.hub.drop(port, bench.now_s)
    bench.signals(6.0)
    told = [frame for frame in amy.frames() if frame["op"] == "signal"]
    for frame in told:
        check("latest", frame)
    assert [sorted(frame.keys() & {"joined", "left", "more", "people"}) for frame in told] == [
        ["joined", "more"],
        ["left"],
        ["people"],
    ]
    with pytest.raises(AssertionError):
        check("latest", told[2] | {"left": ["user:u1"]})


async def test_rows_of_a_board_have_their_schema() -> None:
    """As a node says them: a row that is there, and one that is gone."""
    async with serving_node() as node:
        await node.stream("flight:board")
        async with hello(node.url, "user:amy", {"flight:board": {}}) as amy:
            stream = node.node.hub.by_name["demo", "flight:board"]
            for value in (flight().rows["flight_board", FLIGHT], None):
                node.node.hub.signals.rows(stream, {FLIGHT: (value, 0.0)}, 0.0)
                node.node.settle()
                frame = await amy.next("signal", kind="row")
                check("latest", frame)
                assert frame["value"] == value
        with pytest.raises(AssertionError):
            check("latest", frame | {"by": "user:amy"})


async def test_positions_have_their_schema() -> None:
    """As a node shows them: the latest, the trail, what is stale, what is shown no more; and every verdict there is."""
    async with tracking_node() as (node, _):
        mover = Mover()
        async with hello(node.url, "device:truck-7") as truck, hello(node.url, "user:amy", {TRIP: {}}) as amy:
            answer = await send(truck, mover.fix(9.0), mover.fix(5.0, lat=-30.0), mover.fix(2.0, mock=True))
            check("verdicts", answer)
            assert len({each["verdict"] for each in answer["verdicts"]}) > 1
            check("latest", await amy.next("signal", kind="position"))
            async with hello(node.url, "user:bob", {TRIP: {}}) as bob:
                check("latest", await bob.next("signal", kind="trail"))
            real, positions = node.node.wall, node.node.positions
            assert positions is not None
            node.node.wall = lambda: real() + 1_000.0
            frame = await amy.next("signal", kind="position")
            assert frame["value"]["stale"]
            check("latest", frame)
            node.node.hub.signals.unshow(node.node.hub.by_name["demo", TRIP], ("position", "device:truck-7"))
            positions.showing._dirty.set()
            frame = await amy.next("signal", kind="position", value=None)
            check("latest", frame)
    reasons = MESSAGES["verdicts"]["payload"]["properties"]["verdicts"]["items"]["properties"]
    assert set(reasons["verdict"]["enum"]) == set(VERDICTS)
    own = {"replayed", "too_old", "bad_signature", "unsigned"}
    assert set(reasons["reason"]["enum"]) == {reason for reason in REASONS if reason} | own
    for reason in reasons["reason"]["enum"]:
        assert f"`{reason}`" in (DOCS / "protocol.md").read_text(), reason


def test_a_frame_of_no_schema_is_noticed() -> None:
    """The judge itself: an op that the document lacks, a field too many and one too few all fail."""
    judge = Judge()
    with pytest.raises(KeyError):
        judge("amy", "←", {"op": "surprise"})
    with pytest.raises(AssertionError):
        judge("amy", "←", {"op": "pong", "time": "2026-11-21T09:30:00.000Z", "extra": 1})
    with pytest.raises(AssertionError):
        judge("amy", "←", {"op": "bye", "code": "idle", "reason": "x"})


def test_the_document_knows_every_op_code_and_close() -> None:
    """An op that the node handles, an error code or a bye code that is missing here (or only here) fails."""
    operations = DOCUMENT["operations"]
    assert {name for name, operation in operations.items() if operation["action"] == "receive"} == set(_HANDLERS)
    for op in _HANDLERS:
        assert MESSAGES[op]["payload"]["properties"]["op"] == {"const": op}
    assert set(MESSAGES["error"]["payload"]["properties"]["code"]["enum"]) == WIRE_CODES
    byes = {close.name.lower() for close in Close}
    assert set(MESSAGES["bye"]["payload"]["properties"]["code"]["enum"]) == byes


def test_the_document_hangs_together() -> None:
    """Every reference leads somewhere, every schema is a schema, every message is used by an operation."""
    references = list(_references(DOCUMENT))
    assert references
    for reference in references:
        at: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            assert step in at, reference
            at = at[step]
    jsonschema.Draft7Validator.check_schema({"definitions": DOCUMENT["components"]["schemas"]})
    for message in MESSAGES.values():
        jsonschema.Draft7Validator.check_schema(message["payload"])
    channel = DOCUMENT["channels"]["socket"]
    assert {name: name_of(message) for name, message in channel["messages"].items()} == {
        name: name for name in MESSAGES
    }
    used: set[str] = set()
    for name, operation in DOCUMENT["operations"].items():
        assert operation["action"] in ("send", "receive"), name
        used |= {name_of(message) for message in operation["messages"]}
        used |= {name_of(message) for message in operation.get("reply", {}).get("messages", [])}
    assert used == set(MESSAGES)


def test_frames_shown_outside_the_played_examples_are_valid_too() -> None:
    """docs/protocol.md shows some frames in running text (a drain, an aggregate): each is what the node would say."""
    text = (DOCS / "protocol.md").read_text()
    shown = [orjson.loads(code) for code in re.findall(r"`(\{\"op\":[^`]+\})`", text)]
    assert {frame["op"] for frame in shown} == {"marks", "signal", "drain", "error"}
    for frame in shown:
        check(PUSHED[frame["op"]], frame)


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)
