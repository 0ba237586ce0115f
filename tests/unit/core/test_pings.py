"""core.pings: fixes become lines of integers, whatever JSON they came in; what has no line is refused in words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import given

from core.jws import b64url
from core.keys import SigningKey
from core.pings import FIXES_MAX, Fix, read_fixes, read_nav, signed_form

FIX: dict[str, Any] = {
    "seq": 41,
    "at": "2026-11-21T09:30:00.123Z",
    "lat": -33.9,
    "lon": 151.2,
    "acc": 5,
    "speed": 14.2,
    "heading": 87,
    "alt": None,
    "mock": False,
}
LINE = b"41,1795253400123,-339000000,1512000000,500,1420,8700,,0"


def line_of(**fields: Any) -> Fix:
    found = read_fixes([{**FIX, **fields}])
    assert isinstance(found, list), found
    [fix] = found
    return fix


def test_a_fix_is_one_line_of_integers() -> None:
    """Degrees in units of 10^-7, the rest in hundredths, time in milliseconds, nothing where there is nothing; its
    numbers are those of the line."""
    assert line_of() == Fix(41, 1_795_253_400_123, LINE, True, -33.9, 151.2, 5.0, 14.2, 87.0, None, False)
    assert line_of(mock=True, alt=-12.34).line == LINE[:-2] + b"-1234,1"
    least = read_fixes([{"seq": 1, "at": "1970-01-01T00:00:00Z", "lat": 0, "lon": -0.0}])
    assert least == [Fix(1, 0, b"1,0,0,0,,,,,0", True, 0.0, 0.0)]


@pytest.mark.parametrize(
    ("at", "ms"), [("00.5Z", 500), ("00.05Z", 50), ("00Z", 0), ("00.000Z", 0), ("59.999Z", 59_999)]
)
def test_a_time_may_have_fewer_decimals(at: str, ms: int) -> None:
    """It is the time that is signed, not its spelling."""
    assert line_of(at=f"1970-01-01T00:00:{at}").at_ms == ms


@pytest.mark.parametrize(("lat", "same"), [(5, 5.0), (-0.0, 0), (0.1 + 0.2, 0.3), (12.3456789, 12.34567890)])
def test_two_spellings_of_a_number_are_one_line(lat: float, same: float) -> None:
    """Whoever writes the JSON anew on the way changes nothing."""
    assert line_of(lat=lat) == line_of(lat=same)


@given(st.integers(-900_000_000, 900_000_000), st.integers(-1_800_000_000, 1_800_000_000), st.integers(0, 10**8))
def test_every_number_of_the_allowed_decimals_comes_through_json(lat: int, lon: int, acc: int) -> None:
    """The integer that a device wrote as a decimal is the integer that is signed, also after another parser's hands."""
    sent = b'[{"seq":1,"at":"2026-01-01T00:00:00Z","lat":%b,"lon":%b,"acc":%b}]'
    text = sent % tuple(f"{units / 10**places:.{places}f}".encode() for units, places in ((lat, 7), (lon, 7), (acc, 2)))
    for fixes in (orjson.loads(text), orjson.loads(orjson.dumps(orjson.loads(text)))):
        found = read_fixes(fixes)
        assert isinstance(found, list)
        assert found[0].line == b"1,1767225600000,%d,%d,%d,,,,0" % (lat, lon, acc)
        assert found[0].good


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("lat", (90.1, -91, 999)),
        ("lon", (180.5, -181)),
        ("acc", (-1, 2e6)),
        ("speed", (-0.01, 2_001)),
        ("heading", (-1, 360.01)),
        ("alt", (-1_001, 200_000)),
    ],
)
def test_what_cannot_be_true_spoils_its_fix_alone(field: str, values: tuple[float, ...]) -> None:
    """It has a line, so that the others' signature holds, and is marked."""
    for value in values:
        found = read_fixes([FIX, {**FIX, field: value}])
        assert isinstance(found, list)
        assert [fix.good for fix in found] == [True, False]


@pytest.mark.parametrize(
    ("fix", "where"),
    [
        (None, "fixes[1]: an object"),
        ([], "fixes[1]: an object"),
        ({**FIX, "seq": 0}, "fixes[1].seq"),
        ({**FIX, "seq": True}, "fixes[1].seq"),
        ({**FIX, "seq": 1.0}, "fixes[1].seq"),
        ({**FIX, "seq": 2**53}, "fixes[1].seq"),
        ({**FIX, "at": None}, "fixes[1].at"),
        ({**FIX, "at": 0}, "fixes[1].at"),
        ({**FIX, "at": "2026-02-30T00:00:00Z"}, "fixes[1].at"),
        ({**FIX, "at": "2026-02-01T00:00:00+00:00"}, "fixes[1].at"),
        ({**FIX, "at": "2026-02-01T00:00:00Z\n"}, "fixes[1].at"),
        ({**FIX, "at": "२०२६-02-01T00:00:00Z"}, "fixes[1].at"),
        ({**FIX, "mock": 1}, "fixes[1].mock"),
        ({**FIX, "mock": None}, "fixes[1].mock"),
        ({**FIX, "lat": None}, "fixes[1].lat"),
        ({**FIX, "lat": "1"}, "fixes[1].lat"),
        ({**FIX, "lat": True}, "fixes[1].lat"),
        ({**FIX, "lat": 1e300}, "fixes[1].lat"),
        ({**FIX, "lon": float("nan")}, "fixes[1].lon"),
        ({**FIX, "lon": 2**200}, "fixes[1].lon"),
        ({**FIX, "lon": 1.00000001}, "fixes[1].lon"),
        ({**FIX, "acc": 5.001}, "fixes[1].acc"),
        ({**FIX, "alt": []}, "fixes[1].alt"),
    ],
)
def test_what_has_no_line_refuses_the_message_and_says_where(fix: object, where: str) -> None:
    """Nobody could tell what was signed."""
    found = read_fixes([FIX, fix])
    assert isinstance(found, str)
    assert found.startswith(where)


@pytest.mark.parametrize("fixes", [None, {}, [], "x", 7, [FIX] * (FIXES_MAX + 1)])
def test_a_message_has_some_fixes_and_not_too_many(fixes: object) -> None:
    """1 to 500, in a list."""
    assert read_fixes(fixes) == f"fixes: a list of 1 to {FIXES_MAX}"
    assert len(read_fixes([FIX] * FIXES_MAX)) == FIXES_MAX


def test_what_is_signed_names_tenant_device_stream_and_every_fix_in_order() -> None:
    """As docs/protocol.md shows it, byte by byte."""
    fixes = [line_of(), line_of(seq=42)]
    signed = signed_form("acme", "device:truck-7", "trip:9", fixes)
    assert signed == b"readback.position.v1\nacme\ndevice:truck-7\ntrip:9\n" + LINE + b"\n42" + LINE[2:] + b"\n"
    assert signed != signed_form("acme", "device:truck-7", "trip:9", fixes[::-1])


def test_the_page_for_makers_shows_what_is_signed() -> None:
    """The worked example of docs/devices.md: its fixes are signed as its lines, and its signature is its key's."""
    text = (Path(__file__).parents[3] / "docs" / "devices.md").read_text("utf-8")
    [fixes] = re.findall(r"^```json\n(\[.+?)^```$", text, re.DOTALL | re.MULTILINE)
    [lines] = re.findall(r"^```text\n(readback\..+?)^```$", text, re.DOTALL | re.MULTILINE)
    found = read_fixes(orjson.loads(fixes))
    assert isinstance(found, list)
    signed = signed_form("demo", "device:truck-7", "trip:9", found)
    assert signed == lines.encode()
    key = SigningKey("device", bytes(range(32)))
    for shown in (key.jwk["x"], key.thumbprint, b64url(key.sign(signed))):
        assert f"`{shown}`" in text


def test_what_its_own_navigation_says_is_signed_with_the_fixes() -> None:
    """One line more, where it says something; without it the signed form is as ever."""
    fixes = [line_of()]
    plain = signed_form("acme", "device:truck-7", "trip:9", fixes)
    said = read_nav({"at": "2026-11-21T10:00:00Z", "by": "somebody's navigator"})
    assert said == 1_795_255_200_000
    assert isinstance(said, int)
    assert signed_form("acme", "device:truck-7", "trip:9", fixes, said) == plain + b"nav,1795255200000\n"


@pytest.mark.parametrize("nav", ["soon", {}, {"at": 5}, {"at": "soon"}, [], True])
def test_navigation_that_says_no_time_is_a_mistake(nav: object) -> None:
    """Said in words; none at all is none."""
    assert isinstance(read_nav(nav), str)
    assert read_nav(None) is None
