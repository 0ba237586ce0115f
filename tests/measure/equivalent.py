"""Mutants that were looked at by hand and change nothing that could be noticed, each with the reason.

The key is the file, the function, the line as it is and the line as the mutant has it, so that an entry ends with its line.
"""

from __future__ import annotations

from typing import Final

HUB, TURNS, REPLAY, OUTBOX = "core/hub.py", "core/turns.py", "core/replay.py", "core/outbox.py"
FRAMES = "core/frames.py"
SESSION, TOKENS, OPENING, CLAIMS = "core/session.py", "core/tokens.py", "gateway/opening.py", "gateway/sessions.py"

AS_A_SET: Final = "a dict that is used as an ordered set: nobody reads its values"
ALWAYS_THERE: Final = "a port that follows and is not live is in `behind`: the default is never used"
UNREAD: Final = "what such a function returns is not looked at"
FALSE_EITHER_WAY: Final = "only its truth is asked for, and it is false either way"
FROM_ONE: Final = "a seq begins at 1, so the larger of the two is the same with 0 and with 1"
SAME_BYTES: Final = "the same bytes by another way of making them"
SET_FIRST: Final = "set when a header is opened, before anybody reads it"
DEFAULT_ORDER: Final = "big-endian is the default from Python 3.11 on, which is the oldest that this runs on"
LAST_LOOP: Final = "nothing comes after the loop"
STRICT: Final = "no error handler is the strict one"

_GROUPS: Final[list[tuple[str, str, list[tuple[str, str, str]]]]] = [
    (
        HUB,
        UNREAD,
        [
            (
                "Hub.__init__",
                "self.on_held: Callable[[Stream], None] = lambda stream: None",
                "self.on_held: Callable[[Stream], None] = lambda stream: 0",
            ),
            (
                "Hub.__init__",
                "self.on_let_go: Callable[[Stream], None] = lambda stream: None",
                "self.on_let_go: Callable[[Stream], None] = lambda stream: 0",
            ),
        ],
    ),
    (
        HUB,
        AS_A_SET,
        [
            ("Hub.load", "self.idle[stream] = None", 'self.idle[stream] = ""'),
            ("Hub.subscribe", "stream.live[port] = None", 'stream.live[port] = ""'),
            ("Hub.unsubscribe", "self.idle[stream] = None", 'self.idle[stream] = ""'),
            ("Hub.drop", "stream.behind[port] = None", 'stream.behind[port] = ""'),
            ("Hub._deliver", "self.touring[stream] = None", 'self.touring[stream] = ""'),
            ("Hub._rouse", "self.ready[port] = None", 'self.ready[port] = ""'),
        ],
    ),
    (
        HUB,
        FROM_ONE,
        [
            (
                "Hub.load",
                "stream.ahead[principal] = max(fact.head, stream.ahead.get(principal, 0))",
                "stream.ahead[principal] = max(fact.head, stream.ahead.get(principal, 1))",
            ),
            (
                "Hub.ingest_events",
                "self._unknown_head[event.sid] = max(self._unknown_head.get(event.sid, 0), event.seq)",
                "self._unknown_head[event.sid] = max(self._unknown_head.get(event.sid, 1), event.seq)",
            ),
            (
                "Hub.ingest_events",
                "self._unknown_members[event.sid] = max(self._unknown_members.get(event.sid, 0), event.seq)",
                "self._unknown_members[event.sid] = max(self._unknown_members.get(event.sid, 1), event.seq)",
            ),
            (
                "Hub.note_unknown",
                "self._unknown_head[sid] = max(self._unknown_head.get(sid, 0), seq)",
                "self._unknown_head[sid] = max(self._unknown_head.get(sid, 1), seq)",
            ),
        ],
    ),
    (
        HUB,
        "a value that is not None either way: it only says that the port was not in `live`",
        [
            (
                "Hub.unsubscribe",
                "if stream.live.pop(port, 0) is None:",
                "if stream.live.pop(port, 1) is None:",
            ),
        ],
    ),
    (
        HUB,
        ALWAYS_THERE,
        [("Hub.unsubscribe", "stream.behind.pop(port, None)", "stream.behind.pop(port, )")],
    ),
    (
        HUB,
        "a batch that begins one position earlier is taken alike: what was seen of it is passed over",
        [("Hub.ingest_events", "first_pos = event.pos + 1", "first_pos = event.pos - 1")],
    ),
    (
        TURNS,
        AS_A_SET,
        [
            ("Turns._line_up", "self._in_line[port] = None", 'self._in_line[port] = ""'),
            ("Turns._line_up", "self._in_line[room] = None", 'self._in_line[room] = ""'),
        ],
    ),
    (
        TURNS,
        "a byte more or less: what it is comes on the bill when it was sent",
        [
            (
                "Turns._line_up",
                "self.line.put(next(iter(port.lag)).tenant, 0, port)",
                "self.line.put(next(iter(port.lag)).tenant, 1, port)",
            ),
            (
                "Turns._line_up",
                "self._tours.put(room.tenant, 0, room)",
                "self._tours.put(room.tenant, 1, room)",
            ),
        ],
    ),
    (
        TURNS,
        "any negative number stands for a port that was blocked already",
        [("Turns._blast", "late.append((port, -1))", "late.append((port, -2))")],
    ),
    (
        REPLAY,
        AS_A_SET,
        [
            ("Replay._behind", "stream.behind[port] = None", 'stream.behind[port] = ""'),
            ("Replay._behind", "port.lag[stream] = None", 'port.lag[stream] = ""'),
            (
                "Replay._gather",
                "self.ready[port] = None",
                'self.ready[port] = ""',
            ),
            ("Replay._gather", "stream.live[port] = None", 'stream.live[port] = ""'),
            ("Replay._gather", "self.ready[port] = None", 'self.ready[port] = ""'),
            ("Replay.page", "self.ready[port] = None", 'self.ready[port] = ""'),
            ("Replay.page_failed", "self.ready[port] = None", 'self.ready[port] = ""'),
        ],
    ),
    (REPLAY, FALSE_EITHER_WAY, [("Replay.page", "served = False", "served = None")]),
    (REPLAY, ALWAYS_THERE, [("Replay._gather", "stream.behind.pop(port, None)", "stream.behind.pop(port, )")]),
    (HUB, LAST_LOOP, [("Hub.evict", "break", "return")]),
    (REPLAY, LAST_LOOP, [("Replay._gather", "break", "return")]),
    (
        OUTBOX,
        "compared with a length and then asked for its truth: None does as 0 does",
        [("Outbox._resend", "sent = 0", "sent = None")],
    ),
    (SESSION, FALSE_EITHER_WAY, [("Session.__init__", "self.elsewhere = False", "self.elsewhere = None")]),
    (
        SESSION,
        "read only of a session without a connection, and who takes the connection sets it",
        [("Session.__init__", "self.ended_at_s = NEVER_S", "self.ended_at_s = None")],
    ),
    (
        CLAIMS,
        FALSE_EITHER_WAY,
        [
            ("Claims.__init__", "self._look = False", "self._look = None"),
            ("Claims._ask", "answered[0] = False", "answered[0] = None"),
        ],
    ),
    (
        TOKENS,
        "the claims end with a bracket, whose base64 never ends with X",
        [
            (
                "ResumeKeys.issue",
                'signed = self._prefix + urlsafe_b64encode(packed).rstrip(b"=")',
                'signed = self._prefix + urlsafe_b64encode(packed).rstrip(b"XX=XX")',
            ),
        ],
    ),
    (
        TOKENS,
        "32 bytes leave four bits to the last letter of their base64, and X would take more",
        [
            (
                "_mac",
                'return urlsafe_b64encode(hmac.digest(key, signed, "sha256")).rstrip(b"=")',
                'return urlsafe_b64encode(hmac.digest(key, signed, "sha256")).rstrip(b"XX=XX")',
            ),
        ],
    ),
    (
        TOKENS,
        "the same hash: its name is read without regard to case",
        [
            (
                "_mac",
                'return urlsafe_b64encode(hmac.digest(key, signed, "sha256")).rstrip(b"=")',
                'return urlsafe_b64encode(hmac.digest(key, signed, "SHA256")).rstrip(b"=")',
            ),
        ],
    ),
    (
        FRAMES,
        FALSE_EITHER_WAY,
        [
            (
                "_Partial.__init__",
                'self.head = b""',
                "self.head = None",
            ),
            (
                "_Partial.__init__",
                'self.mask = b""',
                "self.mask = None",
            ),
            (
                "_Partial.__init__",
                "self.message = 0",
                "self.message = None",
            ),
            (
                "_Partial.__init__",
                'self.control = b""',
                "self.control = None",
            ),
            ("FrameReader._feed", 'partial.head = b""', "partial.head = None"),
            ("FrameReader._take", 'partial.control = b""', "partial.control = None"),
            ("FrameReader._take", "partial.message = 0", "partial.message = None"),
        ],
    ),
    (
        FRAMES,
        SET_FIRST,
        [
            ("_Partial.__init__", "self.fin = False", "self.fin = None"),
            ("_Partial.__init__", "self.fin = False", "self.fin = True"),
            (
                "_Partial.__init__",
                "self.left = 0",
                "self.left = None",
            ),
            (
                "_Partial.__init__",
                "self.left = 0",
                "self.left = 1",
            ),
        ],
    ),
    (
        FRAMES,
        'any negative number stands for "between frames"',
        [
            (
                "_Partial.__init__",
                "self.opcode = -1",
                "self.opcode = -2",
            ),
            ("FrameReader._feed", "partial.opcode = -1", "partial.opcode = -2"),
        ],
    ),
    (
        FRAMES,
        "a frame of no bytes that is not final is passed over: the next turn of the loop opens the real one",
        [
            (
                "_Partial.__init__",
                "self.opcode = -1",
                "self.opcode = +1",
            )
        ],
    ),
    (
        FRAMES,
        "letters before the first text are text: they make nothing valid or invalid, and are not part of the message",
        [
            (
                "_Partial.__init__",
                'self.tail = b""',
                'self.tail = b"XXXX"',
            )
        ],
    ),
    (
        FRAMES,
        "1,536 is a multiple of four",
        [("_table", "while len(factors) <= _SMALL_MAX // 4:", "while len(factors) <= _SMALL_MAX / 4:")],
    ),
    (
        FRAMES,
        DEFAULT_ORDER,
        [
            (
                "_table",
                'rows[size] = (b"\\x81\\xfe" + (size - 8).to_bytes(2, "big"), factors[words], 4 * words)',
                'rows[size] = (b"\\x81\\xfe" + (size - 8).to_bytes(2, ), factors[words], 4 * words)',
            ),
            (
                "FrameReader._open",
                'length = _from_bytes(data[at + 2 : at + 10], "big")',
                "length = _from_bytes(data[at + 2 : at + 10], )",
            ),
            (
                "_header",
                'return bytes((0x80 | opcode, mask_bit | 127)) + size.to_bytes(8, "big")',
                "return bytes((0x80 | opcode, mask_bit | 127)) + size.to_bytes(8, )",
            ),
            (
                "close_payload",
                'return code.to_bytes(2, "big") + reason.encode()[:123].decode("utf-8", "ignore").encode()',
                'return code.to_bytes(2, ) + reason.encode()[:123].decode("utf-8", "ignore").encode()',
            ),
        ],
    ),
    (
        FRAMES,
        "a first byte of 0x80 is a continuation: its opcode is no control frame's",
        [
            ("_breach", "if opcode >= CLOSE and first < 0x80:", "if opcode >= CLOSE and first <= 0x80:"),
            ("_breach", "if opcode >= CLOSE and first < 0x80:", "if opcode >= CLOSE and first < 129:"),
        ],
    ),
    (
        FRAMES,
        "no bytes match no row of the table",
        [
            (
                "FrameReader.__init__",
                "self._small_max = 0 if client_side else min(_SMALL_MAX, message_bytes_max + 7)",
                "self._small_max = 1 if client_side else min(_SMALL_MAX, message_bytes_max + 7)",
            )
        ],
    ),
    (
        FRAMES,
        "no frame has 132 or 133 bytes: those rows match nothing",
        [("FrameReader.feed", "if size > 131:", "if size > 132:")],
    ),
    (
        FRAMES,
        "a close that is whole ends the reader, whatever it remembers of messages, and nothing else is read before",
        [("FrameReader._open", "if _CONTINUATION < opcode < CLOSE:", "if _CONTINUATION < opcode <= CLOSE:")],
    ),
    (
        FRAMES,
        "the error was set: `_feed` looks at it before it looks at the number",
        [("FrameReader._fail", "return 0", "return 1")],
    ),
    (
        FRAMES,
        SAME_BYTES,
        [
            ("unmask", "if size < _LANES_MIN:", "if size <= _LANES_MIN:"),
            *(
                ("unmask", 'key = _from_bytes((mask * ((size + 3) >> 2))[:size], "little")', other)
                for other in (
                    'key = _from_bytes((mask * ((size + 3) << 2))[:size], "little")',
                    'key = _from_bytes((mask * ((size + 4) >> 2))[:size], "little")',
                )
            ),
            (
                "FrameReader._take",
                "control = partial.control + chunk if partial.control else chunk",
                "control = partial.control + chunk if (partial.control) or True else chunk",
            ),
            (
                "text_frame",
                "return (_TEXT_HEADS[size] if size < _SMALL_MAX else _header(TEXT, size, 0)) + payload",
                "return (_TEXT_HEADS[size] if (size < _SMALL_MAX) and False else _header(TEXT, size, 0)) + payload",
            ),
            (
                "close_payload",
                'return code.to_bytes(2, "big") + reason.encode()[:123].decode("utf-8", "ignore").encode()',
                'return code.to_bytes(2, "big") + reason.encode()[:123].decode("UTF-8", "ignore").encode()',
            ),
        ],
    ),
    (
        FRAMES,
        "opcode 0 is a continuation, and while one is open so is its message",
        [
            (
                "FrameReader._feed",
                "idle = partial.opcode < 0 and not partial.message and not partial.head",
                f"idle = partial.opcode {other} and not partial.message and not partial.head",
            )
            for other in ("<= 0", "< 1")
        ],
    ),
    (
        FRAMES,
        STRICT,
        [
            (
                "FrameReader._take",
                'used = utf_8_decode(seen, "strict", done)[1]',
                "used = utf_8_decode(seen, None, done)[1]",
            ),
            ("_is_utf8", 'utf_8_decode(text, "strict", True)', "utf_8_decode(text, None, True)"),
        ],
    ),
    (
        OPENING,
        "the next line makes `bad_request` of any word",
        [
            (
                "_position_of",
                'position = parse_position(spec) if isinstance(spec, dict) else "bad_request"',
                f'position = parse_position(spec) if isinstance(spec, dict) else "{word}"',
            )
            for word in ("XXbad_requestXX", "BAD_REQUEST")
        ],
    ),
    (
        OPENING,
        "a cursor just before what is kept is said as `first - 1`, which it is",
        [
            (
                "_welcome",
                "lost = reset is not None or after > max(stream.head, stream.want) or after < stream.first - 1",
                "lost = reset is not None or after > max(stream.head, stream.want) or after <= stream.first - 1",
            ),
        ],
    ),
    (
        OPENING,
        "caught by `_open`, which says its own words",
        [
            ("_prepare", 'raise Unavailable("membership keeps changing while it is read")', "raise Unavailable(None)"),
            (
                "_prepare",
                'raise Unavailable("membership keeps changing while it is read")',
                'raise Unavailable("XXmembership keeps changing while it is readXX")',
            ),
            (
                "_prepare",
                'raise Unavailable("membership keeps changing while it is read")',
                'raise Unavailable("MEMBERSHIP KEEPS CHANGING WHILE IT IS READ")',
            ),
        ],
    ),
]

EQUIVALENT: Final[dict[tuple[str, str, str, str], str]] = {
    (source, function, old, new): reason for source, reason, lines in _GROUPS for function, old, new in lines
}
