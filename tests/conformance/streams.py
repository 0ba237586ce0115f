"""Generated WebSocket byte streams, shared by the frame reader's own tests and by the differential against others.

`sessions` makes what a well-behaved client may send: messages in any fragmentation, control frames anywhere between
frames, a close at the end or not; `chunked` cuts bytes as a network may. `BREACHES` names one way to break each rule.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from hypothesis import strategies as st

from core.frames import BINARY, CLOSE, PING, PONG, TEXT, close_payload, masked_frame

CONTINUATION = 0
MASK = b"\x37\xfa\x21\x3d"

masks = st.binary(min_size=4, max_size=4)
# Lengths at the three forms of a length and at the ends of the reader's table are likelier than chance makes them.
_sizes = st.one_of(st.integers(0, 300), st.sampled_from((125, 126, 127, 639, 640, 1527, 1528, 65_535, 65_536, 65_537)))


class Session(NamedTuple):
    """Frames of a valid stream, each as bytes, and the events that a reader must answer."""

    frames: list[bytes]
    events: list[tuple[int, bytes]]

    @property
    def data(self) -> bytes:
        return b"".join(self.frames)


@st.composite
def _payloads(draw: st.DrawFn) -> tuple[int, bytes]:
    if draw(st.booleans()):
        return TEXT, draw(st.text(max_size=60)).encode("utf-8", "ignore")
    size = draw(_sizes)
    if draw(st.booleans()):
        return TEXT, (draw(st.sampled_from(("a", "é", "€", "𝄞"))).encode() * size)[: size - size % 12]
    return BINARY, (draw(st.binary(min_size=1, max_size=16)) * size)[:size]


@st.composite
def _controls(draw: st.DrawFn) -> tuple[int, bytes]:
    return draw(st.sampled_from((PING, PONG))), draw(st.binary(max_size=125))


@st.composite
def sessions(draw: st.DrawFn, messages_max: int = 5) -> Session:
    frames: list[bytes] = []
    events: list[tuple[int, bytes]] = []

    def control() -> None:
        for opcode, payload in draw(st.lists(_controls(), max_size=1)):
            frames.append(masked_frame(opcode, payload, draw(masks)))
            events.append((opcode, payload))

    for _ in range(draw(st.integers(0, messages_max))):
        control()
        opcode, payload = draw(_payloads())
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
        edges = [0, *cuts, len(payload)]
        for index, (start, end) in enumerate(pairwise(edges)):
            if index:
                control()
            last = index == len(cuts)
            frames.append(masked_frame(CONTINUATION if index else opcode, payload[start:end], draw(masks), last))
        events.append((opcode, payload))
    if draw(st.booleans()):
        payload = b"" if draw(st.booleans()) else close_payload(draw(close_codes), draw(st.text(max_size=30)))
        frames.append(masked_frame(CLOSE, payload, draw(masks)))
        events.append((CLOSE, payload))
    return Session(frames, events)


# 1014 has a test of its own: wsproto does not know it.
close_codes = st.one_of(st.sampled_from((1000, 1001, 1002, 1003, *range(1007, 1014))), st.integers(3000, 4999))


@st.composite
def chunked(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """``data`` in pieces; short streams also byte by byte."""
    if len(data) <= 600 and draw(st.booleans()):
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    edges = [0, *cuts, len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


class Breach(NamedTuple):
    """Bytes that break one rule, the close code due, and after how many of them it is due."""

    data: bytes
    code: int
    after: int


def _raw(first: int, second: int, rest: bytes = b"") -> bytes:
    return bytes((first, second)) + rest


_text = masked_frame(TEXT, b"", MASK, fin=False)

BREACHES: dict[str, Breach] = {
    "reserved bit 1": Breach(_raw(0xC1, 0x80, MASK), 1002, 1),
    "reserved bit 2": Breach(_raw(0xA1, 0x80, MASK), 1002, 1),
    "reserved bit 3": Breach(_raw(0x91, 0x80, MASK), 1002, 1),
    "reserved bit in a control frame": Breach(_raw(0xC9, 0x80, MASK), 1002, 1),
    **{
        f"reserved opcode {op}": Breach(_raw(0x80 | op, 0x80, MASK), 1002, 1)
        for op in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    },
    "unmasked text": Breach(_raw(0x81, 0x01, b"a"), 1002, 2),
    "unmasked long text": Breach(_raw(0x81, 0x7E, b"\x00\x7e" + b"a" * 126), 1002, 2),
    "unmasked ping": Breach(_raw(0x89, 0x00), 1002, 2),
    "fragmented ping": Breach(_raw(0x09, 0x80, MASK), 1002, 1),
    "fragmented close": Breach(_raw(0x08, 0x80, MASK), 1002, 1),
    "ping of 126 bytes": Breach(masked_frame(PING, b"x" * 126, MASK), 1002, 2),
    "close of 126 bytes": Breach(masked_frame(CLOSE, b"\x03\xe8" + b"x" * 124, MASK), 1002, 2),
    "16-bit length of 125": Breach(_raw(0x81, 0xFE, b"\x00\x7d" + MASK + b"x" * 125), 1002, 4),
    "16-bit length of 0": Breach(_raw(0x82, 0xFE, b"\x00\x00" + MASK), 1002, 4),
    "64-bit length of 65535": Breach(_raw(0x82, 0xFF, (65_535).to_bytes(8, "big") + MASK + b"x" * 65_535), 1002, 10),
    "64-bit length of 0": Breach(_raw(0x81, 0xFF, bytes(8) + MASK), 1002, 10),
    "64-bit length with its top bit": Breach(_raw(0x82, 0xFF, b"\x80" + bytes(7) + MASK), 1002, 10),
    "continuation of nothing": Breach(masked_frame(CONTINUATION, b"x", MASK), 1002, 1),
    "unfinished continuation of nothing": Breach(masked_frame(CONTINUATION, b"x", MASK, fin=False), 1002, 1),
    "text inside a message": Breach(_text + masked_frame(TEXT, b"x", MASK), 1002, 7),
    "binary inside a message": Breach(_text + masked_frame(BINARY, b"x", MASK), 1002, 7),
    "close of one byte": Breach(masked_frame(CLOSE, b"\x03", MASK), 1002, 7),
    **{
        f"close code {code}": Breach(masked_frame(CLOSE, code.to_bytes(2, "big"), MASK), 1002, 8)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
    },
    "close reason not UTF-8": Breach(masked_frame(CLOSE, b"\x03\xe8\xff", MASK), 1007, 9),
    "text not UTF-8": Breach(masked_frame(TEXT, b"ab\xff", MASK), 1007, 9),
    "text not UTF-8 in a fragment": Breach(masked_frame(TEXT, b"\xff", MASK, fin=False), 1007, 7),
    "text that ends inside a code point": Breach(masked_frame(TEXT, b"\xe2\x82", MASK), 1007, 8),
    "text that ends inside a code point, fragmented": Breach(
        masked_frame(TEXT, b"\xe2", MASK, fin=False) + masked_frame(CONTINUATION, b"\x82", MASK), 1007, 14
    ),
    "code point broken by a fragment": Breach(
        masked_frame(TEXT, b"\xe2", MASK, fin=False) + masked_frame(CONTINUATION, b"a", MASK, fin=False), 1007, 14
    ),
    "message ended by an empty fragment inside a code point": Breach(
        masked_frame(TEXT, b"\xf0\x9f", MASK, fin=False) + masked_frame(CONTINUATION, b"", MASK), 1007, 14
    ),
    "surrogate": Breach(masked_frame(TEXT, b"\xed\xa0\x80", MASK), 1007, 8),
    "overlong slash": Breach(masked_frame(TEXT, b"\xc0\xaf", MASK), 1007, 7),
    "above U+10FFFF": Breach(masked_frame(TEXT, b"\xf4\x90\x80\x80", MASK), 1007, 8),
}
