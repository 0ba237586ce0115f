"""For whom a proxy speaks: the PROXY protocol's binary header (version 2), and ``Forwarded`` (RFC 7239). Sans-I/O.

`ProxyHeader` takes the first bytes of a connection and answers once, with whose connection it is or with what is wrong.
It asks for no byte beyond the header (`wanted`), so that what follows is left where it was, for TLS or HTTP. The text
form (version 1) is not accepted: a header that begins like HTTP is one more way to smuggle.

`forwarded_for` reads the header from its right end, where the nearest proxy wrote. What a client put to the left of that
cannot be told from the truth, and is never reached: neither by saying that it is a proxy, nor with an unclosed quote.

Both are for bytes of trusted peers alone; who is trusted, the caller knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from core.addresses import Trusted, canonical

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
HEADER_BYTES_MAX: Final = 2_048
"""Addresses take 232 bytes at most; the rest is for what proxies add, of which we read the checksum only."""
HOPS_MAX: Final = 16
"""Trusted proxies behind one another, from where the chain is taken to be a loop."""

_FIXED: Final = 16
_ADDRESS_BYTES: Final = {0: 0, 1: 12, 2: 36, 3: 216}
"""By address family: both addresses and, but for unix sockets, both ports."""
_CRC32C: Final = 0x03


class Source(NamedTuple):
    """``address`` is the client's, canonical; empty for a unix socket; ``None`` where the proxy speaks for itself (a health
    check) or does not know. ``port`` is 0 where there is none."""

    address: str | None
    port: int


class Malformed(NamedTuple):
    """Not the header that was asked for: ``reason`` is for the log."""

    reason: str


class ProxyHeader:
    """One connection's header (haproxy.org, proxy-protocol.txt, section 2.2)."""

    __slots__ = ("_data", "wanted")

    def __init__(self) -> None:
        self._data = b""
        self.wanted = _FIXED
        """How many bytes to read next, at most."""

    def feed(self, data: bytes) -> Source | Malformed | None:
        """Take up to `wanted` bytes; ``None`` asks for more. Not to be called again after another answer."""
        assert len(data) <= self.wanted, "these bytes belong to somebody else"
        data = self._data = self._data + data
        if data[: len(SIGNATURE)] != SIGNATURE[: len(data)]:
            return Malformed("no PROXY protocol v2 header")
        if len(data) < _FIXED:
            self.wanted = _FIXED - len(data)
            return None
        size = _FIXED + int.from_bytes(data[14:16], "big")
        if size > HEADER_BYTES_MAX:
            return Malformed(f"its header is longer than {HEADER_BYTES_MAX} bytes")
        self.wanted = size - len(data)
        return None if self.wanted else _source(data)


def _source(data: bytes) -> Source | Malformed:
    """Of a whole header."""
    version, command = data[12] >> 4, data[12] & 15
    family, transport = data[13] >> 4, data[13] & 15
    if version != 2:
        return Malformed("its version is not 2")
    if command == 0:  # LOCAL: the rest says nothing, and may be anything
        return Source(None, 0)
    if command != 1:
        return Malformed("its command is neither LOCAL nor PROXY")
    if family not in _ADDRESS_BYTES:
        return Malformed("its address family is none of unspecified, IPv4, IPv6, unix")
    if transport != (1 if family else 0):
        return Malformed("it is not of a stream")
    block = data[_FIXED : _FIXED + _ADDRESS_BYTES[family]]
    if len(block) < _ADDRESS_BYTES[family]:
        return Malformed("its addresses are cut short")
    wrong = _check_extras(data, _FIXED + len(block))
    if wrong is not None:
        return wrong
    if family == 1:
        return Source(str(IPv4Address(block[:4])), int.from_bytes(block[8:10], "big"))
    if family == 2:
        return Source(canonical(str(IPv6Address(block[:16]))), int.from_bytes(block[32:34], "big"))
    return Source("" if family else None, 0)


def _check_extras(data: bytes, at: int) -> Malformed | None:
    """What follows the addresses: type, length, value, up to the very end. Only a checksum means anything here."""
    checked = False
    while at < len(data):
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3], "big")
        if at + 3 > len(data) or end > len(data):
            return Malformed("what follows its addresses is cut short")
        if data[at] == _CRC32C:
            if checked or end - at != 7:
                return Malformed("its checksum is not one of 4 bytes")
            checked = True
            value = data[at + 3 : end]
            if crc32c(data[: at + 3] + bytes(4) + data[end:]).to_bytes(4, "big") != value:
                return Malformed("its checksum is wrong")
        at = end
    return None


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC_TABLE: Final = _table()


def crc32c(data: bytes) -> int:
    """CRC-32 by Castagnoli's polynomial (RFC 3385), reflected."""
    crc, table = 0xFFFFFFFF, _CRC_TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


# Possessive, so that no input makes it go back. Values without quotes are taken more widely than RFC 7239 has tokens: proxies
# write addresses with ports into them.
_PAIR: Final = r"""([!#$%&'*+.^_`|~0-9A-Za-z-]++)=("(?:[^"\\]|\\.)*+"|[^\s";,]++)"""
_FIRST: Final = re.compile(rf"[ \t]*+{_PAIR}[ \t]*+")
_NEXT: Final = re.compile(rf";[ \t]*+(?:{_PAIR}[ \t]*+)?+")
_ESCAPED: Final = re.compile(r"\\(.)")


def forwarded_for(header: str, trusted: Trusted) -> str | None:
    """Of a ``Forwarded`` header (several joined by commas, in order) that a trusted peer sent: the nearest address that is
    not itself ``trusted``; the farthest that was said, where all those are. ``None`` where not even the peer said one: its
    element has no ``for``, or one that hides whom (``unknown``, ``_name``), or is something else.
    """
    found = None
    for hop, element in enumerate(_from_the_right(header)):
        address = _for(element) if hop < HOPS_MAX else None
        if address is None:
            break
        found = address
        if address not in trusted:
            break
    return found


def _from_the_right(header: str) -> Iterator[str]:
    """The elements, last first. Commas count outside of quotes, which are counted from the right too: a quote that was
    left open further left has then no say about what was written after it."""
    end, quoted = len(header), False
    for at in range(len(header) - 1, -1, -1):
        char = header[at]
        if char == '"' and not (quoted and _is_escaped(header, at)):
            quoted = not quoted
        elif char == "," and not quoted:
            if header[at + 1 : end].strip():
                yield header[at + 1 : end]
            end = at
    yield header[:end]


def _is_escaped(header: str, at: int) -> bool:
    before = at
    while before and header[before - 1] == "\\":
        before -= 1
    return (at - before) % 2 == 1


def _for(element: str) -> str | None:
    """The address in one element, canonical."""
    value = None
    match = _FIRST.match(element)
    while match is not None:
        if match[1] is not None and match[1].lower() == "for":
            if value is not None:
                return None
            value = match[2]
        if match.end() == len(element):
            break
        match = _NEXT.match(element, match.end())
    if match is None or value is None:
        return None
    if value.startswith('"'):
        value = _ESCAPED.sub(r"\1", value[1:-1])
    if value.startswith("["):
        inner, bracket, port = value[1:].partition("]")
        sound = bracket and ":" in inner and (not port or _PORT.fullmatch(port))
        return canonical(inner) if sound else None
    host, colon, port = value.partition(":")
    if colon and _PORT.fullmatch(colon + port):
        value = host
    return canonical(value)


_PORT: Final = re.compile(r":(?:[0-9]{1,5}|_[A-Za-z0-9._-]+)")
