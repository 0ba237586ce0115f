"""What a capture costs on the wire: one send and one read of a connection with nothing between it and its socket, and with a
tap (`gateway.tap`).

"off" is the code that runs where no capture is configured: the socket's own ``send`` and the frame reader itself, with
nothing added. The kernel's part is left out of both, since it is the same. "to a room" is what each further member of a
room costs, whose bytes are the same for all; "to one" is an event that nobody else was given.
"""

from __future__ import annotations

import itertools
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.micro import Figure, time_us
from core.frames import TEXT, masked_frame, text_frame
from core.handshake import Handshake
from core.limits import Limits
from core.wire import encode_event, encode_sent
from gateway.capture import Capture
from gateway.connection import Connection
from proof.watched import EVENT

KEY = "0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11"
BODY = b'{"text":"%b"}' % (b"x" * 100)
MASK = b"\x37\xfa\x21\x3d"
JOINED = 30
"""Events that leave together under load."""
DISTINCT = 2_000
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
WELCOME = (
    b'{"op":"welcome","id":1,"session":"s","principal":"user:amy","log":"e","resume":"r",'
    b'"streams":{"chat:ops":{"head":0,"after":0}}}'
)
HELLO = b'{"op":"hello","id":1,"token":"t","streams":{"chat:ops":{}}}'
SEND = b'{"op":"send","id":2,"stream":"chat:ops","key":"%b","type":"message","body":%b}' % (KEY.encode(), BODY)


class Bench:
    """A connection without a socket, with a tap or without."""

    def __init__(self, folder: Path, *, tapped: bool) -> None:
        limits = Limits()
        sock: Any = SimpleNamespace(send=len, recv=lambda size, flags=0: b"", fileno=lambda: -1)
        shard: Any = None
        self.connection = Connection(sock, shard, Handshake(limits.handshake_bytes_max), limits.frame_bytes_max)
        self.connection.tenant, self.connection.principal = "demo", "user:amy"
        self.capture: Capture | None = None
        if tapped:
            self.capture = Capture(folder, "n.1", limits, lambda: 1.0)
            # Written by a thread, elsewhere; here the last line is kept, so that nothing grows.
            self.capture.part.lines = deque(maxlen=1)  # type: ignore[assignment]
            self.capture.taken(self.connection)
            self.connection.reader.feed(masked_frame(TEXT, HELLO, MASK))
            self.connection.send(UPGRADED)
            self.connection.send(text_frame(WELCOME))

    def sends(self, data: list[bytes]) -> Callable[[], object]:
        """One after another, as they would leave."""
        send, capture, turn = self.connection.send, self.capture, itertools.cycle(data).__next__

        def once() -> None:
            send(turn())
            if capture is not None:
                capture.part.waiting = 0

        return once

    def reads(self, data: bytes) -> Callable[[], object]:
        feed, capture = self.connection.reader.feed, self.capture

        def once() -> None:
            feed(data)
            if capture is not None:
                capture.part.waiting = 0
                # Nobody answers here, so what is asked would wait for ever.
                next(iter(capture.taps.values()))._watched._asked.clear()

        return once


def event(seq: int) -> bytes:
    return encode_event(b"chat:ops", seq, "message", KEY, "user:amy", 1_700_000_000_000 + seq, BODY)


def measure() -> Iterator[Figure]:
    """Microseconds a frame."""
    joined = b"".join(event(seq) for seq in range(1, JOINED + 1))
    cases = {
        ("send an event to a room", "1 at once"): ([event(1)], 1),
        ("send an event to a room", f"{JOINED} at once"): ([joined], JOINED),
        ("send an event to one", "1 at once"): ([event(seq) for seq in range(1, DISTINCT)], 1),
        ("send an answer", "1 at once"): ([encode_sent(2, b"chat:ops", 7, 1_700_000_000_000, False)], 1),
    }
    with tempfile.TemporaryDirectory() as name:
        for number, (who, tapped) in enumerate((("off", False), ("on", True))):
            bench = Bench(Path(name) / str(number), tapped=tapped)
            for (what, size), (data, frames) in cases.items():
                assert data[0][2:].startswith(EVENT) or data[0][4:].startswith(EVENT) or "answer" in what
                if bench.capture is not None:
                    bench.capture._seen.clear()  # only what a case itself has shown is known
                yield Figure(what, size, who, *time_us(bench.sends(data), per_call=frames))
            yield Figure("read a send", "1 at once", who, *time_us(bench.reads(masked_frame(TEXT, SEND, MASK))))
