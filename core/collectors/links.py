"""What is typed or scanned into an app so that it sends here.

For: whoever shows an app's key, the one time that it is shown. Everything here holds the secret. Traccar Client takes an
address and a device id, or scans a link whose query names its settings; OwnTracks scans a link with its configuration as
JSON in base64; OsmAnd is given one address, into which it puts its values. Does not: draw.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlencode

import orjson

OSMAND_PATH: Final = "/v1/collect/osmand"
OWNTRACKS_PATH: Final = "/v1/collect/owntracks"
INTERVAL_S: Final = 30
DISTANCE_M: Final = 30
"""What the apps are set to: nobody's arrival needs more, and they cannot be told `next_in`."""
HTTP_MODE: Final = 3
"""OwnTracks' number for it."""
MOVE_MODE: Final = 2
"""Likewise, for reporting all along the way."""


@dataclass(frozen=True, slots=True)
class Links:
    """``traccar`` and ``owntracks`` are for a QR code, ``osmand`` is typed in."""

    traccar: str = field(repr=False)
    owntracks: str = field(repr=False)
    osmand: str = field(repr=False)


def links(base_url: str, device: str, secret: str) -> Links:
    """``base_url``: where apps reach the HTTP API, as ``https://gateway.example``; ``device``: the principal's."""
    name = device.partition(":")[2]
    server = base_url.rstrip("/") + OSMAND_PATH
    settings = {"id": secret, "accuracy": "high", "interval": INTERVAL_S, "distance": DISTANCE_M, "buffer": "true"}
    configuration = {
        "_type": "configuration",
        "mode": HTTP_MODE,
        "url": base_url.rstrip("/") + OWNTRACKS_PATH,
        "auth": True,
        "username": name,
        "password": secret,
        "deviceId": name,
        "tid": name[-2:],
        "monitoring": MOVE_MODE,
        "locatorInterval": INTERVAL_S,
        "locatorDisplacement": DISTANCE_M,
    }
    inline = quote(b64encode(orjson.dumps(configuration)).decode(), safe="")
    # OsmAnd says metres per second, and its {3} is the accuracy in metres, whatever others call it.
    return Links(
        f"{server}?{urlencode(settings)}",
        f"owntracks:///config?inline={inline}",
        f"{server}?id={quote(secret, safe='')}"
        "&lat={0}&lon={1}&timestamp={2}&accuracy={3}&altitude={4}&speed_mps={5}&bearing={6}",
    )
