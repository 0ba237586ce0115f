"""core.collectors.links: what an app scans leads to the requests that are understood here."""

from __future__ import annotations

from base64 import b64decode
from urllib.parse import parse_qs, urlsplit

import orjson

from core.collectors import osmand
from core.collectors.links import links

SECRET = "0123456789abcdefghjkmnpqrs"


def test_traccar_client_gets_an_address_and_an_id() -> None:
    """It takes the address without its query, and the settings from that."""
    parts = urlsplit(links("https://gateway.example/", "device:truck-7", SECRET).traccar)
    assert (parts.scheme, parts.netloc, parts.path) == ("https", "gateway.example", "/v1/collect/osmand")
    settings = {name: value for name, [value] in parse_qs(parts.query).items()}
    assert settings == {"id": SECRET, "accuracy": "high", "interval": "30", "distance": "30", "buffer": "true"}


def test_owntracks_gets_its_configuration() -> None:
    """As JSON in base64: HTTP mode, and the secret as the password."""
    parts = urlsplit(links("https://gateway.example", "device:truck-7", SECRET).owntracks)
    assert (parts.scheme, parts.path) == ("owntracks", "/config")
    configuration = orjson.loads(b64decode(parse_qs(parts.query)["inline"][0], validate=True))
    assert configuration["_type"] == "configuration"
    assert configuration["mode"] == 3
    assert configuration["url"] == "https://gateway.example/v1/collect/owntracks"
    assert (configuration["username"], configuration["password"]) == ("truck-7", SECRET)
    assert configuration["tid"] == "-7"


def test_osmand_s_address_makes_a_request_that_is_understood() -> None:
    """Once the app has put its values in."""
    typed = links("https://gateway.example", "device:truck-7", SECRET).osmand
    sent = urlsplit(typed.format("-33.9", "151.2", "1795253400000", "5.0", "12.5", "14.2", "87.0"))
    report = osmand.read(sent.query.encode(), b"", 0)
    assert report.secret == SECRET
    [fix] = report.fixes
    assert (fix.at_ms, fix.acc, fix.speed, fix.heading) == (1_795_253_400_000, 5.0, 14.2, 87.0)


def test_links_are_secrets() -> None:
    """And are not printed by mistake."""
    assert SECRET not in repr(links("https://gateway.example", "device:truck-7", SECRET))
