"""What one frame costs to read and to write, beside the sans-I/O parsers of websockets and wsproto.

"read" feeds a chunk that holds exactly one masked text frame; "read pipelined" one chunk of many 130-byte frames, per
frame; "read cut" the same frame in two halves; "write" makes one server's text frame. Ours has the text validated as
UTF-8 when it is read, as does wsproto (which decodes it); websockets leaves that to a layer above, and unmasks in C.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Iterator
from functools import partial

from bench.micro import Figure, time_us
from core.frames import PING, TEXT, FrameReader, frame, masked_frame, text_frame
from core.handshake import Handshake, Refusal, Upgrade

SIZES = {"130 B": 130, "1 KB": 1024, "64 KB": 65_536}
PIPELINED = 400
LIMIT = 1_048_576
MASK = b"\x37\xfa\x21\x3d"

# As Chrome sends it, less the client hints.
BROWSER = (
    b"GET /v1/ws HTTP/1.1\r\nHost: gateway.example:8400\r\nConnection: Upgrade\r\nPragma: no-cache\r\n"
    b"Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    b"Chrome/140.0.0.0 Safari/537.36\r\nUpgrade: websocket\r\nOrigin: https://app.example\r\n"
    b"Sec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\n"
    b"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    b"Sec-WebSocket-Protocol: readback.v1\r\n\r\n"
)
BARE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

Read = Callable[[bytes], int]
"""Takes a chunk, answers how many messages came out of it."""
Write = Callable[[bytes], bytes | bytearray]


def _ours() -> tuple[Read, Write]:
    reader = FrameReader(LIMIT, binary=False)
    return lambda chunk: len(reader.feed(chunk)), text_frame


def _websockets() -> tuple[Read, Write]:
    from websockets.protocol import OPEN
    from websockets.server import ServerProtocol

    logger = logging.Logger("silent", logging.CRITICAL + 1)
    protocol = ServerProtocol(state=OPEN, max_size=LIMIT, logger=logger)

    def read(chunk: bytes) -> int:
        protocol.receive_data(chunk)
        return len(protocol.events_received())

    def write(payload: bytes) -> bytes:
        protocol.send_text(payload)
        return b"".join(protocol.data_to_send())

    return read, write


def _wsproto() -> tuple[Read, Write]:
    from wsproto.frame_protocol import FrameProtocol

    protocol = FrameProtocol(client=False, extensions=[])

    def read(chunk: bytes) -> int:
        protocol.receive_bytes(chunk)
        return sum(1 for piece in protocol.received_frames() if piece.message_finished)

    def write(payload: bytes) -> bytes | bytearray:
        # It takes text as str; decoding is left out of the figure by handing it bytes as a binary message.
        return protocol.send_data(payload, fin=True)

    return read, write


def measure() -> Iterator[Figure]:
    everyone = {
        "readback": _ours(),
        f"websockets {importlib.metadata.version('websockets')}": _websockets(),
        f"wsproto {importlib.metadata.version('wsproto')}": _wsproto(),
    }
    for size, count in SIZES.items():
        payload = (b'{"op":"send","id":4,"stream":"chat:ops","body":' * (count // 40 + 1))[:count]
        chunk = masked_frame(TEXT, payload, MASK)
        halves = (chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :])
        for who, (read, _) in everyone.items():
            assert read(chunk) == 1
            yield Figure("read", size, who, *time_us(partial(read, chunk)))
        for who, (read, _) in everyone.items():
            assert _read_cut(read, *halves) == 1
            yield Figure("read cut", size, who, *time_us(partial(_read_cut, read, *halves)))
        for who, (_, write) in everyone.items():
            assert write(payload)[-count:] == payload
            yield Figure("write", size, who, *time_us(partial(write, payload)))
    chunk = masked_frame(TEXT, b"x" * 130, MASK) * PIPELINED
    for who, (read, _) in everyone.items():
        assert read(chunk) == PIPELINED
        yield Figure("read pipelined", "130 B", who, *time_us(partial(read, chunk), per_call=PIPELINED))
    payload = "Grüße, 世界 ".encode() * 6
    chunk = masked_frame(TEXT, payload, MASK)
    for who, (read, _) in everyone.items():
        assert read(chunk) == 1
        yield Figure("read, not ASCII", f"{len(payload)} B", who, *time_us(partial(read, chunk)))
    yield Figure("write ping", "0 B", "readback", *time_us(partial(frame, PING, b"")))
    for size, request in (("browser", BROWSER), ("bare", BARE)):
        assert isinstance(_shake(request), Upgrade)
        yield Figure("handshake", f"{size}, {len(request)} B", "readback", *time_us(partial(_shake, request)))


def _read_cut(read: Read, first: bytes, second: bytes) -> int:
    return read(first) + read(second)


def _shake(request: bytes) -> Upgrade | Refusal | None:
    return Handshake(16_384).feed(request)
