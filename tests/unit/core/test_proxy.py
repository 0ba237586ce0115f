"""core.proxy: whose connection it is, by the PROXY protocol or `Forwarded`, and nothing believed that is not sound."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.addresses import Trusted
from core.proxy import HEADER_BYTES_MAX, HOPS_MAX, SIGNATURE, Malformed, ProxyHeader, Source, crc32c, forwarded_for

V4 = bytes((192, 0, 2, 1, 10, 0, 0, 1)) + (4711).to_bytes(2, "big") + (8400).to_bytes(2, "big")
V6 = bytes.fromhex("20010db8000000000000000000000001" + "00" * 15 + "01") + b"\x12\x67\x20\xd0"
PROXY, LOCAL = 0x21, 0x20


def header(block: bytes, *, command: int = PROXY, family: int = 0x11, size: int | None = None) -> bytes:
    return SIGNATURE + bytes((command, family)) + (len(block) if size is None else size).to_bytes(2, "big") + block


def extra(type: int, value: bytes) -> bytes:
    return bytes((type,)) + len(value).to_bytes(2, "big") + value


def summed(block: bytes, *extras: bytes) -> bytes:
    """With a checksum behind everything else."""
    whole = header(block + b"".join(extras) + extra(0x03, bytes(4)))
    return whole[:-4] + crc32c(whole).to_bytes(4, "big")


def parse(data: bytes) -> Source | Malformed | None:
    parser = ProxyHeader()
    while data:
        size = parser.wanted
        answer = parser.feed(data[:size])
        data = data[size:]
        if answer is not None:
            return answer
    return None


@pytest.mark.parametrize(
    ("data", "source"),
    [
        (header(V4), Source("192.0.2.1", 4711)),
        (header(V6, family=0x21), Source("2001:db8::1", 4711)),
        (header(bytes(10) + b"\xff\xff" + bytes((192, 0, 2, 9)) + V6[16:], family=0x21), Source("192.0.2.9", 4711)),
        (header(b"/run/a.sock".ljust(216, b"\0"), family=0x31), Source("", 0)),
        (header(b"", family=0x00), Source(None, 0)),
        (header(b"", command=LOCAL, family=0x00), Source(None, 0)),
        (header(b"whatever", command=LOCAL, family=0xFF), Source(None, 0)),
        (header(V4 + extra(0x04, bytes(50)) + extra(0xEA, b"")), Source("192.0.2.1", 4711)),
        (summed(V4), Source("192.0.2.1", 4711)),
        (summed(V4, extra(0x02, b"gateway.example")), Source("192.0.2.1", 4711)),
        (header(V4 + extra(0x04, bytes(HEADER_BYTES_MAX - 16 - 12 - 3))), Source("192.0.2.1", 4711)),
    ],
    ids=["IPv4", "IPv6", "IPv4 in IPv6", "unix", "unspecified", "local", "local with anything", "extras", "checksum",
         "checksum over extras", "the longest"],
)  # fmt: skip
def test_a_sound_header_says_whose_connection_it_is(data: bytes, source: Source) -> None:
    """Whole, and byte by byte; it asks for exactly its own bytes."""
    assert parse(data) == source
    parser = ProxyHeader()
    for byte in data[:-1]:
        assert parser.wanted > 0
        assert parser.feed(bytes((byte,))) is None
    assert parser.feed(data[-1:]) == source


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 8400\r\n", "no PROXY protocol v2"),
        (b"GET /v1/ws HTTP/1.1\r\n", "no PROXY protocol v2"),
        (b"\x16\x03\x01\x02\x00\x01", "no PROXY protocol v2"),
        (b"\r\n\r\n\x00\r\nQUIT\r", "no PROXY protocol v2"),
        (header(V4, command=0x11), "version"),
        (header(V4, command=0x22), "command"),
        (header(V4, family=0x41), "family"),
        (header(V4, family=0x12), "stream"),
        (header(b"", family=0x01), "stream"),
        (header(V4[:-1]), "cut short"),
        (header(V4, family=0x21), "cut short"),
        (header(b"", size=0xFFFF), "longer than"),
        (header(V4 + b"\x04"), "cut short"),
        (header(V4 + b"\x04\x00"), "cut short"),
        (header(V4 + b"\x04\x00\x05abcd"), "cut short"),
        (header(V4 + extra(0x03, b"abc")), "checksum"),
        (header(V4 + extra(0x03, b"abcd")), "checksum is wrong"),
        (summed(V4)[:20] + b"\x09" + summed(V4)[21:], "checksum is wrong"),
    ],
)  # fmt: skip
def test_anything_else_is_named(data: bytes, why: str) -> None:
    """The text form, other protocols, other versions, lengths that do not fit, a checksum that does not hold."""
    answer = parse(data)
    assert isinstance(answer, Malformed), answer
    assert why in answer.reason


def test_two_checksums_are_one_too_many() -> None:
    """Which of them would be believed?"""
    whole = summed(V4)
    twice = header(whole[16:] + whole[-7:])
    first = twice[:31] + bytes(4) + twice[35:]
    mended = twice[:31] + crc32c(first).to_bytes(4, "big") + twice[35:]
    answer = parse(mended)
    assert isinstance(answer, Malformed)
    assert "not one of" in answer.reason


def test_it_never_takes_what_is_not_its_own() -> None:
    """Bytes behind the header are for whoever comes next."""
    with pytest.raises(AssertionError):
        ProxyHeader().feed(header(V4) + b"GET")


@given(st.binary(max_size=60), st.integers(0, 30))
@example(b"\x0c", 15)
def test_damage_is_answered_and_never_raises(noise: bytes, at: int) -> None:
    """Whatever bytes stand where. A length that ends before the checksum leaves none to be held against: it is optional."""
    whole = summed(V4)
    damaged = whole[:at] + noise + whole[at + len(noise) :]
    answer = parse(damaged)
    assert answer is None or isinstance(answer, Source | Malformed)
    if isinstance(answer, Source) and damaged[: len(whole)] != whole:
        unsummed = damaged[14:16] != whole[14:16] or damaged[28:31] != whole[28:31]
        assert damaged[12] == LOCAL or answer.address is None or unsummed


def test_the_checksum_is_castagnolis() -> None:
    """The check value that catalogues of checksums give, and those of RFC 3720, appendix B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


TRUSTED = Trusted(["10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize(
    ("said", "address"),
    [
        # RFC 7239, section 4
        ('for="_gazonk"', None),
        ('For="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
        ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
        # through trusted hops
        ("for=192.0.2.43, for=10.0.0.9", "192.0.2.43"),
        ('for=192.0.2.43,for="[fd00::1]:80" , for=10.0.0.9', "192.0.2.43"),
        ("for=10.0.0.8, for=10.0.0.9", "10.0.0.8"),
        ("for=unknown, for=10.0.0.9", "10.0.0.9"),
        ("for=192.0.2.43,, for=10.0.0.9, ", "192.0.2.43"),
        # as proxies write it
        ("for=192.0.2.60:8080", "192.0.2.60"),
        ('for="192.0.2.60:_port"', "192.0.2.60"),
        ("for=2001:db8::1", "2001:db8::1"),
        ('proto=https; for="192.0.2.60" ;', "192.0.2.60"),
        ('host="a, \\"b\\";for=1.1.1.1";for=192.0.2.60', "192.0.2.60"),
        ('for="\\1\\9\\2.0.2.60"', "192.0.2.60"),
        ('for="[::ffff:192.0.2.60]"', "192.0.2.60"),
        # nothing to believe
        ("", None),
        (",", None),
        ("for", None),
        ("for=", None),
        ("proto=https", None),
        ("for=unknown", None),
        ("for=192.0.2.60;for=192.0.2.61", None),
        ("for=192.0.2.60 proto=https", None),
        ('for="192.0.2.60', None),
        ('for="[2001:db8::1"', None),
        ('for="[192.0.2.60]"', None),
        ('for="[2001:db8::1]x"', None),
        ("for=192.0.2.60:99999999", None),
        ("for=192.0.2.999", None),
        ("192.0.2.60", None),
    ],
)
def test_the_nearest_untrusted_address_is_the_clients(said: str, address: str | None) -> None:
    """Read from the right, through proxies that are trusted; what hides its client, or is no element, says nothing."""
    assert forwarded_for(said, TRUSTED) == address


@pytest.mark.parametrize(
    "clients_own",
    ["for=10.0.0.7", 'for="', 'x="a\\', "for=192.0.2.1;", '"', "\\", 'for="\\"', "for=1.1.1.1, for=10.9.9.9"],
)
def test_what_a_client_wrote_itself_changes_nothing(clients_own: str) -> None:
    """A proxy appends; nothing before that is reached, an unclosed quote neither."""
    assert forwarded_for(f"{clients_own}, for=198.51.100.17;proto=https", TRUSTED) == "198.51.100.17"
    assert forwarded_for(f'{clients_own}, for="[2001:db8::9]:1"', TRUSTED) == "2001:db8::9"
    assert forwarded_for(f'{clients_own},for=192.0.2.5;host="x\\\\\\"y", for=10.0.0.1', TRUSTED) == "192.0.2.5"


def test_a_chain_has_an_end() -> None:
    """So many trusted proxies are a loop, or a lie; the farthest within the bound stands."""
    hops = [f"for=10.0.0.{n}" for n in range(100)]
    assert forwarded_for(", ".join(hops), TRUSTED) == f"10.0.0.{100 - HOPS_MAX}"


@given(st.text(alphabet='for=,;"\\ 1.0:[]ab', max_size=80), st.lists(st.integers(0, 80), max_size=3))
def test_no_header_raises(said: str, cuts: list[int]) -> None:
    """Whatever it holds, and the answer is an address or nothing."""
    for start, end in pairwise(sorted({0, *cuts, len(said)})):
        answer = forwarded_for(said[start:end], TRUSTED)
        assert answer is None or answer.replace(".", "").replace(":", "").isalnum()
