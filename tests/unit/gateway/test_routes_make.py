"""gateway.routes.make: the setting `routes`, and what it may not say."""

from __future__ import annotations

import pytest

from gateway.routes.google import URL
from gateway.routes.make import PROVIDERS_MAX, make_providers, read_routes
from gateway.routes.wire import Wire


def test_a_setting_is_read() -> None:
    """In its order, with modes where they are named."""
    named = read_routes(
        "osrm=https://osrm.internal/car/, osrm:bike+foot=http://10.0.0.7:5000,valhalla=https://v, google,"
    )
    assert [(each.name, each.kind, each.url) for each in named] == [
        ("osrm", "osrm", "https://osrm.internal/car/"),
        ("osrm:bike+foot", "osrm", "http://10.0.0.7:5000"),
        ("valhalla", "valhalla", "https://v"),
        ("google", "google", URL),
    ]
    assert named[0].modes == {"car", "bus", "truck", "any"}
    assert named[1].modes == {"bike", "foot"}
    assert read_routes("google=http://127.0.0.1:8080")[0].url == "http://127.0.0.1:8080"
    assert read_routes("") == ()


MANY = ("car", "bus", "truck", "any", "bike", "foot", "car+bus", "car+any", "bus+any")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("graphhopper=https://x", "osrm, valhalla or google"),
        ("osrm", "needs an address"),
        ("osrm=", "needs an address"),
        ("osrm=ftp://x", "needs an address"),
        ("osrm=https://", "needs an address"),
        ("osrm=https://me:secret@x", "needs an address"),
        ("valhalla=https://x?api_key=secret", "needs an address"),
        ("valhalla=https://x:99999999", "needs an address"),
        ("valhalla=https://[::1", "needs an address"),
        ("osrm:ship=https://x", "osrm serves the modes any+bike+bus+car+foot+truck"),
        ("osrm:=https://x", "osrm serves the modes"),
        ("osrm:car+car=https://x", "osrm serves the modes"),
        ("google:car", "google stands alone"),
        ("google=secret", "google stands alone"),
        ("google=", "google stands alone"),
        ("google,google", "google is named twice"),
        (
            ",".join(f"osrm:{m}=https://x" for m in MANY),
            "at most 8",
        ),
    ],
)
def test_settings_that_cannot_be(text: str, says: str) -> None:
    """One sentence, which does not hold what may be a secret."""
    assert PROVIDERS_MAX == 8
    with pytest.raises(ValueError) as caught:
        read_routes(text)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_providers_are_made() -> None:
    """Under their names, Google with its key alone."""
    wire = Wire(lambda: 0.0, 2.0)
    named = read_routes("osrm=https://a,valhalla:truck=https://b,google")
    made = make_providers(named, "AIzaKey", wire)
    assert [(each.name, each.shareable, len(each.modes)) for each in made] == [
        ("osrm", True, 4),
        ("valhalla:truck", True, 1),
        ("google", False, 6),
    ]
    assert make_providers(named[:1], "", wire)[0].name == "osrm"
    for key, says in (
        ("", "needs `google_routes_key`"),
        ("a b", "is no API key"),
        ("a\n", "is no API key"),
        ("ä", "is no API key"),
    ):
        with pytest.raises(ValueError, match=says):
            make_providers(named, key, wire)
    await wire.aclose()
