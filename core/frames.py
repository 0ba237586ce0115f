"""WebSocket frames (RFC 6455 section 5) as pure functions of bytes: what came in, what to send.

A `FrameReader` takes whatever a socket gave and answers the complete messages and control frames in it, unmasked and
in order. It promises every rule of the RFC for a peer that negotiated no extension, and that the rules are applied as
early as the bytes allow: a length over the limit fails at the header, bad UTF-8 at the byte that made it bad. The
first breach is kept in `error` and ends the reader; messages before it are still answered. Memory is bounded by one
message plus one control frame, and a reader between messages holds no buffer at all.

It does not: answer pings, echo a close, time anything, or know what a message means. Those are the caller's.

Theory of operation. Nearly every chunk that a gateway reads is exactly one small masked text frame, so `feed` tries
that first: the length of the chunk alone tells which two or four header bytes it must begin with, one table lookup
and one comparison check them, and the XOR is done on the whole chunk as one integer (header included, so that nothing
is sliced before). Everything else takes `_feed`, a loop over frames, which still uses the table for each complete
small text frame and otherwise keeps what is incomplete in a `_Partial`. Figures: ``python -m bench.micro frames``.
"""

from __future__ import annotations

from codecs import utf_8_decode
from dataclasses import dataclass

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_CONTINUATION = 0

_SMALL_MAX = 1536
"""Chunks below this many bytes, header included, take the table. Above it the loop is as fast, by `unmask`'s lanes;
the table's integers cost 0.3 MB a process at this size."""

_LANES_MIN = 640
"""From this many bytes on, `unmask` translates four lanes (1.1 ns a byte) instead of making integers (2.2 ns)."""

_CLOSE_CODES = frozenset((*range(1000, 1004), *range(1007, 1015)))
"""Codes below 3000 that may travel (RFC 6455 section 7.4.1 and IANA's registry: 1012, 1013, 1014)."""

_NOT_UTF8 = "text is not UTF-8"

_from_bytes = int.from_bytes


@dataclass(frozen=True, slots=True)
class ProtocolError:
    """Why the peer's bytes cannot be accepted: ``code`` is the close code to send, ``reason`` is fit for the peer."""

    code: int
    reason: str


def _table() -> tuple[tuple[bytes, int, int], ...]:
    """By size of a chunk: the header of a final masked text frame that fills it, the factor that repeats its mask
    over the chunk in place, and the bytes of the product."""
    impossible = (b"\xff\xff", 0, 0)  # no frame has this size with a minimal length; its reserved bits match nothing
    rows = [impossible] * _SMALL_MAX
    factors = [0]  # of so many 4-byte words, shared by the rows
    while len(factors) <= _SMALL_MAX // 4:
        factors.append(factors[-1] << 32 | 1)
    for size in range(6, 6 + 126):
        # The mask stands at byte 2 and the payload follows it: the product begins at byte 2 to fall in step.
        words = (size + 1) // 4
        rows[size] = (bytes((0x81, 0x80 | size - 6)), factors[words] << 16, 2 + 4 * words)
    for size in range(8 + 126, _SMALL_MAX):
        words = (size + 3) // 4
        rows[size] = (b"\x81\xfe" + (size - 8).to_bytes(2, "big"), factors[words], 4 * words)
    return tuple(rows)


_SMALL = _table()


_XOR = tuple(
    (_from_bytes(bytes(range(256)), "little") ^ _from_bytes(bytes((byte,)) * 256, "little")).to_bytes(256, "little")
    for byte in range(256)
)
"""By mask byte: what each payload byte becomes."""


def unmask(payload: bytes, mask: bytes) -> bytes:
    """XOR ``payload`` with the 4-byte ``mask`` repeated (RFC 6455 section 5.3); the same call masks."""
    size = len(payload)
    if size < _LANES_MIN:
        key = _from_bytes((mask * ((size + 3) >> 2))[:size], "little")
        return (_from_bytes(payload, "little") ^ key).to_bytes(size, "little")
    lanes = bytearray(payload)  # slices of a bytearray are taken faster than those of bytes
    lanes[0::4] = lanes[0::4].translate(_XOR[mask[0]])
    lanes[1::4] = lanes[1::4].translate(_XOR[mask[1]])
    lanes[2::4] = lanes[2::4].translate(_XOR[mask[2]])
    lanes[3::4] = lanes[3::4].translate(_XOR[mask[3]])
    return bytes(lanes)


def _breach(first: int) -> str:
    """What is wrong with a first byte whatever comes before and after it; empty if nothing is."""
    opcode = first & 0x0F
    if first & 0x70:
        return "reserved bits are set and no extension was agreed"
    if opcode > PONG or BINARY < opcode < CLOSE:
        return f"opcode {opcode} is reserved"
    if opcode >= CLOSE and first < 0x80:
        return "control frames may not be fragmented"  # section 5.5
    return ""


_FIRST = tuple(map(_breach, range(256)))


class _Partial:
    """What an incomplete frame or message needs. Exists only while there is one."""

    __slots__ = ("body", "control", "fin", "head", "left", "mask", "message", "opcode", "tail")

    def __init__(self) -> None:
        self.head = b""  # the beginning of a header that is not all there
        self.opcode = -1  # of the open frame; -1 between frames
        self.fin = False
        self.mask = b""  # turned so that its first byte is for the next payload byte; empty where frames are unmasked
        self.left = 0  # payload bytes of the open frame still to come
        self.message = 0  # opcode of the open message; 0 between messages
        self.body: bytearray | None = None  # the open message so far, all its fragments
        self.tail = b""  # the code point that the text so far breaks off in
        self.control = b""  # the open control frame so far


_ENDED = _Partial()
"""Stands for "nothing more is parsed", after an error or a close frame."""


class FrameReader:
    """One peer's bytes to messages. ``client_side`` reads a server's (unmasked) frames; ``binary=False`` refuses
    binary messages with 1003. A message of more than ``message_bytes_max`` bytes is refused with 1009."""

    __slots__ = ("_binary", "_client_side", "_message_bytes_max", "_partial", "_small_max", "error")

    def __init__(self, message_bytes_max: int, *, client_side: bool = False, binary: bool = True) -> None:
        self.error: ProtocolError | None = None  # once set, nothing more is parsed
        self._message_bytes_max = message_bytes_max
        # The table knows masked frames only, and must not let a message over the limit through.
        self._small_max = 0 if client_side else min(_SMALL_MAX, message_bytes_max + 7)
        self._client_side = client_side
        self._binary = binary
        self._partial: _Partial | None = None

    @property
    def closed(self) -> bool:
        """Whether the peer's bytes ended, by a close frame or by an error: what follows is ignored."""
        return self._partial is _ENDED

    @property
    def pending(self) -> bool:
        """Whether a frame or a message is incomplete."""
        return self._partial is not None and self._partial is not _ENDED

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The messages and control frames that ``data`` completes: ``(opcode, payload)``, in order.

        ``opcode`` is TEXT or BINARY for a message (all fragments joined), else that of the control frame. Text is
        valid UTF-8; a close payload has passed `parse_close`. Look at `error` after the answers were handled.
        """
        if self._partial is None:
            size = len(data)
            if size < self._small_max:
                head, factor, product = _SMALL[size]
                if data.startswith(head):
                    if size > 131:
                        key = _from_bytes(data[4:8], "little") * factor
                        text = (_from_bytes(data, "little") ^ key).to_bytes(product, "little")[8:size]
                    else:
                        key = _from_bytes(data[2:6], "little") * factor
                        text = (_from_bytes(data, "little") ^ key).to_bytes(product, "little")[6:size]
                    if text.isascii() or _is_utf8(text):
                        return [(TEXT, text)]
                    self._fail(1007, _NOT_UTF8)
                    return []
        return self._feed(data)

    def _feed(self, data: bytes) -> list[tuple[int, bytes]]:
        out: list[tuple[int, bytes]] = []
        partial = self._partial
        if partial is _ENDED:
            return out
        if partial is None:
            partial = _Partial()
        elif partial.head:
            data = partial.head + data
            partial.head = b""
        at = 0
        size = len(data)
        small_max = self._small_max
        while True:
            if partial.opcode < 0:
                # Complete small text frames, many of them in a chunk where a client pipelines.
                while at + 6 <= size and data[at] == 0x81 and not partial.message:
                    end = at + 6 + (data[at + 1] & 0x7F)
                    if data[at + 1] == 0xFE:
                        end = at + 8 + (data[at + 2] << 8 | data[at + 3])
                    if end > size or end - at >= small_max:
                        break
                    whole = data[at:end]
                    head, factor, product = _SMALL[end - at]
                    if not whole.startswith(head):
                        break
                    skip = len(head) + 4
                    key = _from_bytes(whole[skip - 4 : skip], "little") * factor
                    text = (_from_bytes(whole, "little") ^ key).to_bytes(product, "little")[skip : end - at]
                    if not (text.isascii() or _is_utf8(text)):
                        self._fail(1007, _NOT_UTF8)
                        return out
                    out.append((TEXT, text))
                    at = end
                if at == size:
                    break
                header = self._open(partial, data, at)
                if self.error is not None:
                    return out
                if not header:
                    partial.head = data[at:]
                    break
                at += header
            chunk = data[at : at + partial.left]
            if chunk:
                at += len(chunk)
                partial.left -= len(chunk)
                mask = partial.mask
                if mask:
                    if partial.left:
                        turn = len(chunk) & 3
                        partial.mask = mask[turn:] + mask[:turn]
                    chunk = unmask(chunk, mask)
            self._take(partial, chunk, out)
            if self._partial is _ENDED:
                return out
            if partial.left:
                break
            partial.opcode = -1
        idle = partial.opcode < 0 and not partial.message and not partial.head
        self._partial = None if idle else partial
        return out

    def _open(self, partial: _Partial, data: bytes, at: int) -> int:
        """Open the frame whose header is at ``data[at]``: its bytes, 0 if it is not all there or wrong.

        Each rule is applied as soon as the bytes it needs are there (section 5.2 unless another is named).
        """
        have = len(data) - at
        first = data[at]
        breach = _FIRST[first]
        if breach:
            return self._fail(1002, breach)
        opcode = first & 0x0F
        if opcode < CLOSE:
            if opcode == _CONTINUATION:
                if not partial.message:
                    return self._fail(1002, "continuation without a message to continue")  # section 5.4
            elif partial.message:
                return self._fail(1002, "new message before the last one was complete")  # section 5.4
            elif opcode == BINARY and not self._binary:
                return self._fail(1003, "binary messages are not accepted here")
        if have < 2:
            return 0
        second = data[at + 1]
        masked = second >= 0x80
        if masked is self._client_side:  # section 5.1
            return self._fail(1002, "frames to a client may not be masked" if masked else "frames must be masked")
        length = second & 0x7F
        if opcode >= CLOSE and length > 125:
            return self._fail(1002, "control frames hold at most 125 bytes")  # section 5.5
        header = 2
        if length == 126:
            header = 4
            if have < header:
                return 0
            length = data[at + 2] << 8 | data[at + 3]
            if length < 126:
                return self._fail(1002, "length is not in its shortest form")
        elif length == 127:
            header = 10
            if have < header:
                return 0
            length = _from_bytes(data[at + 2 : at + 10], "big")
            if length >> 63:
                return self._fail(1002, "length has its top bit set")
            if length < 65_536:
                return self._fail(1002, "length is not in its shortest form")
        if opcode < CLOSE:
            held = len(partial.body) if partial.body is not None else 0
            if held + length > self._message_bytes_max:
                return self._fail(1009, f"messages hold at most {self._message_bytes_max} bytes")
        if masked:
            header += 4
            if have < header:
                return 0
            partial.mask = data[at + header - 4 : at + header]
        partial.opcode = opcode
        partial.fin = first >= 0x80
        partial.left = length
        if _CONTINUATION < opcode < CLOSE:
            partial.message = opcode
        return header

    def _take(self, partial: _Partial, chunk: bytes, out: list[tuple[int, bytes]]) -> None:
        """Take unmasked payload of the open frame, and answer what it completes."""
        done = not partial.left
        if partial.opcode >= CLOSE:
            control = partial.control + chunk if partial.control else chunk
            if not done:
                partial.control = control
                return
            partial.control = b""
            if partial.opcode == CLOSE:
                status = parse_close(control)
                if isinstance(status, ProtocolError):
                    self._fail(status.code, status.reason)
                    return
                self._partial = _ENDED
            out.append((partial.opcode, control))
            return
        done = done and partial.fin
        if partial.message == TEXT and (partial.tail or not chunk.isascii()):
            seen = partial.tail + chunk
            try:
                used = utf_8_decode(seen, "strict", done)[1]
            except UnicodeDecodeError:
                self._fail(1007, _NOT_UTF8)
                return
            partial.tail = seen[used:]
            # A surrogate's first two bytes: no third makes them valid, but the decoder waits for it.
            if partial.tail[:1] == b"\xed" and partial.tail[1:] >= b"\xa0":
                self._fail(1007, _NOT_UTF8)
                return
        if not done:
            if chunk:
                if partial.body is None:
                    partial.body = bytearray(chunk)
                else:
                    partial.body += chunk
            return
        if partial.body is not None:
            partial.body += chunk
            chunk = bytes(partial.body)
            partial.body = None
        out.append((partial.message, chunk))
        partial.message = 0

    def _fail(self, code: int, reason: str) -> int:
        """End the reader; 0 so that `_open` can pass it on."""
        self.error = ProtocolError(code, reason)
        self._partial = _ENDED
        return 0


def _is_utf8(text: bytes) -> bool:
    try:
        utf_8_decode(text, "strict", True)
    except UnicodeDecodeError:
        return False
    return True


def _header(opcode: int, size: int, mask_bit: int) -> bytes:
    """FIN, ``opcode`` and ``size`` in its shortest form."""
    if size < 126:
        return bytes((0x80 | opcode, mask_bit | size))
    if size < 65_536:
        return bytes((0x80 | opcode, mask_bit | 126, size >> 8, size & 0xFF))
    return bytes((0x80 | opcode, mask_bit | 127)) + size.to_bytes(8, "big")


_TEXT_HEADS = tuple(_header(TEXT, size, 0) for size in range(_SMALL_MAX))


def text_frame(payload: bytes) -> bytes:
    """A server's final text frame; ``payload`` is UTF-8, which the caller vouches for."""
    size = len(payload)
    return (_TEXT_HEADS[size] if size < _SMALL_MAX else _header(TEXT, size, 0)) + payload


def frame(opcode: int, payload: bytes) -> bytes:
    """A server's final frame. Control frames hold at most 125 bytes: more is the caller's mistake."""
    assert opcode < CLOSE or len(payload) <= 125, "control frames hold at most 125 bytes"
    return _header(opcode, len(payload), 0) + payload


def masked_frame(opcode: int, payload: bytes, mask: bytes, fin: bool = True) -> bytes:
    """A client's frame, for tests and tools: any opcode and size, so that they can break the rules too."""
    assert len(mask) == 4
    head = _header(opcode, len(payload), 0x80)
    if not fin:
        head = bytes((head[0] & 0x7F,)) + head[1:]
    return head + mask + unmask(payload, mask)


def close_payload(code: int, reason: str) -> bytes:
    """A close frame's payload; a reason over 123 bytes is cut between code points (section 5.5)."""
    assert _may_travel(code), f"close code {code} may not be sent"
    return code.to_bytes(2, "big") + reason.encode()[:123].decode("utf-8", "ignore").encode()


def parse_close(payload: bytes) -> tuple[int, str] | ProtocolError:
    """Code and reason of a close frame; 1005 and "" where it has none (section 7.1.5)."""
    if not payload:
        return (1005, "")
    if len(payload) == 1:
        return ProtocolError(1002, "close payload of one byte")
    code = payload[0] << 8 | payload[1]
    if not _may_travel(code):
        return ProtocolError(1002, f"close code {code} may not be sent")
    try:
        return (code, payload[2:].decode())
    except UnicodeDecodeError:
        return ProtocolError(1007, "close reason is not UTF-8")


def _may_travel(code: int) -> bool:
    return 3000 <= code <= 4999 or code in _CLOSE_CODES
