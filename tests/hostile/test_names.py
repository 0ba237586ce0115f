"""Names that are none: each is refused by every op that takes one, in the hello and over HTTP, and never looked up."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.hostile.peer import Frame, text
from tests.hostile.scene import ROOM, scene
from tests.hostile.test_http_port import http_scene, said
from tests.hostile.test_identities import HEAD, claims, signed
from tests.nodes import token

KEY = "0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11"

NO_STREAM: dict[str, str] = {
    "empty": "",
    "a kind alone": "chat",
    "a kind and a colon": "chat:",
    "a colon": ":",
    "a name alone": ":ops",
    "two colons": "chat::ops",
    "two names": "chat:ops:more",
    "a kind that is not": "room:ops",
    "a kind in capitals": "CHAT:ops",
    "129 characters": "chat:" + "a" * 129,
    "60,000 characters": "chat:" + "a" * 60_000,
    "white space before": " chat:ops",
    "white space behind": "chat:ops ",
    "white space amid": "chat:o ps",
    "a tab": "chat:ops\t",
    "CR LF": "chat:ops\r\n",
    "a line feed": "chat:ops\n",
    "a line feed before": "\nchat:ops",
    "a second line that is good": "x\nchat:ops",
    "NUL": "chat:ops\0",
    "NUL and more": "chat:ops\0.admin",
    "%00": "chat:ops%00",
    "percent-encoded": "chat:%6fps",
    "an escape code": "chat:\x1b[2Jops",
    "DEL": "chat:ops\x7f",
    "C1": "chat:ops\x9b",
    "a path": "chat:../../etc/passwd",
    "a path, encoded": "chat:..%2f..%2fetc",
    "a path of Windows": "chat:..\\ops",
    "a slash": "chat:ops/1",
    "a query": "chat:ops?x=1",
    "a fragment": "chat:ops#1",
    "a pattern": "chat:*",
    "SQL": "chat:';drop table readback.events;--",
    "a line separator": "chat:ops\u2028",
    "a next line": "chat:ops\x85",
    "a no-break space": "chat:ops\xa0",
    "a zero-width space": "chat:o\u200bps",
    "a soft hyphen": "chat:o\xadps",
    "a byte order mark": "\ufeffchat:ops",
    "right to left": "chat:\u202espo",
    "an isolate": "chat:\u2067ops\u2069",
    "Cyrillic o": "chat:\u043eps",
    "Cyrillic kind": "\u0441hat:ops",
    "Greek omicron": "chat:\u03bfps",
    "fullwidth letters": "chat:\uff4f\uff50\uff53",
    "a fullwidth colon": "chat\uff1aops",
    "a ratio for a colon": "chat\u2236ops",
    "mathematical letters": "chat:\U0001d428\U0001d429\U0001d42c",
    "a ligature": "chat:o\ufb01",
    "the Kelvin sign": "chat:\u212a",
    "a dotless i": "chat:\u0131",
    "a composed accent": "chat:\xf3ps",
    "a combining accent": "chat:o\u0301ps",
    "Arabic digits": "chat:\u0661\u0662",
    "an emoji": "chat:\U0001f434",
}


@pytest.mark.parametrize("name", NO_STREAM)
async def test_a_name_that_is_none_is_refused_by_every_op(name: str) -> None:
    """The same words from sub, send, history, mark, presence and a signal; nothing followed, nothing made, and the stream
    that it looks like is not touched. In a hello it is refused alone."""
    stream = NO_STREAM[name]
    said: list[Frame] = [
        {"op": "sub", "stream": stream},
        {"op": "send", "stream": stream, "key": KEY, "body": {}},
        {"op": "history", "stream": stream},
        {"op": "mark", "stream": stream, "read": 1},
        {"op": "presence", "stream": stream},
        {"op": "signal", "stream": stream, "kind": "typing", "value": True},
    ]
    async with scene() as stage:
        peer = await stage.upgraded()
        welcome = await peer.ask("hello", token=token("user:mallory"), streams={stream: {"after": 0}, ROOM: {}})
        assert welcome["streams"] == {stream: {"error": "bad_request"}, ROOM: {"head": 0, "after": 0}}
        known = len(stage.node.node.hub.by_name)
        for frame in said:
            answer = await peer.ask(**{**frame, "op": frame["op"]})
            assert (answer["op"], answer["code"]) == ("error", "bad_request"), frame["op"]
            assert answer["message"] == "stream: kind:name, kind one of chat, flight, trip, user"
        assert (await peer.ask("unsub", stream=stream))["code"] == "not_found"
        assert len(stage.node.node.hub.by_name) == known
        assert (await peer.ask("sub", stream=ROOM))["head"] == 0


@pytest.mark.parametrize("stream", ["chat:..", "chat:.", "chat:-", "chat:~", "chat:__proto__", "chat:" + "a" * 128])
async def test_an_odd_name_that_is_one_names_a_stream_like_any_other(stream: str) -> None:
    """Dots climb nowhere: made, followed, written to and read back under exactly that name."""
    async with scene() as stage:
        await stage.node.stream(stream)
        peer = await stage.welcomed(streams={stream: {"after": 0}})
        assert (await peer.send(stream, {"text": "hi"}))["seq"] == 1
        assert (await peer.next("event"))["stream"] == stream
        assert (await peer.ask("history", stream=stream))["events"][0]["seq"] == 1


NO_PRINCIPAL: dict[str, str] = {
    "empty": "",
    "a kind alone": "user:",
    "a kind that is not": "root:amy",
    "a kind in capitals": "User:amy",
    "129 characters": "user:" + "a" * 129,
    "a line feed": "user:amy\n",
    "NUL": "user:amy\0",
    "a slash": "user:amy/admin",
    "a space": "user:amy admin",
    "a comma": "user:amy,user:bob",
    "a confusable": "user:\u0430my",
    "right to left": "user:\u202eyma",
    "a fullwidth colon": "user\uff1aamy",
    "markup": "user:<b>amy</b>",
    "two colons": "user:service:ops",
}


@pytest.mark.parametrize("name", NO_PRINCIPAL)
async def test_a_principal_that_is_none_is_nobody(name: str) -> None:
    """Neither a well signed token nor a question about who is there makes one of it, nor does the membership API."""
    principal = NO_PRINCIPAL[name]
    async with http_scene() as (stage, port):
        peer = await stage.upgraded()
        await peer.put(_hello(signed(HEAD, claims(sub=principal))))
        code, bye = await peer.bye()
        assert (code, bye["reason"]) == (4501, "sub is not a principal such as user:amy")
        other = await stage.welcomed()
        asked = await other.ask("presence", stream=ROOM, of=["user:amy", principal])
        assert (asked["code"], asked["message"][:3]) == ("bad_request", "of:")
        answer = await said(port, _put_member(quote(principal, safe="")))
        # Without a name it is the path of the list, to which the slash too many is redirected; with a slash, no path of ours.
        assert answer.split(b" ")[1] == (b"307" if not principal else b"404" if "/" in principal else b"400")


def _hello(bad: str) -> bytes:
    return text({"op": "hello", "id": 1, "token": bad, "streams": {ROOM: {}}})


def _put_member(principal: str) -> bytes:
    admin = token("user:boss", roles=("admin",)).encode()
    body = b'{"role":"member"}'
    line = b"PUT /v1/streams/%b/members/%b HTTP/1.1\r\n" % (ROOM.encode(), principal.encode())
    fields = b"Host: a\r\nAuthorization: Bearer %b\r\nContent-Type: application/json\r\nConnection: close\r\n" % admin
    return line + fields + b"Content-Length: %d\r\n\r\n" % len(body) + body


NO_TENANT: dict[str, Any] = {
    "empty": "",
    "in capitals": "Demo",
    "64 characters": "d" * 64,
    "a space": "demo ",
    "a path": "../rival",
    "a wildcard": "*",
    "SQL": "demo' or '1'='1",
    "a confusable": "dem\u043e",
    "beginning with a dot": ".demo",
    "beginning with a dash": "-demo",
    "a number": 1,
    "null": None,
    "an object": {"$ne": ""},
}


@pytest.mark.parametrize("name", NO_TENANT)
async def test_a_tenant_that_is_none_opens_nothing(name: str) -> None:
    """A token of one ends with the reason, whoever signed it."""
    async with scene() as stage:
        peer = await stage.upgraded()
        await peer.put(_hello(signed(HEAD, claims(tenant=NO_TENANT[name]))))
        code, bye = await peer.bye()
        assert (code, bye["reason"]) == (4501, "tenant is missing or not a tenant's name")
