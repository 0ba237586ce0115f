"""Messages that are no JSON, no message of ours, or one with every field wrong: a clear answer each, and nothing else."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
import pytest

from core.limits import Limits
from tests.hostile.peer import Frame, Peer, text
from tests.hostile.scene import ROOM, VAULT, Scene, forbidden_words, scene
from tests.nodes import token

KEY = "0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11"
ANSWERED = b'{"op":"ping","id":%b}'

NO_MESSAGE: dict[str, tuple[bytes, str]] = {
    "an empty frame": (b"", "malformed JSON"),
    "spaces only": (b" " * 65_536, "malformed JSON"),
    "half an object": (b'{"op":"ping"', "malformed JSON"),
    "two objects": (b'{"op":"ping"}{"op":"ping"}', "malformed JSON"),
    "a trailing comma": (b'{"op":"ping",}', "malformed JSON"),
    "a comment": (b'{"op":"ping"/* hi */}', "malformed JSON"),
    "single quotes": (b"{'op':'ping'}", "malformed JSON"),
    "an array": (b'[{"op":"ping"}]', "one JSON object"),
    "a number": (b"4", "one JSON object"),
    "a string": (b'"ping"', "one JSON object"),
    "null": (b"null", "one JSON object"),
    "a byte order mark": (b'\xef\xbb\xbf{"op":"ping"}', "malformed JSON"),
    "NaN": (b'{"op":"ping","id":NaN}', "malformed JSON"),
    "Infinity": (b'{"op":"ping","id":Infinity}', "malformed JSON"),
    "-Infinity": (b'{"op":"ping","id":-Infinity}', "malformed JSON"),
    "1e400": (b'{"op":"ping","id":1,"n":1e400}', "malformed JSON"),
    "an integer of 400 digits": (b'{"op":"ping","id":1,"n":' + b"7" * 400 + b"}", "malformed JSON"),
    "a lone high surrogate": (b'{"op":"ping","s":"\\ud800"}', "malformed JSON"),
    "a lone low surrogate": (b'{"op":"ping","s":"\\udc00"}', "malformed JSON"),
    "surrogates the wrong way round": (b'{"op":"ping","s":"\\udc00\\ud800"}', "malformed JSON"),
    "a raw NUL in a string": (b'{"op":"ping","s":"\0"}', "malformed JSON"),
    "a raw line feed in a string": (b'{"op":"ping","s":"a\nb"}', "malformed JSON"),
    "\\x escapes": (b'{"op":"ping","s":"\\x41"}', "malformed JSON"),
    "trailing letters": (b'{"op":"ping"}x', "malformed JSON"),
    "a trailing NUL": (b'{"op":"ping"}\0', "malformed JSON"),
    "a trailing bracket": (b'{"op":"ping"}]', "malformed JSON"),
    "two objects on two lines": (b'{"op":"ping"}\n{"op":"ping"}', "malformed JSON"),
    "a record separator first": (b'\x1e{"op":"ping"}', "malformed JSON"),
    "a guard against scripts first": (b')]}\',\n{"op":"ping"}', "malformed JSON"),
    "a byte order mark twice": (b"\xef\xbb\xbf" * 2 + b'{"op":"ping"}', "malformed JSON"),
    "UTF-16": ('{"op":"ping"}'.encode("utf-16-le"), "malformed JSON"),
    "UTF-32": ('{"op":"ping"}'.encode("utf-32-be"), "malformed JSON"),
    "a no-break space for white space": ('{"op":\xa0"ping"}'.encode(), "malformed JSON"),
    "a form feed for white space": (b'{"op":\x0c"ping"}', "malformed JSON"),
    "typographic quotes": ("{\u201cop\u201d:\u201cping\u201d}".encode(), "malformed JSON"),
    "a key without quotes": (b'{op:"ping"}', "malformed JSON"),
    "a key that is a number": (b'{1:"ping"}', "malformed JSON"),
    "a key that is null": (b'{null:"ping"}', "malformed JSON"),
    "a key without a value": (b'{"op"}', "malformed JSON"),
    "a value without a key": (b'{"op":"ping",:1}', "malformed JSON"),
    "commas only": (b"{" + b"," * 60_000 + b"}", "malformed JSON"),
    "undefined": (b'{"op":"ping","id":undefined}', "malformed JSON"),
    "True of Python": (b'{"op":"ping","x":True}', "malformed JSON"),
    "an open string": (b'{"op":"ping', "malformed JSON"),
    "an escape that ends too soon": (b'{"op":"ping","s":"\\u12"}', "malformed JSON"),
    "an escape that is none": (b'{"op":"ping","s":"\\a"}', "malformed JSON"),
    "a raw tab in a string": (b'{"op":"ping","s":"a\tb"}', "malformed JSON"),
    "a high surrogate and a letter": (b'{"op":"ping","s":"\\ud800a"}', "malformed JSON"),
    "a lone surrogate in a key": (b'{"op":"ping","\\udfff":1}', "malformed JSON"),
    "true": (b"true", "one JSON object"),
    "a string of 60 KB": (b'"' + b"a" * 60_000 + b'"', "one JSON object"),
    "an empty array": (b"[]", "one JSON object"),
    "a batch": (b'[{"op":"ping","id":1},{"op":"ping","id":2}]', "one JSON object"),
    "65 deep, in a field nobody reads": (b'{"op":"ping","a":' + b"[" * 64 + b"]" * 64 + b"}", "nested deeper than 64"),
    "objects 1,000 deep, an empty key each": (b'{"":' * 1_000 + b"1" + b"}" * 1_000, "nested deeper than 64"),
    "arrays 30,000 deep": (b'{"op":' + b"[" * 30_000 + b"]" * 30_000 + b"}", "malformed JSON"),
    "arrays 60,000 deep, never closed": (b"[" * 60_000, "malformed JSON"),
    "objects 10,000 deep": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "malformed JSON"),
    "arrays 100 deep": (b'{"op":"ping","a":' + b"[" * 100 + b"]" * 100 + b"}", "nested deeper than 64"),
    "objects 100 deep": (b'{"op":' + b'{"a":' * 100 + b"1" + b"}" * 101, "nested deeper than 64"),
}


@pytest.mark.parametrize("name", NO_MESSAGE)
async def test_what_is_no_message_ends_the_connection_with_the_reason(name: str) -> None:
    """``bye/bad_frame`` and 4500: a client that cannot write JSON is told so once, and nothing of it is repeated."""
    data, reason = NO_MESSAGE[name]
    async with scene() as stage:
        peer = await stage.welcomed()
        await peer.put(text(data))
        code, bye = await peer.bye()
        assert (code, bye["code"], bye["retry_after"]) == (4500, "bad_frame", None)
        assert reason in bye["reason"]


async def test_json_100_000_deep_is_refused_where_frames_are_large_enough_for_it() -> None:
    """Depth is bounded by the parser itself, not by the stack of the process."""
    async with scene(limits=Limits(frame_bytes_max=1_000_000)) as stage:
        peer = await stage.welcomed()
        await peer.put(text(b'{"op":"ping","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"))
        assert (await peer.bye())[1]["code"] == "bad_frame"
        other = await stage.welcomed("user:other")
        await other.put(text(ANSWERED % b"8" + b" " * 999_000))
        assert (await other.next(id=8))["op"] == "pong"


ODD: dict[str, bytes] = {
    "op twice: the last counts": b'{"op":"bye","op":"ping","id":6}',
    "id twice: the last counts": b'{"op":"ping","id":9,"id":6}',
    "id twice, the first no number": b'{"op":"ping","id":[],"id":6}',
    "an empty key": b'{"":"","op":"ping","id":6}',
    "a key of 60 KB": b'{"%b":1,"op":"ping","id":6}' % (b"k" * 60_000),
    "ten thousand keys": b"{" + b"".join(b'"%d":%d,' % (n, n % 10) for n in range(6_000)) + b'"op":"ping","id":6}',
    "the same key ten thousand times": b"{" + b'"a":1,' * 10_000 + b'"op":"ping","id":6}',
    "escapes in the op's name": b'{"\\u006fp":"\\u0070ing","id":6}',
    "a key that looks like the op's": '{"\u043ep":"bye","op":"ping","id":6}'.encode(),
    "63 deep": b'{"op":"ping","id":6,"a":' + b"[" * 62 + b"]" * 62 + b"}",
    "brackets in a string": b'{"op":"ping","id":6,"a":"' + b"[{" * 10_000 + b'"}',
    "the least number that is not nothing": b'{"op":"ping","id":6,"n":1e-400}',
    "minus nothing": b'{"op":"ping","id":6,"n":-0}',
    "a fraction of 10,000 digits": b'{"op":"ping","id":6,"n":0.%b}' % (b"1" * 10_000),
    "white space all about": b'\n\t { "op" :\r\n"ping" , "id" : 6 } \n',
    "__proto__ and constructor": b'{"__proto__":{"op":"bye"},"constructor":1,"op":"ping","id":6}',
}


@pytest.mark.parametrize("name", ODD)
async def test_json_that_is_odd_and_good_is_read(name: str) -> None:
    """Where the grammar allows it, it means what RFC 8259 and the page say, and nobody falls over it."""
    async with scene() as stage:
        peer = await stage.welcomed()
        await peer.put(text(ODD[name]))
        assert (await peer.next(id=6))["op"] == "pong"
        await stage.still_serves(peer)


MISSPOKEN: dict[str, tuple[Frame | bytes, str, str]] = {
    "op missing": ({"id": 5}, "unknown_op", "op: one of"),
    "op null": ({"op": None}, "unknown_op", "op: one of"),
    "op a list": ({"op": ["ping"]}, "unknown_op", "op: one of"),
    "op an object": ({"op": {}}, "unknown_op", "op: one of"),
    "op a number": ({"op": 1}, "unknown_op", "op: one of"),
    "op in capitals": ({"op": "PING"}, "unknown_op", "op: one of"),
    "op of the server": ({"op": "welcome"}, "unknown_op", "op: one of"),
    "op of 60,000 letters": ({"op": "p" * 60_000}, "unknown_op", "op: one of"),
    "op with a line feed and an escape code": ({"op": "ping\r\n\x1b[2J"}, "unknown_op", "op: one of"),
    "op a name of the language": ({"op": "__class__"}, "unknown_op", "op: one of"),
    "position without fixes": ({"op": "position", "stream": "trip:9", "fixes": []}, "bad_request", "fixes: a list"),
    "position of a fix that is none": ({"op": "position", "stream": "trip:9", "fixes": [7]}, "bad_request", "fixes[0]"),
    "position with a sig of a number": ({"op": "position", "stream": "trip:9", "sig": 7}, "bad_request", "sig:"),
    "command to what is not there": ({"op": "command", "stream": "flight:1", "type": "x"}, "not_found", "no stream"),
    "hello again": ({"op": "hello", "token": "x"}, "bad_request", "already"),
    "resume when open": ({"op": "resume", "resume": "x"}, "bad_request", "already"),
    "sub of nothing": ({"op": "sub"}, "bad_request", "stream: kind:name"),
    "sub of a list": ({"op": "sub", "stream": [ROOM]}, "bad_request", "stream: kind:name"),
    "sub of an object": ({"op": "sub", "stream": {}}, "bad_request", "stream: kind:name"),
    "sub of another kind": ({"op": "sub", "stream": "room:ops"}, "bad_request", "stream: kind:name"),
    "sub of a path": ({"op": "sub", "stream": "chat:../ops"}, "bad_request", "stream: kind:name"),
    "sub with a line feed at the end": ({"op": "sub", "stream": ROOM + "\n"}, "bad_request", "stream: kind:name"),
    "sub with a NUL": ({"op": "sub", "stream": ROOM + "\0"}, "bad_request", "stream: kind:name"),
    "sub of a name with SQL": ({"op": "sub", "stream": "chat:';drop table x"}, "bad_request", "stream: kind:name"),
    "sub of a name of 129": ({"op": "sub", "stream": "chat:" + "a" * 129}, "bad_request", "stream: kind:name"),
    "sub of letters that look alike": ({"op": "sub", "stream": "chat:оps"}, "bad_request", "stream: kind:name"),
    "sub of what is not": ({"op": "sub", "stream": "chat:nowhere"}, "not_found", "no stream"),
    "sub after -1": ({"op": "sub", "stream": ROOM, "after": -1}, "bad_request", "after, last: an integer"),
    "sub after 1.5": ({"op": "sub", "stream": ROOM, "after": 1.5}, "bad_request", "after, last: an integer"),
    "sub after 2^53": ({"op": "sub", "stream": ROOM, "after": 2**53}, "bad_request", "after, last: an integer"),
    "sub after 2^63": ({"op": "sub", "stream": ROOM, "after": 2**63}, "bad_request", "after, last: an integer"),
    "sub after true": ({"op": "sub", "stream": ROOM, "after": True}, "bad_request", "after, last: an integer"),
    "sub after text": ({"op": "sub", "stream": ROOM, "after": "1"}, "bad_request", "after, last: an integer"),
    "sub after a list": ({"op": "sub", "stream": ROOM, "after": [1]}, "bad_request", "after, last: an integer"),
    "sub last -1": ({"op": "sub", "stream": ROOM, "last": -1}, "bad_request", "after, last: an integer"),
    "sub after and last": ({"op": "sub", "stream": ROOM, "after": 1, "last": 1}, "bad_request", "one of them"),
    "unsub of what is not followed": ({"op": "unsub", "stream": ROOM}, "not_found", "not followed"),
    "unsub of a list": ({"op": "unsub", "stream": []}, "not_found", "not followed"),
    "send to nothing": ({"op": "send", "key": KEY, "body": {}}, "bad_request", "stream: kind:name"),
    "send to a list": ({"op": "send", "stream": [], "key": KEY, "body": {}}, "bad_request", "stream: kind:name"),
    "send to an object": ({"op": "send", "stream": {}, "key": KEY, "body": {}}, "bad_request", "stream: kind:name"),
    "send without a body": ({"op": "send", "stream": ROOM, "key": KEY}, "bad_request", "body: what to send"),
    "send without a key": ({"op": "send", "stream": ROOM, "body": {}}, "bad_request", "key: a UUID"),
    "key a number": ({"op": "send", "stream": ROOM, "key": 7, "body": {}}, "bad_request", "key: a UUID"),
    "key without dashes": (
        {"op": "send", "stream": ROOM, "key": KEY.replace("-", ""), "body": {}},
        "bad_request",
        "key: a UUID",
    ),
    "key with a line feed": (
        {"op": "send", "stream": ROOM, "key": KEY + "\n", "body": {}},
        "bad_request",
        "key: a UUID",
    ),
    "type a number": ({"op": "send", "stream": ROOM, "key": KEY, "type": 1, "body": {}}, "bad_request", "type: lower"),
    "type null": ({"op": "send", "stream": ROOM, "key": KEY, "type": None, "body": {}}, "bad_request", "type: lower"),
    "type with a quote": (
        {"op": "send", "stream": ROOM, "key": KEY, "type": 'a","seq":9,"x":"', "body": {}},
        "bad_request",
        "type: lower",
    ),
    "type of 65 letters": (
        {"op": "send", "stream": ROOM, "key": KEY, "type": "a" * 65, "body": {}},
        "bad_request",
        "type: lower",
    ),
    "type member.joined": (
        {"op": "send", "stream": ROOM, "key": KEY, "type": "member.joined", "body": {"principal": "user:x"}},
        "forbidden",
        "membership API",
    ),
    "type member.left": (
        {"op": "send", "stream": ROOM, "key": KEY, "type": "member.left", "body": {"principal": "user:bystander-1"}},
        "forbidden",
        "membership API",
    ),
    "expect -1": (
        {"op": "send", "stream": ROOM, "key": KEY, "body": 1, "expect": -1},
        "bad_request",
        "expect: the head",
    ),
    "expect true": (
        {"op": "send", "stream": ROOM, "key": KEY, "body": 1, "expect": True},
        "bad_request",
        "expect: the",
    ),
    "expect 0.0": ({"op": "send", "stream": ROOM, "key": KEY, "body": 1, "expect": 0.0}, "bad_request", "expect: the"),
    "expect another head": (
        {"op": "send", "stream": ROOM, "key": KEY, "body": 1, "expect": 99},
        "conflict",
        "head is 0",
    ),
    "edit of nothing": (
        {"op": "send", "stream": ROOM, "key": KEY, "type": "edit", "body": {}},
        "bad_request",
        "body.ref",
    ),
    "edit of text": ({"op": "send", "stream": ROOM, "key": KEY, "type": "edit", "body": "x"}, "bad_request", "object"),
    "edit of seq 0": (
        {"op": "send", "stream": ROOM, "key": KEY, "type": "edit", "body": {"ref": 0}},
        "bad_request",
        "body.ref",
    ),
    "edit of seq 2^63": (
        {"op": "send", "stream": ROOM, "key": KEY, "type": "edit", "body": {"ref": 2**63}},
        "bad_request",
        "body.ref",
    ),
    "delete of a float": (
        {"op": "send", "stream": ROOM, "key": KEY, "type": "delete", "body": {"ref": 1.0}},
        "bad_request",
        "body.ref",
    ),
    "edit of what is not there": (
        {"op": "send", "stream": ROOM, "key": KEY, "type": "edit", "body": {"ref": 12}},
        "not_found",
        "no event 12",
    ),
    "a reaction of 33 characters": (
        {"op": "send", "stream": ROOM, "key": KEY, "type": "react", "body": {"ref": 1, "emoji": "x" * 33, "on": True}},
        "bad_request",
        "body.emoji",
    ),
    "a reaction neither on nor off": (
        {"op": "send", "stream": ROOM, "key": KEY, "type": "react", "body": {"ref": 1, "emoji": "x", "on": 1}},
        "bad_request",
        "body.on",
    ),
    "a body too large": (
        {"op": "send", "stream": ROOM, "key": KEY, "body": "x" * 50_000},
        "too_large",
        "at most 49152",
    ),
    "a body that grows when written as JSON": (
        b'{"op":"send","id":5,"stream":"chat:ops","key":"%b","body":"%b"}' % (KEY.encode(), b"\\u0001" * 9_000),
        "too_large",
        "at most 49152",
    ),
    "an integer beyond 64 bits in a body": (
        b'{"op":"send","id":5,"stream":"chat:ops","key":"%b","body":{"n":123456789012345678901234567890}}'
        % KEY.encode(),
        "bad_request",
        "64 bits",
    ),
    "a negative one, deep inside": (
        b'{"op":"send","id":5,"stream":"chat:ops","key":"%b","body":[[{"n":[-9223372036854775809]}]]}' % KEY.encode(),
        "bad_request",
        "64 bits",
    ),
    "mark of -1": ({"op": "mark", "stream": ROOM, "read": -1}, "bad_request", "delivered, read"),
    "mark of a list": ({"op": "mark", "stream": ROOM, "delivered": []}, "bad_request", "delivered, read"),
    "mark of 2^63": ({"op": "mark", "stream": ROOM, "read": 2**63}, "bad_request", "delivered, read"),
    "mark in a list": ({"op": "mark", "stream": [], "read": 1}, "bad_request", "stream: kind:name"),
    "a signal of no kind": ({"op": "signal", "stream": ROOM, "value": True}, "bad_request", "kind:"),
    "a signal of a list": ({"op": "signal", "stream": ROOM, "kind": [], "value": True}, "bad_request", "kind:"),
    "position as a signal": ({"op": "signal", "stream": ROOM, "kind": "position", "value": {}}, "bad_request", "kind:"),
    "typing 1": ({"op": "signal", "stream": ROOM, "kind": "typing", "value": 1}, "bad_request", "true or false"),
    "presence offline": (
        {"op": "signal", "stream": ROOM, "kind": "presence", "value": "offline"},
        "bad_request",
        '"online" or "away"',
    ),
    "presence of a list": (
        {"op": "signal", "stream": ROOM, "kind": "presence", "value": ["away"]},
        "bad_request",
        '"online" or "away"',
    ),
    "who is where": ({"op": "presence", "stream": None}, "bad_request", "stream: kind:name"),
    "history before 0": ({"op": "history", "stream": ROOM, "before": 0}, "bad_request", "before: a seq"),
    "history before 2^63": ({"op": "history", "stream": ROOM, "before": 2**63}, "bad_request", "before: a seq"),
    "history of -1": ({"op": "history", "stream": ROOM, "limit": -1}, "bad_request", "limit: an integer"),
    "history of 501": ({"op": "history", "stream": ROOM, "limit": 501}, "bad_request", "limit: an integer"),
    "history of 10.0": ({"op": "history", "stream": ROOM, "limit": 10.0}, "bad_request", "limit: an integer"),
    "history of a list": ({"op": "history", "stream": [], "limit": 1}, "bad_request", "stream: kind:name"),
}


@pytest.mark.parametrize("name", MISSPOKEN)
async def test_a_message_with_a_field_wrong_is_answered_and_nothing_is_sent(name: str) -> None:
    """The error carries the id and names the field; the connection goes on, and the room's head has not moved."""
    said, code, words = MISSPOKEN[name]
    async with scene() as stage:
        peer = await stage.welcomed()
        await peer.put(text({"id": 5, **said} if isinstance(said, dict) else said))
        answer = await peer.next(id=5)
        assert (answer["op"], answer["code"]) == ("error", code)
        assert words in answer["message"]
        await stage.still_serves(peer)
        assert (await peer.ask("sub", stream=ROOM))["head"] == 0


@pytest.mark.parametrize("id", [1.5, True, "1", [1], {}, 2**53, -(2**53), 2**63, 10**30])
async def test_an_id_is_a_whole_number_that_json_readers_hold(id: Any) -> None:
    """An id that could not be echoed exactly is refused, without an id."""
    async with scene() as stage:
        peer = await stage.welcomed()
        shown = str(id).encode() if isinstance(id, int) and abs(id) >= 2**63 else orjson.dumps(id)
        await peer.put(text(ANSWERED % shown))
        answer = await peer.next("error")
        assert (answer["code"], answer["message"], answer.get("id")) == ("bad_request", "id: an integer", None)
        await stage.still_serves(peer)


@pytest.mark.parametrize("op", ["sub", "history", "presence", "hello", "resume"])
async def test_what_needs_an_answer_needs_an_id(op: str) -> None:
    """Without one there is nobody to answer: said at once instead of answering into the void."""
    async with scene() as stage:
        opening = op in ("hello", "resume")
        peer = await stage.upgraded() if opening else await stage.welcomed()
        await peer.put(text({"op": op, "stream": ROOM, "token": token("user:mallory"), "resume": "x"}))
        answer = await peer.next("error")
        assert (answer["code"], answer.get("id")) == ("bad_request", None)
        assert answer["message"].startswith("id: ")


BODIES: dict[str, tuple[bytes, bytes]] = {
    "NUL": (b'{"text":"a\\u0000b"}', b'{"text":"a\\u0000b"}'),
    "every control character": (
        b'"' + b"".join(b"\\u%04x" % n for n in range(32)) + b'"',
        orjson.dumps("".join(map(chr, range(32)))),
    ),
    "escape codes": (b'{"text":"\\u001b[31mred\\u009b"}', '{"text":"\\u001b[31mred\x9b"}'.encode()),
    "line separators": (b'"\\u2028\\u2029"', '"\u2028\u2029"'.encode()),
    "beyond the first plane": (b'"\\ud83d\\ude00"', '"😀"'.encode()),
    "no character": (b'"\\uffff\\ufdd0"', '"\uffff\ufdd0"'.encode()),
    "right to left override": ('"\u202e"'.encode(), '"\u202e"'.encode()),
    "keys twice: the last counts": (b'{"a":1,"b":2,"a":3}', b'{"a":3,"b":2}'),
    "a key called op": (
        b'{"op":"bye","seq":-1,"stream":"chat:bystanders"}',
        b'{"op":"bye","seq":-1,"stream":"chat:bystanders"}',
    ),
    "__proto__": (b'{"__proto__":{"admin":true}}', b'{"__proto__":{"admin":true}}'),
    "markup": (b'"</script><img src=x onerror=alert(1)>"', b'"</script><img src=x onerror=alert(1)>"'),
    "percent signs and braces": (b'"%s%b%(x)s{0}$1;--"', b'"%s%b%(x)s{0}$1;--"'),
    "the largest whole numbers": (
        b"[18446744073709551615,-9223372036854775808]",
        b"[18446744073709551615,-9223372036854775808]",
    ),
    "a fraction of more digits than a double": (b"0.1234567890123456789", b"0.12345678901234568"),
    "a large number with an exponent": (b"[1e18,1E2]", b"[1e+18,100.0]"),
    "the smallest": (b"5e-324", b"5e-324"),
    "minus nothing": (b"[-0.0,-0]", b"[-0.0,0]"),
    "null": (b"null", b"null"),
    "an empty text": (b'""', b'""'),
    "white space around": (b" [ 1 , 2 ] ", b"[1,2]"),
    "60 deep": (b"[" * 60 + b"]" * 60, b"[" * 60 + b"]" * 60),
}


@pytest.mark.parametrize("name", BODIES)
async def test_any_json_body_comes_out_as_the_value_that_went_in(name: str) -> None:
    """A body is kept as the compact form of its value: numbers are doubles or 64-bit integers, of two equal keys the last."""
    sent, kept = BODIES[name]
    async with scene() as stage:
        peer = await stage.welcomed(streams={ROOM: {"after": 0}})
        key = str(uuid.uuid4())
        await peer.put(text(b'{"op":"send","id":5,"stream":"chat:ops","key":"%b","body":%b}' % (key.encode(), sent)))
        assert (await peer.next(id=5))["op"] == "ok"
        event = await peer.next("event", stream=ROOM, key=key)
        assert b'"body":' + kept + b"}" in peer.raw
        assert orjson.dumps(event["body"]) == orjson.dumps(orjson.loads(kept))
        history = await peer.ask("history", stream=ROOM)
        assert history["events"][-1]["body"] == event["body"]


async def test_before_hello_only_opening_and_pings_are_heard() -> None:
    """Every other op of a stranger is refused, and a hello after that works."""
    async with scene() as stage:
        peer = await stage.upgraded()
        for op in ("send", "sub", "unsub", "history", "mark", "signal", "presence", "position", "command"):
            answer = await peer.ask(op, stream=ROOM, key=KEY, body={})
            assert (answer["code"], answer["message"]) == ("unauthorized", "say hello or resume first")
        await stage.still_serves(peer)
        await peer.hello()


HELLO_STREAMS: dict[str, Any] = {
    "a list": [ROOM],
    "text": ROOM,
    "a number": 1,
    "1,001 of them": {f"chat:{n}": {} for n in range(1001)},
}


@pytest.mark.parametrize("name", HELLO_STREAMS)
async def test_a_hello_with_impossible_streams_may_be_said_again(name: str) -> None:
    """It is refused as a whole, names the limit, and the connection may try once more."""
    async with scene() as stage:
        peer = await stage.upgraded()
        answer = await peer.ask("hello", token=token("user:mallory"), streams=HELLO_STREAMS[name])
        assert (answer["op"], answer["code"]) == ("error", "bad_request")
        assert "streams: " in answer["message"]
        await peer.hello()


async def test_a_hello_of_a_million_streams_is_too_large_a_frame() -> None:
    """It ends at the header that announces it, not after megabytes."""
    async with scene() as stage:
        peer = await stage.upgraded()
        streams = b",".join(b'"chat:%d":{}' % n for n in range(1_000_000))
        await peer.put(text(b'{"op":"hello","id":1,"token":"x","streams":{%b}}' % streams))
        code, _ = await peer.ended()
        assert code in (4505, 1006)  # 1006: our last bytes may meet a peer that is still writing
        assert stage.node.node.shard.counts.bytes_in < 1_000_000 or code == 4505


async def test_a_hello_names_each_stream_it_cannot_have() -> None:
    """One bad name or position spoils nothing for the others; only the good one is followed."""
    wanted: dict[str, Any] = {
        ROOM: {},
        "chat:nowhere": {},
        VAULT: {},
        "room:x": {},
        "": {},
        "chat:" + "a" * 1000: {},
        "chat:a\u0000b": {},
        "chat:\r\n": {},
        "user:rita": {},
        "chat:bystanders": {"after": -1},
        "chat:bystanders ": {"after": 0},
        "flight:1": {"after": 1, "last": 1},
        "trip:1": None,
        "trip:2": [],
        "trip:3": "head",
        "trip:4": 17,
        "trip:5": {"after": 2**63},
        "trip:6": {"last": 1.0},
    }
    async with scene() as stage:
        peer = await stage.upgraded()
        answer = await peer.ask("hello", token=token("user:mallory"), streams=wanted)
        assert answer["op"] == "welcome"
        streams = answer["streams"]
        assert streams.pop(ROOM) == {"head": 0, "after": 0}
        for name in ("chat:nowhere", VAULT, "user:rita"):
            assert streams.pop(name) == {"error": "not_found"}, name
        assert set(streams) == wanted.keys() - {ROOM, "chat:nowhere", VAULT, "user:rita"}
        assert all(refused == {"error": "bad_request"} for refused in streams.values())
        assert len(stage.server_side("user:mallory").subs) == 1


async def test_another_tenants_stream_looks_like_none() -> None:
    """Answers for a stream of another tenant and for no stream at all differ in the name asked for, and in nothing else."""

    async def say_all(peer: Peer, name: str) -> list[str]:
        said: list[Frame] = [
            {"op": "sub", "stream": name},
            {"op": "sub", "stream": name, "after": 0},
            {"op": "sub", "stream": name, "after": 10**6},
            {"op": "unsub", "stream": name},
            {"op": "history", "stream": name},
            {"op": "history", "stream": name, "before": 2, "limit": 1},
            {"op": "presence", "stream": name},
            {"op": "mark", "stream": name, "read": 1},
            {"op": "signal", "stream": name, "kind": "typing", "value": True},
            {"op": "send", "stream": name, "key": KEY, "body": {}},
            {"op": "send", "stream": name, "key": KEY, "body": {}, "expect": 1},
            {"op": "send", "stream": name, "key": KEY, "type": "edit", "body": {"ref": 1}},
        ]
        return [str(await peer.ask(**{**frame, "op": frame["op"]})).replace(name, "NAME") for frame in said]

    async with scene() as stage:
        rita = await stage.welcomed("user:rita", {VAULT: {}}, tenant="rival")  # so that the node holds it
        for roles in ((), ("admin",)):
            there, nowhere = [
                await stage.welcomed(f"user:mallory-{len(roles)}-{n}", {name: {"after": 1}}, roles=roles)
                for n, name in enumerate((VAULT, "chat:other"))
            ]
            assert await say_all(there, VAULT) == await say_all(nowhere, "chat:other")
        await stage.still_serves(rita)
        rita.raw.clear()  # she may know her own secret
        assert (await rita.ask("sub", stream=VAULT))["head"] == 1


async def test_a_reader_may_not_write_and_nobody_changes_anothers_words() -> None:
    """Roles hold for every kind of send: reader, edit of another's, delete of another's, another's inbox."""
    async with scene() as stage:
        await stage.node.stream("chat:board", open=False, members={"user:mallory": "reader", "user:amy": "member"})
        mallory = await stage.welcomed(streams={"user:mallory": {}})
        amy = await stage.welcomed("user:amy")
        assert (await amy.send(ROOM, {"text": "mine"}))["seq"] == 1
        assert (await amy.send("chat:board", {"text": "board"}))["seq"] == 1
        for stream, kind, body in (
            ("chat:board", "message", {"text": "x"}),
            ("chat:board", "react", {"ref": 1, "emoji": "x", "on": True}),
            ("chat:board", "delete", {"ref": 1}),
            (ROOM, "edit", {"ref": 1, "text": "changed"}),
            (ROOM, "delete", {"ref": 1}),
            ("user:mallory", "message", {"text": "to myself"}),
        ):
            answer = await mallory.send(stream, body, type=kind)
            assert (answer["op"], answer["code"]) == ("error", "forbidden"), (stream, kind)
        typing = await mallory.ask("signal", stream="chat:board", kind="typing", value=True)
        assert typing["code"] == "forbidden"
        assert (await amy.ask("sub", stream=ROOM))["head"] == 1


async def test_a_cursor_beyond_head_is_told_so_and_never_guessed_at() -> None:
    """``reset`` with the reason, and then the stream from its first kept event: on hello, on sub and on resume."""
    async with scene() as stage:
        amy = await stage.welcomed("user:amy")
        await amy.send(ROOM, {"text": "one"})
        far = 2**53 - 1
        peer = await stage.welcomed(streams={ROOM: {"after": far}})
        await _is_reset(peer)
        again = await stage.welcomed("user:again")
        assert (await again.ask("sub", stream=ROOM, after=far))["after"] == 0
        await _is_reset(again)
        welcome = await amy.ask("ping")
        assert welcome["op"] == "pong"
        await _resume_beyond(stage, far)


async def _is_reset(peer: Peer) -> None:
    reset = await peer.next("reset", stream=ROOM)
    assert (reset["reason"], reset["first"], reset["head"]) == ("ahead", 1, 1)
    assert (await peer.next("event", stream=ROOM))["seq"] == 1


async def _resume_beyond(stage: Scene, far: int) -> None:
    old = await stage.upgraded()
    welcome = await old.hello("user:back", {ROOM: {}})
    peer = await stage.upgraded()
    answer = await peer.ask("resume", resume=welcome["resume"], log=welcome["log"], streams={ROOM: far})
    assert answer["resumed"] is True
    await _is_reset(peer)
    assert (await old.bye())[1]["code"] == "superseded"


async def test_sends_to_a_stream_named_oddly_never_reach_the_exception_boundary() -> None:
    """A list where a name belongs once raised "unhashable" inside the node: the sender was cut off with ``internal``
    and the log got a traceback. It is a bad request like any other."""
    async with scene() as stage:
        peer = await stage.welcomed()
        odd: Any
        for odd in ([], {}, [[]], {"a": 1}, 1, 1.5, True, None):
            answer = await peer.ask("send", stream=odd, key=KEY, body={})
            assert (answer["op"], answer["code"]) == ("error", "bad_request")


def test_a_signature_is_no_word() -> None:
    """Of a resume token that was signed `….py-…` (it happened, once in some hundred thousand) nothing is leaked; a path is."""
    token = b'{"op":"pong","resume":"r1.r1.' + b"a" * 86 + b".py-" + b"b" * 40 + b'","note":"%s"}'
    assert forbidden_words(token % b"fine") == []
    assert forbidden_words(token % b"gateway/ops.py") == [b".py"]


async def test_every_op_said_well_is_answered_well() -> None:
    """The other half of this table: each op with nothing wrong, seen by a second person where that is what it is for."""
    async with scene() as stage:
        amy = await stage.welcomed("user:amy", {ROOM: {}})
        bob = await stage.welcomed("user:bob", {ROOM: {}})
        said: list[tuple[str, Frame]] = [
            ("send", {"stream": ROOM, "key": KEY, "body": {"text": "hi"}}),
            ("mark", {"stream": ROOM, "delivered": 1, "read": 1}),
            ("signal", {"stream": ROOM, "kind": "typing", "value": True}),
            ("signal", {"kind": "presence", "value": "away"}),
            ("presence", {"stream": ROOM}),
            ("history", {"stream": ROOM, "limit": 1}),
            ("sub", {"stream": "chat:bystanders", "last": 0}),
            ("unsub", {"stream": "chat:bystanders"}),
        ]
        for op, fields in said:
            assert (await amy.ask(op, **fields))["op"] == "ok", op
        assert (await bob.next("event", stream=ROOM))["by"] == "user:amy"
        assert (await bob.next("mark", stream=ROOM, by="user:amy"))["read"] == 1
        assert (await bob.next("signal", kind="typing", by="user:amy"))["value"] is True
        assert await bob.next("signal", kind="presence", by="user:amy", value="away")
        assert (await amy.ask("signal", kind="presence", value="online"))["op"] == "ok"
        assert await bob.next("signal", kind="presence", by="user:amy", value="online")
