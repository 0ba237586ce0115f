"""Frames that break RFC 6455, or keep its letter and mean harm: each ends its own connection with a reason, at most."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.frames import BINARY, CLOSE, PING, PONG, TEXT, masked_frame
from core.limits import Limits
from tests.hostile.peer import MASK, request, text
from tests.hostile.scene import scene
from tests.nodes import token

MAX = Limits().frame_bytes_max
PING_OP = b'{"op":"ping","id":77}'


def cut(payload: bytes, *at: int) -> bytes:
    """One text message as fragments that end at these places."""
    ends = [*at, len(payload)]
    parts = [payload[start:end] for start, end in zip([0, *at], ends, strict=True)]
    last = len(parts) - 1
    return b"".join(masked_frame(0 if n else TEXT, part, MASK, fin=n == last) for n, part in enumerate(parts))


def oversized_by_fragments() -> bytes:
    part = b" " * 1000
    return masked_frame(TEXT, part, MASK, fin=False) + masked_frame(0, part, MASK, fin=False) * (MAX // 1000)


ENDED: dict[str, tuple[bytes, int, str]] = {
    "header of an oversized frame": (b"\x81\xff" + (MAX + 1).to_bytes(8, "big"), 4505, "at most 65536"),
    "header of 2^63-1 bytes": (b"\x81\xff\x7f" + b"\xff" * 7, 4505, "at most 65536"),
    "oversized frame, streamed": (text(b" " * (MAX + 1)), 4505, "at most 65536"),
    "oversized by fragments": (oversized_by_fragments(), 4505, "at most 65536"),
    "length with its top bit": (b"\x81\xff\x80" + b"\0" * 7 + MASK, 1002, "top bit"),
    "long form of a short length": (b"\x81\xfe\x00\x05" + MASK, 1002, "shortest"),
    "longest form of a middling length": (b"\x81\xff" + (300).to_bytes(8, "big") + MASK, 1002, "shortest"),
    "unmasked": (b"\x81\x02{}", 1002, "masked"),
    "RSV1 (deflate was never agreed)": (b"\xc1\x82" + MASK + b"ab", 1002, "reserved bits"),
    "RSV2": (b"\xa1\x82" + MASK + b"ab", 1002, "reserved bits"),
    "RSV3": (b"\x91\x82" + MASK + b"ab", 1002, "reserved bits"),
    "opcode 3": (b"\x83\x80" + MASK, 1002, "opcode 3"),
    "opcode 7": (b"\x87\x80" + MASK, 1002, "opcode 7"),
    "opcode 11": (b"\x8b\x80" + MASK, 1002, "opcode 11"),
    "opcode 15": (b"\x8f\x80" + MASK, 1002, "opcode 15"),
    "binary": (masked_frame(BINARY, b"{}", MASK), 1003, "binary"),
    "binary, the first byte alone": (b"\x82", 1003, "binary"),
    "fragmented ping": (masked_frame(PING, b"", MASK, fin=False), 1002, "fragmented"),
    "ping of 126 bytes": (b"\x89\xfe\x00\x7e" + MASK + b"\0" * 126, 1002, "125"),
    "continuation of nothing": (masked_frame(0, b"x", MASK), 1002, "continuation"),
    "message within a message": (masked_frame(TEXT, b"{", MASK, fin=False) + text("{}"), 1002, "new message"),
    "not UTF-8": (text(b'{"op":"\xff"}'), 1007, "UTF-8"),
    "a surrogate as UTF-8": (text(b'{"op":"\xed\xa0\x80"}'), 1007, "UTF-8"),
    "overlong UTF-8": (text(b'{"op":"\xc0\xaf"}'), 1007, "UTF-8"),
    "UTF-8 broken across fragments": (cut('{"op":"ü"}'.encode(), 8)[:-2] + b"\0" * 2, 1007, "UTF-8"),
    "UTF-8 that ends in mid character": (text(b'{"op":"\xe2\x82'), 1007, "UTF-8"),
    "close with 1 byte": (masked_frame(CLOSE, b"\x03", MASK), 1002, "one byte"),
    "close with 1005": (masked_frame(CLOSE, (1005).to_bytes(2, "big"), MASK), 1002, "1005"),
    "close with 999": (masked_frame(CLOSE, (999).to_bytes(2, "big"), MASK), 1002, "999"),
    "close with 65535": (masked_frame(CLOSE, b"\xff\xff", MASK), 1002, "65535"),
    "close with a reason not in UTF-8": (masked_frame(CLOSE, b"\x03\xe8\xff", MASK), 1007, "UTF-8"),
    **{
        f"close with {code}": (masked_frame(CLOSE, code.to_bytes(2, "big"), MASK), 1002, str(code))
        for code in (0, 1004, 1006, 1015, 1016, 2999, 5000)
    },
    "close of 126 bytes": (b"\x88\xfe\x00\x7e" + MASK + b"\x03\xe8" + b"a" * 124, 1002, "125"),
    "close without a mask": (b"\x88\x02\x03\xe8", 1002, "masked"),
    "fragmented close": (masked_frame(CLOSE, b"\x03\xe8", MASK, fin=False), 1002, "fragmented"),
    "fragmented pong": (masked_frame(PONG, b"", MASK, fin=False), 1002, "fragmented"),
    "pong of 126 bytes": (b"\x8a\xfe\x00\x7e" + MASK + b"\0" * 126, 1002, "125"),
    "ping of 2^63-1 bytes": (b"\x89\xff\x7f" + b"\xff" * 7, 1002, "125"),
    "ping without a mask": (b"\x89\x00", 1002, "masked"),
    "an empty frame without a mask": (b"\x81\x00", 1002, "masked"),
    "reserved bits on a ping": (b"\xc9\x80" + MASK, 1002, "reserved bits"),
    "reserved bits on a continuation": (
        masked_frame(TEXT, b"{", MASK, fin=False) + b"\xc0\x81" + MASK + b"}",
        1002,
        "reserved bits",
    ),
    "all reserved bits": (b"\xf1\x80" + MASK, 1002, "reserved bits"),
    "opcode 4 amid fragments": (masked_frame(TEXT, b"{", MASK, fin=False) + b"\x84\x80" + MASK, 1002, "opcode 4"),
    "opcode 12 amid fragments": (masked_frame(TEXT, b"{", MASK, fin=False) + b"\x8c\x80" + MASK, 1002, "opcode 12"),
    "continuation of a whole message": (text(PING_OP) + masked_frame(0, b"x", MASK), 1002, "continuation"),
    "continuation without an end": (masked_frame(0, b"x", MASK, fin=False), 1002, "continuation"),
    "binary within a message": (
        masked_frame(TEXT, b"{", MASK, fin=False) + masked_frame(BINARY, b"", MASK),
        1002,
        "new message",
    ),
    "binary in fragments": (masked_frame(BINARY, b"{", MASK, fin=False), 1003, "binary"),
    "oversized by one byte of a last fragment": (
        masked_frame(TEXT, b" " * MAX, MASK, fin=False) + masked_frame(0, b" ", MASK),
        4505,
        "at most 65536",
    ),
    "oversized by the header of a fragment": (
        masked_frame(TEXT, b"{", MASK, fin=False) + b"\x80\xff" + (MAX).to_bytes(8, "big"),
        4505,
        "at most 65536",
    ),
    "oversized with pings between": (
        (masked_frame(TEXT, b" " * 40_000, MASK, fin=False) + masked_frame(PING, b"?", MASK))
        + masked_frame(0, b" " * 40_000, MASK),
        4505,
        "at most 65536",
    ),
    "not UTF-8, in a fragment without an end": (masked_frame(TEXT, b"\xff", MASK, fin=False), 1007, "UTF-8"),
    "UTF-8 beyond Unicode": (text(b'{"op":"\xf4\x90\x80\x80"}'), 1007, "UTF-8"),
    "UTF-8 of five bytes": (text(b'{"op":"\xf8\x88\x80\x80\x80"}'), 1007, "UTF-8"),
    "a surrogate pair as UTF-8": (text(b'{"op":"\xed\xa0\xbd\xed\xb8\x80"}'), 1007, "UTF-8"),
    "a NUL, overlong": (text(b'{"op":"\xc0\x80"}'), 1007, "UTF-8"),
    "a character begun in the last fragment": (cut('{"op":"ü'.encode()[:-1], 4), 1007, "UTF-8"),
    "an HTTP request after hello": (b"GET / HTTP/1.1\r\n\r\n", 1002, "reserved bits"),
    "a TLS record after the upgrade": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 1002, "reserved bits"),
}


@pytest.mark.parametrize("name", ENDED)
async def test_a_broken_frame_ends_its_own_connection_with_the_reason(name: str) -> None:
    """The close code is RFC 6455's (or the wire's too_large), and the reason names the rule that was broken."""
    data, code, reason = ENDED[name]
    async with scene() as stage:
        peer = await stage.welcomed()
        await peer.put(data)
        ended = await peer.ended()
        assert ended[0] == code
        assert reason in ended[1]
        if code == 4505:
            assert [m["code"] for m in peer.messages if m["op"] == "bye"] == ["too_large"]


@pytest.mark.parametrize("name", ["not UTF-8", "opcode 3", "header of an oversized frame", "binary"])
async def test_a_stranger_is_told_the_same(name: str) -> None:
    """The rules hold before hello too, and cost no identity."""
    data, code, _ = ENDED[name]
    async with scene() as stage:
        peer = await stage.upgraded()
        await peer.put(data)
        assert (await peer.ended())[0] == code


SURVIVED: dict[str, Callable[[], bytes]] = {
    "fragments of one byte": lambda: cut(PING_OP, *range(1, len(PING_OP))),
    "a ping between fragments": lambda: (
        masked_frame(TEXT, PING_OP[:4], MASK, fin=False)
        + masked_frame(PING, b"x" * 125, MASK)
        + masked_frame(0, PING_OP[4:], MASK)
    ),
    "pongs nobody asked for": lambda: masked_frame(PONG, b"?", MASK) * 1000 + text(PING_OP),
    "a few empty fragments": lambda: (
        masked_frame(TEXT, b"", MASK, fin=False)
        + masked_frame(0, b"", MASK, fin=False) * 20
        + masked_frame(0, PING_OP, MASK)
    ),
    "a character cut in four fragments": lambda: cut('{"op":"ping","id":77,"s":"🐎"}'.encode(), 26, 27, 28),
    "a ping in a ping's place between all fragments": lambda: b"".join(
        masked_frame(0 if at else TEXT, PING_OP[at : at + 1], MASK, fin=at == len(PING_OP) - 1)
        + masked_frame(PING, b"%d" % at, MASK)
        for at in range(len(PING_OP))
    ),
    "a mask of ones": lambda: masked_frame(TEXT, PING_OP, b"\xff" * 4),
    "an empty last fragment": lambda: masked_frame(TEXT, PING_OP, MASK, fin=False) + masked_frame(0, b"", MASK),
    "the largest frame in two fragments": lambda: cut(PING_OP + b" " * (MAX - len(PING_OP)), MAX - 1),
    "a mask of zeros": lambda: masked_frame(TEXT, PING_OP, b"\0\0\0\0"),
    "exactly the largest frame": lambda: text(PING_OP + b" " * (MAX - len(PING_OP))),
    "a megabyte of spaces in many frames": lambda: text(PING_OP + b" " * 60_000) * 17,
}


@pytest.mark.parametrize("name", SURVIVED)
async def test_what_is_odd_and_legal_is_served(name: str) -> None:
    """Nothing that the RFC allows costs a client its connection."""
    async with scene() as stage:
        peer = await stage.welcomed()
        await peer.put(SURVIVED[name]())
        assert (await peer.next(id=77))["op"] == "pong"
        await stage.still_serves(peer)


async def test_bytes_that_dribble_in_one_by_one_are_served() -> None:
    """A slow line is not an attack: handshake, hello and send arrive a byte at a time and work."""
    async with scene() as stage:
        peer = await stage.connect()
        hello = text({"op": "hello", "id": 1, "token": token("user:slow"), "streams": {"chat:ops": {}}})
        for byte in request():
            await peer.put(bytes((byte,)))
        for byte in hello + text(PING_OP):
            await peer.put(bytes((byte,)))
        assert (await peer.next(id=1))["op"] == "welcome"
        assert (await peer.next(id=77))["op"] == "pong"
