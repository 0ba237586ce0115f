"""Three readers, one stream: ours, websockets' and wsproto's must agree on what was said and on what is refused.

Where they may differ, the difference has a name in `PERMITTED`, with the clause that allows ours, and a test of its own
that shows it: a release of a peer that changes its mind fails that test, and the list is corrected.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from websockets.frames import Frame
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from core.frames import BINARY, CLOSE, PING, PONG, TEXT, FrameReader, close_payload, masked_frame, unmask
from tests.conformance.streams import BREACHES, CONTINUATION, MASK, Session, chunked, sessions

LIMIT = 262_144

THOROUGH = int(os.environ.get("READBACK_THOROUGH", "1"))
"""Multiplies the number of generated examples, for a long run by hand."""

PERMITTED = {
    "late": "A peer may notice a breach when the frame or the message is whole; we refuse at the first byte that shows"
    " it. Sections 5.2 and 8.1 set no moment.",
    "code": "Where one frame breaks two rules, which is named first is free, and so is the close code (section 7.4.1).",
    "shortest length": "websockets reads a length that is not in its shortest form. Section 5.2: the minimal number of"
    " bytes MUST be used.",
    "top bit": "websockets answers a 64-bit length with its top bit set with 1009 rather than 1002: it compares with its"
    " limit first.",
    "close inside a message": "websockets refuses a close between the fragments of a message. Section 5.4: control"
    " frames MAY be injected in the middle of a fragmented message.",
    "1014": "wsproto refuses close code 1014, which IANA's registry (section 11.7) gained after RFC 6455.",
    "no limit": "wsproto's frame layer has no limit of size; the caller counts. Ours is checked at the header (10.4).",
}


@dataclass
class Said:
    """What a reader made of a stream: its events, and the close code it refused with, if it did."""

    events: list[tuple[int, bytes]] = field(default_factory=list)
    refused: int | None = None


def ours(chunks: Iterable[bytes]) -> Said:
    reader = FrameReader(LIMIT)
    said = Said()
    for chunk in chunks:
        said.events += reader.feed(chunk)
    said.refused = reader.error.code if reader.error is not None else None
    return said


def websockets(chunks: Iterable[bytes]) -> Said:
    """Its sans-I/O protocol answers frames; joining and decoding them is its caller's part, done here."""
    logger = logging.Logger("silent", logging.CRITICAL + 1)
    protocol = ServerProtocol(state=OPEN, max_size=LIMIT, logger=logger)
    said = Said()
    opcode, message = 0, b""
    for chunk in chunks:
        protocol.receive_data(chunk)
        for event in protocol.events_received():
            assert isinstance(event, Frame)
            if event.opcode in (PING, PONG, CLOSE):
                said.events.append((int(event.opcode), bytes(event.data)))
                continue
            if event.opcode != CONTINUATION:
                opcode, message = int(event.opcode), b""
            message += bytes(event.data)
            if event.fin:
                if opcode == TEXT and not _decodes(message):
                    said.refused = 1007
                    return said
                said.events.append((opcode, message))
    if protocol.parser_exc is not None:
        assert protocol.close_sent is not None
        said.refused = int(protocol.close_sent.code)
    return said


def wsproto(chunks: Iterable[bytes]) -> Said:
    """Its frame layer answers pieces of messages as they come, and goes on after a close: that is the end here."""
    protocol = FrameProtocol(client=False, extensions=[])
    said = Said()
    message = b""
    for chunk in chunks:
        protocol.receive_bytes(chunk)
        try:
            for piece in protocol.received_frames():
                payload = piece.payload
                if piece.opcode is Opcode.CLOSE:
                    assert isinstance(payload, tuple)
                    code, reason = payload
                    said.events.append((CLOSE, b"" if code == 1005 else int(code).to_bytes(2, "big") + reason.encode()))
                    return said
                assert isinstance(payload, (bytes, bytearray, str))
                data = payload.encode() if isinstance(payload, str) else bytes(payload)
                if piece.opcode in (Opcode.PING, Opcode.PONG):
                    said.events.append((int(piece.opcode), data))
                    continue
                message += data
                if piece.message_finished:
                    said.events.append((int(piece.opcode), message))
                    message = b""
        except ParseFailed as failed:
            said.refused = int(failed.code)
            return said
    return said


def _decodes(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True


PEERS: dict[str, Callable[[Iterable[bytes]], Said]] = {"websockets": websockets, "wsproto": wsproto}
peers = pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS.keys())


@given(sessions(), st.data())
@settings(deadline=None, max_examples=100 * THOROUGH)
def test_all_read_the_same_from_a_valid_stream(session: Session, data: st.DataObject) -> None:
    """Whatever a well-behaved client sends, in whatever chunks, three readers answer the same events."""
    chunks = data.draw(chunked(session.data))
    assert ours(chunks) == websockets(chunks) == wsproto(chunks) == Said(session.events)


@given(sessions(messages_max=2), st.sampled_from(sorted(BREACHES)), st.data())
@settings(deadline=None, max_examples=200 * THOROUGH)
def test_all_refuse_a_broken_rule(session: Session, name: str, data: st.DataObject) -> None:
    """After any valid beginning, one broken rule is refused by all three, with the same code, at the same place."""
    assume(not session.events or session.events[-1][0] != CLOSE)
    breach = BREACHES[name]
    chunks = data.draw(chunked(session.data + breach.data))
    expected = Said(session.events, breach.code)
    assert ours(chunks) == expected
    assert wsproto(chunks) in (expected, *_later(expected, name))
    if "length of" not in name:  # PERMITTED["shortest length"]
        theirs = websockets(chunks)
        if name == "64-bit length with its top bit":  # PERMITTED["top bit"]
            theirs.refused = 1002 if theirs.refused == 1009 else theirs.refused
        assert theirs in (expected, *_later(expected, name))


def _later(expected: Said, name: str) -> list[Said]:
    """PERMITTED["late"]: bad UTF-8 in a message that never ends is not noticed by one who decodes at its end."""
    waits = ("text not UTF-8 in a fragment", "code point broken by a fragment")
    return [Said(expected.events)] if name in waits else []


@given(sessions(messages_max=3), st.data())
@settings(deadline=None, max_examples=250 * THOROUGH)
def test_all_agree_on_damaged_streams(session: Session, data: st.DataObject) -> None:
    """With bytes of a valid stream overwritten, what one accepts no other refuses, but for what is permitted."""
    stream = bytearray(session.data)
    assume(len(stream) > 0)
    for _ in range(data.draw(st.integers(1, 3))):
        # The first bytes of frames are where rules are; anywhere else it is mostly payload.
        starts = _starts(session)
        at = data.draw(st.one_of(st.sampled_from(starts), st.integers(0, len(stream) - 1)))
        stream[min(at, len(stream) - 1)] = data.draw(st.integers(0, 255))
    chunks = data.draw(chunked(bytes(stream)))
    mine = ours(chunks)
    for name, peer in PEERS.items():
        theirs = peer(chunks)
        if theirs == mine:
            continue
        # What the peer says once every frame that could be waited for is there: zeros end any of them, and are then
        # a breach of their own. An event that we refused would show here.
        in_the_end = peer([*chunks, bytes(LIMIT + 14)])
        differences = _explain(mine, theirs, in_the_end, name, bytes(stream))
        assert differences, (name, mine, theirs)
        assert differences <= PERMITTED.keys()


def _starts(session: Session) -> list[int]:
    starts, at = [], 0
    for data in session.frames:
        starts += [at, at + 1, at + 2, at + 3]
        at += len(data)
    return starts or [0]


def _explain(mine: Said, theirs: Said, in_the_end: Said, peer: str, stream: bytes) -> set[str]:
    """The names of permitted differences that account for two readings; none where nothing does."""
    found: set[str] = set()
    agree = mine.events == theirs.events
    ahead = theirs.events[: len(mine.events)] == mine.events
    behind = mine.events[: len(theirs.events)] == theirs.events
    if mine.refused == 1007 and peer == "websockets" and ahead:
        # It decodes a message at its end: until then it may read control frames, or meet another breach.
        if all(opcode in (PING, PONG) for opcode, _ in in_the_end.events[len(mine.events) :]) and in_the_end.refused:
            found.add("late")
    elif mine.refused == 1009 and peer == "wsproto" and ahead:
        found.add("no limit")
    elif mine.refused is not None and agree and theirs.refused is None:
        if in_the_end.events == mine.events and in_the_end.refused is not None:
            found.add("late")
    elif mine.refused is not None and agree and theirs.refused is not None:
        found.add("code")
    elif mine.refused == 1002 and ahead and peer == "websockets" and _long_lengths(stream):
        found.add("shortest length")
    elif mine.refused is None and theirs.refused == 1002 and behind:
        closed = mine.events[-1] if mine.events and mine.events[-1][0] == CLOSE else None
        if closed is not None and peer == "websockets":
            found.add("close inside a message")
        if closed is not None and peer == "wsproto" and closed[1][:2] == (1014).to_bytes(2, "big"):
            found.add("1014")
    return found


def _long_lengths(stream: bytes) -> bool:
    """Whether some frame of the stream, up to the first that is unmasked or cut, has a length in too long a form."""
    at = 0
    while at + 2 <= len(stream) and stream[at + 1] & 0x80:
        length, header = stream[at + 1] & 0x7F, 6
        if length == 126:
            length, header = int.from_bytes(stream[at + 2 : at + 4], "big"), 8
            if length < 126:
                return True
        elif length == 127:
            length, header = int.from_bytes(stream[at + 2 : at + 10], "big"), 14
            if length < 65_536:
                return True
        at += header + length
    return False


# Each permitted difference, shown.


def test_permitted_late() -> None:
    """Reserved bits in the first byte of a long frame: refused at once here, waited for by the others."""
    stream = [b"\xc1", b"\xfe\xff"]
    assert ours(stream).refused == 1002
    assert websockets(stream).refused is None
    assert wsproto(stream).refused is None


def test_permitted_shortest_length() -> None:
    """A length of 1 in 16 bits is read by websockets alone."""
    stream = [b"\x81\xfe\x00\x01" + MASK + unmask(b"a", MASK)]
    assert ours(stream).refused == wsproto(stream).refused == 1002
    assert websockets(stream) == Said([(TEXT, b"a")])


def test_permitted_top_bit() -> None:
    """A 64-bit length with its top bit set is too large for websockets, and malformed for the others."""
    stream = [BREACHES["64-bit length with its top bit"].data]
    assert ours(stream).refused == wsproto(stream).refused == 1002
    assert websockets(stream).refused == 1009


def test_permitted_close_inside_a_message() -> None:
    """A close between fragments is a close here and for wsproto, and a breach for websockets."""
    stream = [masked_frame(BINARY, b"a", MASK, fin=False) + masked_frame(CLOSE, b"", MASK)]
    assert ours(stream) == wsproto(stream) == Said([(CLOSE, b"")])
    assert websockets(stream).refused == 1002


def test_permitted_1014() -> None:
    """Close code 1014 (bad gateway) is known here and to websockets."""
    stream = [masked_frame(CLOSE, close_payload(1014, ""), MASK)]
    assert ours(stream) == websockets(stream) == Said([(CLOSE, b"\x03\xf6")])
    assert wsproto(stream).refused == 1002


def test_permitted_no_limit() -> None:
    """A message over the limit is refused with 1009 here and by websockets."""
    stream = [masked_frame(BINARY, bytes(LIMIT + 1), MASK)]
    assert ours(stream).refused == websockets(stream).refused == 1009
    assert wsproto(stream) == Said([(BINARY, bytes(LIMIT + 1))])


def test_permitted_code() -> None:
    """A text inside a message that is also too large is refused by all, for one reason or the other."""
    stream = [masked_frame(TEXT, b"a", MASK, fin=False) + masked_frame(TEXT, bytes(LIMIT + 1), MASK)]
    assert ours(stream).refused == 1002
    assert websockets(stream).refused == 1009


@peers
def test_control_frames_inside_a_message_are_read_by_all(peer: Callable[[Iterable[bytes]], Said]) -> None:
    """The three agree on order where a ping stands between fragments, byte by byte."""
    data = masked_frame(TEXT, "ä".encode()[:1], MASK, fin=False) + masked_frame(PING, b"now", MASK)
    data += masked_frame(CONTINUATION, "ä".encode()[1:], MASK)
    chunks = [data[at : at + 1] for at in range(len(data))]
    assert ours(chunks) == peer(chunks) == Said([(PING, b"now"), (TEXT, "ä".encode())])
