"""No token leaves the node but to whom it was given: not in a log line, a problem document, an error or a metric.

A real `readback serve` at log level debug, whose stderr is kept, is brought tokens in every way: good and bad, where they
belong and where they do not, over WebSocket and HTTP, through error paths. Then everything it said is searched for any 20
characters of any of them.
"""

from __future__ import annotations

import signal
import string
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.hostile.peer import Frame, connected, request, text
from tests.nodes import token, until
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.serving import KEYS, Serving, serving
from tests.wire_client import hello

PIECE = 20
LAST = 999
KEY = "0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11"


def pieces_told(words: str, markers: list[str]) -> list[str]:
    """Every piece of a marker that is somewhere in these words; headers of JWTs are alike and say nothing, so they do not
    count."""
    found = []
    for marker in markers:
        secret = marker.partition(".")[2] if marker.startswith("eyJ") else marker
        found += [secret[at : at + PIECE] for at in range(len(secret) - PIECE + 1) if secret[at : at + PIECE] in words]
    return found


def bad_tokens() -> list[str]:
    """Of another key, altered, expired, cut, no token at all, of another algorithm, and very long."""
    good = token("user:mallory", roles=["admin"])
    head, claims, signature = good.split(".")
    return [
        f"{head}.{claims}.{signature[::-1]}",
        f"{head}.{claims[::-1]}.{signature}",
        token("user:expired", ttl_s=-3_600),
        token("user:elsewhere", tenant="other-tenant-of-mallory"),
        good[:-5],
        "no-token-but-a-secret-4711-" + string.ascii_letters,
        f"eyJhbGciOiJub25lIn0.{claims}.",
        "9" * 5 + "Zz8Yy7Xx6Ww5Vv4Uu3Tt2Ss1Rr0Qq" * 300,
    ]


class Told:
    """What the node said to somebody, but for the welcome, which brings a resume token to whom it belongs."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.resume_tokens: list[str] = []

    def frame(self, frame: Frame) -> object:
        """Returns its id."""
        if isinstance(frame.get("resume"), str):
            self.resume_tokens.append(frame.pop("resume"))
        if frame["op"] == "welcome":
            del frame["streams"]  # under the names by which they were asked for
        self.words.append(repr(frame))
        return frame.get("id")


async def talk(served: Serving, told: Told, *frames: object, line: str = "GET /v1/ws HTTP/1.1", **fields: str) -> None:
    """Say this over a WebSocket, as it is, and take what is answered until the last is or the connection ends."""
    async with connected(served.port) as peer:
        ended = trio.Event()
        peer.on_message = lambda frame: ended.set() if told.frame(frame) == LAST else None
        said = [text(frame) for frame in (*frames, {"op": "ping", "id": LAST})]  # type: ignore[arg-type]
        await peer.put(request(line, **fields) + b"".join(said))
        with trio.move_on_after(2.0):
            while not ended.is_set() and await peer.pull():
                pass
        told.words.append(f"{peer.head!r} {peer.close}")
        if peer.status != 101:
            told.words.append(bytes(peer.raw).decode("latin-1"))


async def over_http(served: Serving, told: Told, secret: str) -> None:
    """Where it belongs, and everywhere else."""
    async with httpx.AsyncClient(base_url=served.http) as client:

        async def say(method: str, path: str, headers: dict[str, str] | None = None, **content: Any) -> None:
            response = await client.request(method, path, headers=headers, **content)
            told.words.append(f"{response.status_code} {response.headers} {response.text}")

        short = secret[:1_500]
        for scheme in ("Bearer", "bearer ", "DPoP", "Basic", "Token", ""):
            await say("GET", "/v1/me/streams", {"authorization": f"{scheme} {short}".strip()})
        headers = {"authorization": f"Bearer {short}", "idempotency-key": KEY}
        await say("POST", "/v1/streams/chat:ops/events", headers, json={"body": {}, "type": "message"})
        await say(
            "POST", "/v1/streams", headers, json={"stream": short, "members": [{"principal": short, "role": short}]}
        )
        await say("POST", "/v1/streams/chat:ops/events", {**headers, "idempotency-key": short}, json={"body": {}})
        await say("POST", "/v1/streams/chat:ops/events", headers, content=short.encode())
        await say(
            "POST",
            "/v1/streams/chat:ops/events",
            {**headers, "content-type": "application/json"},
            content=short.encode(),
        )
        await say("GET", f"/v1/streams/{short}/events", headers)
        await say("GET", f"/v1/streams/chat:ops/events?after={short}", headers)
        await say("GET", f"/{short}", headers)
        await say("PATCH", "/v1/streams", headers)
        for query in (f"?token={short}", f"?access_token={short}", f"?x={short}"):
            await say(
                "GET", "/v1/me/streams" + query, {"cookie": f"token={short}", "origin": f"https://{short[:60]}.example"}
            )


async def over_websocket(served: Serving, told: Told, secret: str) -> None:
    short = secret[:1_500]
    await talk(served, told, {"op": "hello", "id": 1, "token": secret, "streams": {"chat:ops": {}, short: {}}})
    await talk(served, told, {"op": "resume", "id": 1, "resume": secret, "streams": {"chat:ops": 0}})
    await talk(served, told, {"op": "resume", "id": 1, "resume": [secret], "log": short})
    await talk(
        served, told, {"op": short, "id": 1}, {"op": "refresh", "id": short, "token": short}, {"op": 1, short: short}
    )
    await talk(served, told, {"op": "hello", "id": 1}, Authorization=f"Bearer {short}")
    await talk(served, told, secret)
    await talk(served, told, '{"op":"hello","token":"' + secret)
    await talk(served, told, line=f"GET /v1/ws?token={short} HTTP/1.1")
    await talk(served, told, line=f"GET /v1/ws?note={short} HTTP/1.1", Sec_WebSocket_Protocol=f"bearer.{short}")
    await talk(served, told, line=f"GET /{short} HTTP/1.1")
    await talk(served, told, line=f"{short} HTTP/1.1")
    await talk(served, told, Cookie=f"token={short}", Origin=f"https://{short}.example", Forwarded=f"for={short}")
    await talk(served, told, Authorization=f"a\r\nAuthorization: Bearer {short}")
    await talk(served, told, Authorization=f"Bearer {short}\0")


@pytest.mark.slow
async def test_no_piece_of_a_token_is_told(tmp_path: Path, database: Database) -> None:  # noqa: F811
    """Neither good ones nor bad ones, wherever they were put, and resume tokens of every age; nor a key."""
    environ = {
        "READBACK_DATABASE_URL": database.url,
        "READBACK_LOG_LEVEL": "debug",
        "READBACK_ORIGINS": "https://ops.example",
        "READBACK_LIMIT_HANDSHAKE_BYTES_MAX": "4096",
    }
    told = Told()
    good = [token("user:amy"), token("service:ops", roles=["admin"]), token("user:bob", tenant="other")]
    bad = bad_tokens()
    async with serving(tmp_path / "n", environ=environ) as served:
        for secret in (*good, *bad):
            await over_http(served, told, secret)
            await over_websocket(served, told, secret)
        async with hello(served.url) as client:
            told.resume_tokens.append(client.seen[0]["resume"])
            await talk(served, told, {"op": "resume", "id": 1, "resume": told.resume_tokens[-1]})
            await talk(served, told, {"op": "resume", "id": 1, "resume": told.resume_tokens[-1]})  # used before
        await talk(
            served, told, {"op": "hello", "id": 1, "token": good[0]}, {"op": "refresh", "id": 2, "token": bad[0]}
        )
        async with httpx.AsyncClient(base_url=served.http) as http:
            for path in ("/metrics", "/readyz", "/livez", "/openapi.json"):
                told.words.append((await http.get(path)).text)
        served.process.send_signal(signal.SIGHUP)
        await until(lambda: "reloaded" in served.words())
        served.process.send_signal(signal.SIGTERM)
        assert await served.end() == 0
        log = served.words()
    assert len(told.words) > 200
    assert len(told.resume_tokens) >= 3
    keys = [
        pair.partition("=")[2]
        for name, pairs in KEYS.items()
        if "KEYS" in name or "SECRETS" in name
        for pair in pairs.split(",")
    ]
    markers = [*good, *bad, *told.resume_tokens, *keys]
    assert pieces_told(log, markers) == []
    assert pieces_told("\n".join(told.words), markers) == []
    assert "Traceback" not in log
