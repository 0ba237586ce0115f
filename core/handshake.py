"""The opening handshake of a WebSocket (RFC 6455 section 4.2), sans-I/O: request bytes in, an upgrade or a refusal out.

A `Handshake` takes whatever a socket gave until the request head is complete, and answers once: `Upgrade` with the
response to send and the bytes that came after the head (they belong to the `FrameReader`: a client may pipeline), or
`Refusal` with a complete HTTP response after which the connection closes. It promises that nothing but one plain
HTTP/1.1 upgrade request passes, that every refusal says what to change, and that memory is bounded by
``head_bytes_max``. What cannot become a request (a TLS ClientHello, binary noise, a bare line feed) is refused at the
byte that shows it, not at a time-out.

It does not: time the peer, decide on tokens (``authorization`` is handed on as it came), or speak HTTP otherwise:
the HTTP API has a port of its own.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from hashlib import sha1
from math import ceil, isfinite
from typing import NamedTuple
from urllib.parse import parse_qsl

PATH = "/v1/ws"
SUBPROTOCOL = "readback.v1"
HEADERS_MAX = 64

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NOT_IN_HEAD = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n)")
_REQUEST_LINE = re.compile(rb"([A-Z][!#$%&'*+.^_`|~0-9A-Za-z-]*) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])\Z")
# Possessive, so that no input makes it go back: one pass over the head whatever the bytes.
_FIELDS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+\Z")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==\Z")  # 16 bytes in base64 (section 4.1, item 7)
_ABSOLUTE = re.compile(rb"https?://[^/?#]+", re.IGNORECASE)

_SINGLE = frozenset((b"host", b"sec-websocket-key", b"sec-websocket-version", b"origin", b"authorization"))
_LISTS = frozenset((b"upgrade", b"connection", b"sec-websocket-protocol", b"forwarded"))
_BODIES = frozenset((b"content-length", b"transfer-encoding"))
_WANTED = _SINGLE | _LISTS | _BODIES

_SECRETS = frozenset(("token", "access_token"))

_REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    426: "Upgrade Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


class Upgrade(NamedTuple):
    """An accepted request. Header values are as they came, without the white space around them."""

    path: str  # without the query
    host: str
    authorization: str | None
    origin: str | None
    offered: tuple[str, ...]  # subprotocols, in the client's order
    subprotocol: str | None  # the one chosen
    key: str
    forwarded: str | None  # several joined by commas; to be believed of trusted peers alone (core.proxy)
    response: bytes  # to send before anything else
    rest: bytes  # what came after the head: for the FrameReader


class Refusal(NamedTuple):
    """A refused request: send ``response``, then close."""

    status: int
    response: bytes


class Handshake:
    """One connection's opening. ``allowed_origins`` holds serialized origins in lower case (``https://app.example``);
    ``None`` allows every one. A request without Origin is not from a browser and passes either way."""

    __slots__ = ("_allowed_origins", "_head", "_head_bytes_max", "_path")

    def __init__(self, head_bytes_max: int, *, allowed_origins: frozenset[str] | None = None, path: str = PATH) -> None:
        self._head_bytes_max = head_bytes_max
        self._allowed_origins = allowed_origins
        self._path = path.encode("ascii")
        self._head: bytearray | None = None

    def feed(self, data: bytes) -> Upgrade | Refusal | None:
        """Take bytes; ``None`` asks for more. Not to be called again after another answer."""
        head = self._head
        if head is None:
            end = data.find(b"\r\n\r\n", 0, self._head_bytes_max)
            if end >= 0:
                return self._decide(data[: end + 2], data[end + 4 :])
            return self._wait(bytearray(data), 0)
        old = len(head)
        head += data
        end = head.find(b"\r\n\r\n", max(0, old - 3), self._head_bytes_max)
        if end >= 0:
            self._head = None
            return self._decide(bytes(head[: end + 2]), bytes(head[end + 4 :]))
        return self._wait(head, old)

    def _wait(self, head: bytearray, old: int) -> Refusal | None:
        """Keep an incomplete head, unless it can become no request any more."""
        if head and not _begins(head):
            return _refuse(400, _OTHER_PROTOCOL)
        # A carriage return at the very end may still get its line feed.
        ended = len(head) - head.endswith(b"\r")
        if _NOT_IN_HEAD.search(head, max(0, old - 1), ended):
            return _refuse(400, _BYTES)
        line_end = head.find(b"\r\n")
        if line_end >= max(0, old - 1) and _REQUEST_LINE.match(head[:line_end]) is None:  # it has just become whole
            return _refuse(400, _LINE)
        if len(head) >= self._head_bytes_max:
            return _refuse(431, f"The request head may hold at most {self._head_bytes_max} bytes.")
        self._head = head
        return None

    def _decide(self, head: bytes, rest: bytes) -> Upgrade | Refusal:
        line, _, block = head.partition(b"\r\n")
        request = _REQUEST_LINE.match(line)
        if request is None:
            if not _begins(head):
                return _refuse(400, _OTHER_PROTOCOL)
            if _NOT_IN_HEAD.search(line):
                return _refuse(400, _BYTES)
            return _refuse(400, _LINE)
        method, target, major, minor = request.groups()
        if major != b"1" or minor == b"0":
            return _refuse(505, "A WebSocket opens with HTTP/1.1.")
        if _FIELDS.match(block) is None:
            return _refuse(400, _why_not(block))
        fields: dict[bytes, bytes] = {}
        lines = block.split(b"\r\n")
        if len(lines) > HEADERS_MAX + 1:
            return _refuse(431, f"A request may have at most {HEADERS_MAX} header fields.")
        for line in lines:
            name, _, value = line.partition(b":")
            name = name.lower()
            if name in _WANTED:
                value = value.strip(b" \t")
                if name in fields:
                    if name not in _LISTS:
                        return _refuse(400, f"{_title(name)} may be given once.")
                    value = fields[name] + b"," + value
                fields[name] = value
        if not fields.get(b"host"):
            return _refuse(400, "Host is missing.")
        if b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0":
            return _refuse(400, "An upgrade request has no body: leave out Content-Length and Transfer-Encoding.")
        path = target
        if target != self._path:
            if target[:1] != b"/":  # absolute-form, which a server must accept (RFC 9112 section 3.2.2)
                target = _ABSOLUTE.sub(b"", target, count=1)
            path, _, query = target.partition(b"?")
            if path != self._path:
                return _refuse(
                    404,
                    f"There is only {self._path.decode()} on this port, for WebSockets."
                    " The HTTP API has its own port (8401 unless configured), under /v1/.",
                )
            if query and _has_secret(query):
                return _refuse(
                    400,
                    "A token in the URL ends up in logs: send it as 'Authorization: Bearer ...' or in the hello frame.",
                )
        if method != b"GET":
            return _refuse(405, "A WebSocket opens with GET.", b"Allow: GET\r\n")
        return self._upgrade(path, fields, rest)

    def _upgrade(self, path: bytes, fields: dict[bytes, bytes], rest: bytes) -> Upgrade | Refusal:
        upgrade = fields.get(b"upgrade", b"")
        connection = fields.get(b"connection", b"")
        if upgrade != b"websocket" and b"websocket" not in _tokens(upgrade.lower()):
            return _refuse(426, "This is a WebSocket endpoint: send 'Upgrade: websocket'.", _UPGRADE, b"upgrade, close")
        if connection != b"Upgrade" and b"upgrade" not in _tokens(connection.lower()):
            return _refuse(400, "Connection does not name upgrade; a proxy on the way may have removed it.")
        if fields.get(b"sec-websocket-version") != b"13":
            return _refuse(426, "Sec-WebSocket-Version must be 13.", _UPGRADE, b"upgrade, close")
        key = fields.get(b"sec-websocket-key")
        if key is None or _KEY.match(key) is None:
            return _refuse(400, "Sec-WebSocket-Key must be 16 bytes in base64.")
        origin = fields.get(b"origin")
        if (
            origin is not None
            and self._allowed_origins is not None
            and origin.decode("latin-1").lower() not in self._allowed_origins
        ):
            return _refuse(403, "This origin is not on the gateway's list of allowed origins.")
        offered: tuple[str, ...] = ()
        chosen = None
        protocol_line = b""
        if b"sec-websocket-protocol" in fields:
            names = _tokens(fields[b"sec-websocket-protocol"])
            if not all(map(_TOKEN.match, names)):
                return _refuse(400, "Sec-WebSocket-Protocol must be a list of tokens.")
            offered = tuple(name.decode("ascii") for name in names)
            if SUBPROTOCOL in offered:
                chosen = SUBPROTOCOL
                protocol_line = _PROTOCOL_LINE
        accept = b2a_base64(sha1(key + _GUID, usedforsecurity=False).digest(), newline=False)
        authorization, forwarded = fields.get(b"authorization"), fields.get(b"forwarded")
        return Upgrade(
            path.decode("ascii"),
            fields[b"host"].decode("latin-1"),
            None if authorization is None else authorization.decode("latin-1"),
            None if origin is None else origin.decode("latin-1"),
            offered,
            chosen,
            key.decode("ascii"),
            None if forwarded is None else forwarded.decode("latin-1"),
            b"".join((_SWITCHING, accept, protocol_line, b"\r\n\r\n")),
            rest,
        )


_SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
_PROTOCOL_LINE = b"\r\nSec-WebSocket-Protocol: " + SUBPROTOCOL.encode("ascii")
_UPGRADE = b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
_OTHER_PROTOCOL = "This port speaks HTTP/1.1 without TLS: connect with ws://, or through the TLS proxy."
_LINE = "The first line is not an HTTP request line (METHOD target HTTP/1.1)."
_BYTES = "The request head has a control character, or a line that does not end in CR LF."


def unavailable(retry_after_s: float) -> bytes:
    """A complete 503 response, for a node that takes no connection now. Whole seconds, at least 1."""
    return _refuse(503, "Come back later: see Retry-After.", _retry_after(retry_after_s)).response


def too_many(retry_after_s: float) -> bytes:
    """A complete 429 response, for an address that comes, or guesses tokens, too often. Whole seconds, at least 1."""
    detail = "Too many connections, or too many wrong tokens, from this address: see Retry-After."
    return _refuse(429, detail, _retry_after(retry_after_s)).response


def tls_wanted() -> bytes:
    """A complete 400 response in plain text, for a request without TLS where that is spoken."""
    return _refuse(400, "This port speaks TLS: connect with wss:// (or https://).").response


def proxy_wanted() -> bytes:
    """A complete 400 response, for a trusted proxy that does not begin with its header."""
    return _refuse(400, "A connection from this address must begin with a PROXY protocol v2 header.").response


def _retry_after(wait_s: float) -> bytes:
    return b"Retry-After: %d\r\n" % (max(1, ceil(wait_s)) if isfinite(wait_s) else 1)


def _refuse(status: int, detail: str, extra: bytes = b"", connection: bytes = b"close") -> Refusal:
    """``detail`` is our own sentence: nothing of the request is repeated in it."""
    body = detail.encode() + b"\n"
    response = (
        b"HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: %s\r\n%s\r\n"
        % (status, _REASONS[status].encode("ascii"), len(body), connection, extra)
    )
    return Refusal(status, response + body)


def _begins(head: bytes | bytearray) -> bool:
    """Whether a request may begin like this: no method in use begins but with a capital; TLS begins with 0x16."""
    return 0x41 <= head[0] <= 0x5A


def _tokens(value: bytes) -> list[bytes]:
    """The elements of a comma-separated list; empty ones do not count (RFC 9110 section 5.6.1)."""
    return [token for part in value.split(b",") if (token := part.strip(b" \t"))]


def _title(name: bytes) -> str:
    return name.decode("ascii").title().replace("Websocket", "WebSocket")


def _why_not(block: bytes) -> str:
    """The sentence for a block of header fields that `_FIELDS` did not match."""
    if _NOT_IN_HEAD.search(block):
        return _BYTES
    if block.startswith((b" ", b"\t")) or b"\r\n " in block or b"\r\n\t" in block:
        return "A header field may not go on over several lines (obs-fold)."
    return "A header line is not 'Name: value', with no white space before the colon."


def _has_secret(query: bytes) -> bool:
    """Whether a query carries a token, however its name is spelled."""
    pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=None)
    return any(name.strip().lower() in _SECRETS for name, _ in pairs)
