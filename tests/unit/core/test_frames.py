"""Frames: every rule of RFC 6455 section 5 holds, however the bytes arrive, within bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import frames
from core.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    FrameReader,
    ProtocolError,
    close_payload,
    frame,
    masked_frame,
    parse_close,
    text_frame,
    unmask,
)
from tests.conformance.streams import BREACHES, CONTINUATION, MASK, Breach, Session, chunked, masks, sessions

LIMIT = 1_048_576
EDGE_SIZES = (*range(140), *range(638, 644), 1000, *range(1525, 1540), 65_534, 65_535, 65_536, 65_537, 70_001)

breaches = pytest.mark.parametrize("breach", BREACHES.values(), ids=BREACHES.keys())


def read(reader: FrameReader, chunks: Iterable[bytes]) -> list[tuple[int, bytes]]:
    return [event for chunk in chunks for event in reader.feed(chunk)]


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


# What is right is read.


@pytest.mark.parametrize("size", EDGE_SIZES)
def test_every_size_is_read_whole_pipelined_and_cut(size: int) -> None:
    """A text of any size comes out as it went in, alone, between others, and cut anywhere near its header."""
    text = bytes(97 + at % 26 for at in range(size))
    data = masked_frame(TEXT, text, MASK)
    assert FrameReader(LIMIT).feed(data) == [(TEXT, text)]
    assert FrameReader(LIMIT).feed(data * 3) == [(TEXT, text)] * 3
    for cut in (1, 2, 3, 5, 7, 9, 13, 15, len(data) - 1):
        reader = FrameReader(LIMIT)
        assert read(reader, (data[:cut], data[cut:])) == [(TEXT, text)]
        assert not reader.pending


@pytest.mark.parametrize("size", EDGE_SIZES)
def test_server_frames_have_the_shortest_length_and_no_mask(size: int) -> None:
    """What the server writes is what a client's reader takes, byte for byte as section 5.2 draws it."""
    payload = b"x" * size
    if size < 126:
        head = bytes((0x81, size))
    elif size < 65_536:
        head = b"\x81\x7e" + size.to_bytes(2, "big")
    else:
        head = b"\x81\x7f" + size.to_bytes(8, "big")
    assert text_frame(payload) == frame(TEXT, payload) == head + payload
    reader = FrameReader(LIMIT, client_side=True)
    assert reader.feed(text_frame(payload) * 2) == [(TEXT, payload)] * 2
    assert not reader.pending


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_binary_and_control_frames_are_written_like_text(size: int) -> None:
    """Any opcode, in every form of a length, final and unmasked; a client's is the same under its mask."""
    payload = b"x" * size
    for opcode in (BINARY, PING, PONG) if size < 126 else (BINARY,):
        assert frame(opcode, payload)[0] == masked_frame(opcode, payload, MASK)[0] == 0x80 | opcode
        assert FrameReader(LIMIT, client_side=True).feed(frame(opcode, payload)) == [(opcode, payload)]
        assert FrameReader(LIMIT).feed(masked_frame(opcode, payload, MASK)) == [(opcode, payload)]


def test_the_table_is_what_the_rfc_draws() -> None:
    """By size of a chunk: the only header that a final masked text frame of this size can have, and the factor that lays
    the mask over the payload and over nothing before it. Sizes that no such frame has match no chunk."""
    rows = frames._table()
    sizes = {len(masked_frame(TEXT, bytes(size), MASK)): size for size in range(1528)}
    assert len(rows) == max(sizes) + 1 == 1536
    for size, (head, factor, product) in enumerate(rows):
        if size not in sizes:
            assert (head, factor, product) == (b"\xff\xff", 0, 0)
            continue
        whole = masked_frame(TEXT, bytes(sizes[size]), MASK)
        skip = len(head) + 4
        assert whole[: skip - 4] == head
        laid = (int.from_bytes(MASK, "little") * factor).to_bytes(product, "little")
        assert size <= product < size + 4
        assert laid[skip:size] == whole[skip:]  # a payload of zeros under its mask is the mask


def test_small_texts_take_the_table_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nearly every chunk is costs one look-up, alone and pipelined, up to the table's size and to the limit."""

    def slow(*arguments: object) -> None:
        raise AssertionError("the way of all other frames")

    monkeypatch.setattr(FrameReader, "_open", slow)
    texts = [b"x" * size for size in (*range(400), 1000, 1526, 1527)]
    texts += [("é" * size).encode() for size in (1, 62, 63, 700)]
    texts += [b""]  # nothing comes after the shortest frame of all
    together = b"".join(masked_frame(TEXT, text, MASK) for text in texts)
    assert FrameReader(LIMIT).feed(together) == [(TEXT, text) for text in texts]
    with pytest.raises(AssertionError, match="the way of all other frames"):
        FrameReader(LIMIT).feed(masked_frame(TEXT, b"x" * 1528, MASK))
    monkeypatch.setattr(FrameReader, "_feed", slow)
    for text in texts:
        assert FrameReader(LIMIT).feed(masked_frame(TEXT, text, MASK)) == [(TEXT, text)]
    assert FrameReader(20).feed(masked_frame(TEXT, b"x" * 20, MASK)) == [(TEXT, b"x" * 20)]
    with pytest.raises(AssertionError, match="the way of all other frames"):
        FrameReader(20).feed(masked_frame(TEXT, b"x" * 21, MASK))


def test_what_is_wrong_with_a_first_byte() -> None:
    """Each of the 256, by section 5.2: three bits are reserved, so are ten opcodes, and control frames are final."""
    for first in range(256):
        opcode, reserved, final = first % 16, first // 16 % 8, first >= 128
        if reserved:
            expected = "reserved bits are set and no extension was agreed"
        elif opcode not in (0, 1, 2, 8, 9, 10):
            expected = f"opcode {opcode} is reserved"
        elif opcode > 7 and not final:
            expected = "control frames may not be fragmented"
        else:
            expected = ""
        assert frames._breach(first) == expected


def test_the_last_code_points_before_the_surrogates_are_text() -> None:
    """U+D7A3 begins like a surrogate and is none: it is read although it comes byte by byte."""
    for text in ("힣", "\ud7ff", "\ue000", "\U0010ffff"):
        data = masked_frame(TEXT, text.encode(), MASK)
        assert read(FrameReader(LIMIT), bytewise(data)) == [(TEXT, text.encode())]


@given(sessions(), st.data())
@settings(deadline=None, max_examples=150)
def test_any_session_in_any_chunks_gives_the_same_events(session: Session, data: st.DataObject) -> None:
    """Fragmentation, interleaved control frames and the network's cuts change nothing of what is read."""
    reader = FrameReader(LIMIT)
    assert read(reader, data.draw(chunked(session.data))) == session.events
    assert reader.error is None
    assert not reader.pending
    assert reader.closed is (session.events[-1:] != [] and session.events[-1][0] == CLOSE)


@given(st.binary(max_size=70_000), masks)
@settings(deadline=None, max_examples=60)
def test_unmask_is_its_own_inverse(payload: bytes, mask: bytes) -> None:
    """Masking twice gives the payload back, and each byte is XORed with the mask byte of its place."""
    masked = unmask(payload, mask)
    assert masked == bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))
    assert unmask(masked, mask) == payload


def test_control_frames_come_out_between_fragments() -> None:
    """A ping inside a fragmented message is answered at once, before the message is whole (section 5.4)."""
    reader = FrameReader(LIMIT)
    assert reader.feed(masked_frame(TEXT, b"Hel", MASK, fin=False)) == []
    assert reader.feed(masked_frame(PING, b"p", MASK)) == [(PING, b"p")]
    assert reader.pending
    assert reader.feed(masked_frame(CONTINUATION, b"lo", MASK)) == [(TEXT, b"Hello")]
    assert not reader.pending


def test_control_frame_cut_inside_a_message_keeps_both() -> None:
    """A control frame that arrives in two chunks inside a message mixes with neither."""
    data = masked_frame(TEXT, "é".encode()[:1], MASK, fin=False) + masked_frame(PONG, b"\xff\xfe", MASK)
    data += masked_frame(CONTINUATION, "é".encode()[1:], MASK)
    assert read(FrameReader(LIMIT), bytewise(data)) == [(PONG, b"\xff\xfe"), (TEXT, "é".encode())]


def test_nothing_after_a_close_is_read() -> None:
    """A close ends the reader, in its own chunk and in later ones (section 5.5.1)."""
    reader = FrameReader(LIMIT)
    late = masked_frame(TEXT, b"late", MASK)
    assert reader.feed(masked_frame(CLOSE, close_payload(1000, "bye"), MASK) + late) == [(CLOSE, b"\x03\xe8bye")]
    assert reader.closed
    assert reader.feed(late) == []
    assert reader.error is None


def test_close_inside_a_fragmented_message_is_read() -> None:
    """A close may cut a message short: control frames may stand between its fragments (section 5.4)."""
    reader = FrameReader(LIMIT)
    assert reader.feed(masked_frame(TEXT, b"a", MASK, fin=False) + masked_frame(CLOSE, b"", MASK)) == [(CLOSE, b"")]
    assert reader.error is None


# What is wrong is refused, once, as early as the bytes allow.


@breaches
def test_breach_is_refused_with_its_code(breach: Breach) -> None:
    """Each rule broken gives its close code and a reason that fits a close frame; nothing more is parsed."""
    reader = FrameReader(LIMIT)
    assert reader.feed(breach.data) == []
    error = reader.error
    assert error is not None
    assert error.code == breach.code
    assert parse_close(close_payload(error.code, error.reason)) == (error.code, error.reason)
    assert reader.closed
    assert reader.feed(masked_frame(TEXT, b"x", MASK)) == []
    assert reader.error is error


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xc1", "reserved bits are set and no extension was agreed"),
        (b"\x83", "opcode 3 is reserved"),
        (b"\x09", "control frames may not be fragmented"),
        (b"\x80", "continuation without a message to continue"),
        (masked_frame(TEXT, b"", MASK, fin=False) + b"\x81", "new message before the last one was complete"),
        (b"\x81\x01", "frames must be masked"),
        (b"\x89\xfe", "control frames hold at most 125 bytes"),
        (b"\x82\xfe\x00\x7d", "length is not in its shortest form"),
        (b"\x82\xff" + (65_535).to_bytes(8, "big"), "length is not in its shortest form"),
        (b"\x82\xff\x80" + bytes(7), "length has its top bit set"),
        (b"\x82\xff" + (LIMIT + 1).to_bytes(8, "big"), "messages hold at most 1048576 bytes"),
        (masked_frame(TEXT, b"\xff", MASK), "text is not UTF-8"),
        (masked_frame(TEXT, b"a", MASK) + masked_frame(TEXT, b"\xff", MASK), "text is not UTF-8"),
        (masked_frame(TEXT, b"\xff", MASK, fin=False), "text is not UTF-8"),
        (masked_frame(TEXT, b"\xed\xa0", MASK, fin=False), "text is not UTF-8"),
        (masked_frame(CLOSE, b"\x03", MASK), "close payload of one byte"),
        (masked_frame(CLOSE, b"\x03\xed", MASK), "close code 1005 may not be sent"),
        (masked_frame(CLOSE, b"\x03\xe8\xff", MASK), "close reason is not UTF-8"),
    ],
)
def test_a_breach_is_told_in_words(data: bytes, reason: str) -> None:
    """The peer's programmer reads what was wrong, in the close frame."""
    reader = FrameReader(LIMIT)
    reader.feed(data)
    assert reader.error is not None
    assert reader.error.reason == reason


@breaches
def test_breach_is_refused_at_the_byte_that_shows_it(breach: Breach) -> None:
    """Dribbled in, a breach is not waited for: the byte before it is still fine, the byte itself is not."""
    reader = FrameReader(LIMIT)
    assert read(reader, bytewise(breach.data[: breach.after - 1])) == []
    assert reader.error is None
    assert reader.feed(breach.data[breach.after - 1 : breach.after]) == []
    assert reader.error is not None
    assert reader.error.code == breach.code


@breaches
def test_messages_before_a_breach_are_answered(breach: Breach) -> None:
    """What was right comes out although the same chunk goes wrong after it."""
    good = masked_frame(TEXT, b"one", MASK) + masked_frame(BINARY, b"two", MASK)
    reader = FrameReader(LIMIT)
    assert reader.feed(good + breach.data) == [(TEXT, b"one"), (BINARY, b"two")]
    assert reader.error is not None
    assert reader.error.code == breach.code


@pytest.mark.parametrize("data", [masked_frame(TEXT, b"a", MASK), masked_frame(PING, b"", MASK)])
def test_client_refuses_masked_frames(data: bytes) -> None:
    """A server must not mask (section 5.1)."""
    reader = FrameReader(LIMIT, client_side=True)
    assert reader.feed(data) == []
    assert reader.error is not None
    assert reader.error == ProtocolError(1002, "frames to a client may not be masked")


def test_binary_is_refused_where_it_is_not_served() -> None:
    """``binary=False`` answers 1003 at the first byte, and still reads text."""
    reader = FrameReader(LIMIT, binary=False)
    assert reader.feed(masked_frame(TEXT, b"a", MASK)) == [(TEXT, b"a")]
    assert reader.feed(b"\x82") == []
    assert reader.error == ProtocolError(1003, "binary messages are not accepted here")


@pytest.mark.parametrize("limit", [0, 1, 5, 125, 126, 1000, 1527, 1528, 1529, 1530, 70_000])
def test_limit_is_inclusive_and_checked_at_the_header(limit: int) -> None:
    """A message of exactly the limit passes; one byte more is refused before any of its payload is there."""
    assert FrameReader(limit).feed(masked_frame(TEXT, b"x" * limit, MASK)) == [(TEXT, b"x" * limit)]
    over = masked_frame(TEXT, b"x" * (limit + 1), MASK)
    for given_bytes in (over, over[: len(over) - limit - 1 - 4]):
        reader = FrameReader(limit)
        assert reader.feed(given_bytes) == []
        assert reader.error is not None
        assert reader.error.code == 1009
        assert str(limit) in reader.error.reason


def test_limit_counts_all_fragments_together() -> None:
    """Fragments that each fit are refused where their sum does not; pings between them do not count."""
    reader = FrameReader(10)
    assert reader.feed(masked_frame(TEXT, b"12345", MASK, fin=False)) == []
    assert reader.feed(masked_frame(PING, b"x" * 100, MASK)) == [(PING, b"x" * 100)]
    assert reader.feed(masked_frame(CONTINUATION, b"67890", MASK, fin=False)) == []
    assert reader.error is None
    assert reader.feed(masked_frame(CONTINUATION, b"!", MASK)[:2]) == []
    assert reader.error is not None
    assert reader.error.code == 1009


def test_the_limit_is_of_messages_and_not_of_control_frames() -> None:
    """Whatever the limit, a control frame holds its 125 bytes, a close with its reason too."""
    for opcode, payload in ((PING, b"x" * 125), (PONG, b"x" * 125), (CLOSE, close_payload(4000, "x" * 123))):
        assert len(payload) == 125
        assert FrameReader(10).feed(masked_frame(opcode, payload, MASK)) == [(opcode, payload)]
        assert FrameReader(10, client_side=True).feed(frame(opcode, payload)) == [(opcode, payload)]


def test_enormous_declared_length_holds_nothing() -> None:
    """A header that promises 2^62 bytes is refused as too large, not waited for."""
    reader = FrameReader(LIMIT)
    assert reader.feed(b"\x81\xff" + (1 << 62).to_bytes(8, "big")) == []
    assert reader.error is not None
    assert reader.error.code == 1009


def test_bad_utf8_in_a_large_frame_is_refused_as_it_comes() -> None:
    """A text of a megabyte with a bad byte early on is refused at that byte, not at its end."""
    data = masked_frame(TEXT, b"a" * 5000 + b"\xc3\x28" + b"a" * 900_000, MASK)
    head = 14
    reader = FrameReader(LIMIT)
    assert read(reader, (data[: head + 4000], data[head + 4000 : head + 5001])) == []
    assert reader.error is None
    assert reader.feed(data[head + 5001 : head + 5002]) == []
    assert reader.error == ProtocolError(1007, "text is not UTF-8")


# Hostile amounts.


def test_a_million_empty_fragments_hold_nothing() -> None:
    """Empty fragments without end cost no memory: what is kept does not grow with their number."""
    reader = FrameReader(LIMIT)
    chunk = masked_frame(CONTINUATION, b"", MASK, fin=False) * 10_000
    reader.feed(masked_frame(TEXT, b"", MASK, fin=False) + chunk)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            assert reader.feed(chunk) == []
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 1024
    for _ in range(89):
        assert reader.feed(chunk) == []
    assert reader.feed(masked_frame(CONTINUATION, b"x", MASK)) == [(TEXT, b"x")]
    assert not reader.pending


def test_dribbled_bytes_are_each_handled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte by byte, a message costs its own size: nothing is unmasked or decoded again with every byte."""
    unmasked = decoded = 0
    real_unmask, real_decode = frames.unmask, frames.utf_8_decode

    def counting_unmask(payload: bytes, mask: bytes) -> bytes:
        nonlocal unmasked
        unmasked += len(payload)
        return real_unmask(payload, mask)

    def counting_decode(data: bytes, errors: str, final: bool) -> tuple[str, int]:
        nonlocal decoded
        decoded += len(data)
        return real_decode(data, errors, final)

    text = "€𝄞é".encode() * 1000
    data = masked_frame(TEXT, text, MASK)
    monkeypatch.setattr(frames, "unmask", counting_unmask)
    monkeypatch.setattr(frames, "utf_8_decode", counting_decode)
    assert read(FrameReader(LIMIT), bytewise(data)) == [(TEXT, text)]
    assert unmasked == len(text)
    assert decoded < 3 * len(text)  # a code point's bytes are looked at until it is whole: at most 1 + 2 + 3 + 4 for 4


def test_an_idle_reader_holds_no_buffer() -> None:
    """Between messages a thousand readers cost their slots alone, whatever they read before."""
    whole = masked_frame(TEXT, b"x" * 3000, MASK)
    readers = [FrameReader(LIMIT) for _ in range(1000)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for reader in readers:
            reader.feed(whole[:1000])
            reader.feed(whole[1000:])
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 1000 * 16


# Close frames and what the server writes.


def test_close_codes_that_may_travel() -> None:
    """1000–1003, 1007–1014 (IANA's registry) and 3000–4999 are accepted; every other code is refused with 1002."""
    allowed = {code for code in range(65_536) if not isinstance(parse_close(code.to_bytes(2, "big")), ProtocolError)}
    assert allowed == {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


def test_close_without_a_code_is_1005() -> None:
    """An empty close payload has no code, which has the name 1005 (section 7.1.5)."""
    assert parse_close(b"") == (1005, "")


def test_long_close_reason_is_cut_between_code_points() -> None:
    """A reason that does not fit 123 bytes is shortened, never refused and never broken."""
    payload = close_payload(4000, "x" + "€" * 100)
    assert len(payload) <= 125
    assert parse_close(payload) == (4000, "x" + "€" * 40)
    assert len(frame(CLOSE, payload)) == 2 + len(payload)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
def test_close_codes_that_may_not_be_sent_are_our_mistake(code: int) -> None:
    """Writing a close code that no peer may see stops the writer, not the peer."""
    with pytest.raises(AssertionError, match=str(code)):
        close_payload(code, "")


def test_long_control_frames_are_our_mistake() -> None:
    """A control frame over 125 bytes is never written."""
    for opcode in (CLOSE, PING, PONG):
        with pytest.raises(AssertionError, match=r"^control frames hold at most 125 bytes"):
            frame(opcode, b"x" * 126)
