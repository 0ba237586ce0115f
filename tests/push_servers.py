"""Stand-ins for Apple's and Google's push services, over HTTP/2 and TLS, that enforce the real services' rules.

`Apple` and `Google` decide, given a request, as the services' documents say they do, on a clock that a test moves; `standing`
puts them on loopback ports. Whatever breaks a rule is answered with the service's own error and kept in ``broke``, so that a
test can demand that nothing did. ``answers`` are given first, in their order: an `Answer`, `HANG` (none, ever), `CUT` (the
push is taken, and the connection ends before the answer) or `DRIP` (an answer that begins and never ends).
"""

from __future__ import annotations

import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, cast
from urllib.parse import parse_qs

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import orjson
import trio
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from core import jws
from core.push.rules import PushLimits
from core.tracks import Push, Tracks
from gateway.config import Config, Secrets
from gateway.push.make import Bases, Services, services_of
from tests.certs import make_pair
from tests.issuers import signer

HANG: Final = "hang"
CUT: Final = "cut"
DRIP: Final = "drip"
TEAM: Final = "TEAM123456"
KEY_ID: Final = "KEY1234567"
PROJECT: Final = "buses-4711"
APP: Final = "example.buses"
ACCOUNT: Final = "pusher@buses-4711.iam.gserviceaccount.example"
UUID_RE: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
FCM_ERROR: Final = "type.googleapis.com/google.firebase.fcm.v1.FcmError"


class Clock:
    """Seconds that a test moves."""

    def __init__(self, now_s: float = 1_790_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    @property
    def now_ms(self) -> int:
        return int(1000 * self.now_s)


class Answer(NamedTuple):
    status: int
    document: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = {}


Fate = Answer | Literal["hang", "cut", "drip"]


class Got(NamedTuple):
    token: str
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass
class StandIn:
    """``apps`` by device token: those that are registered. ``shown``: what a phone shows, by device token and collapse id."""

    wall: Callable[[], float]
    apps: dict[str, str] = field(default_factory=dict)
    got: list[Got] = field(default_factory=list)
    """Pushes taken, answered or not."""
    shown: dict[tuple[str, str], Any] = field(default_factory=dict)
    broke: list[str] = field(default_factory=list)
    answers: deque[Fate] = field(default_factory=deque)
    asked: int = 0
    connections: int = 0
    came: trio.Event = field(default_factory=trio.Event)
    """Set with each request."""

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> Fate:
        self.asked += 1
        self.came.set()
        fate: Fate = self.answers.popleft() if self.answers else Answer(200)
        if isinstance(fate, Answer) and fate.status != 200:
            return fate
        answered = self.judge(path, headers, body)
        return fate if answered.status == 200 and fate in (HANG, CUT, DRIP) else answered

    def judge(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        raise NotImplementedError


# Apple


@dataclass
class Apple(StandIn):
    gone: dict[str, int] = field(default_factory=dict)
    """When a device token ended, in ms."""
    updates: list[float] = field(default_factory=list)
    """When another provider token came than the one before."""
    provider: str = ""

    def _no(self, status: int, reason: str, **more: Any) -> Answer:
        if reason not in ("Unregistered", "BadDeviceToken"):
            self.broke.append(reason)
        return Answer(status, {"reason": reason, **more})

    def judge(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if headers[":method"] != "POST":
            return self._no(405, "MethodNotAllowed")
        found = re.fullmatch(r"/3/device/([0-9a-fA-F]*)", path)
        if found is None:
            return self._no(404, "BadPath")
        token = found[1]
        if not token:
            return self._no(400, "MissingDeviceToken")
        if (bad := self._unauthorized(headers.get("authorization", ""))) is not None:
            return bad
        topic, priority = headers.get("apns-topic"), headers.get("apns-priority", "10")
        if not topic:
            return self._no(400, "MissingTopic")
        if headers.get("apns-push-type") != "alert":
            return self._no(400, "InvalidPushType")
        if not UUID_RE.match(headers.get("apns-id", "00000000-0000-0000-0000-000000000000")):
            return self._no(400, "BadMessageId")
        if not re.fullmatch(r"\d+", headers.get("apns-expiration", "0")):
            return self._no(400, "BadExpirationDate")
        if priority not in ("1", "5", "10"):
            return self._no(400, "BadPriority")
        if len(headers.get("apns-collapse-id", "").encode()) > 64:
            return self._no(400, "BadCollapseId")
        if not body:
            return self._no(400, "PayloadEmpty")
        if len(body) > 4_096:
            return self._no(413, "PayloadTooLarge")
        if token in self.gone:
            return self._no(410, "Unregistered", timestamp=self.gone[token])
        if token not in self.apps:
            return self._no(400, "BadDeviceToken")
        if self.apps[token] != topic:
            return self._no(400, "DeviceTokenNotForTopic")
        document = orjson.loads(body)
        assert document["aps"]["alert"], document
        self.got.append(Got(token, headers, document))
        if int(headers["apns-expiration"]) > self.wall():
            self.shown[token, headers["apns-collapse-id"]] = document
        return Answer(200, None, {"apns-id": headers["apns-id"]})

    def _unauthorized(self, authorization: str) -> Answer | None:
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "bearer" or not text:
            return self._no(403, "MissingProviderToken")
        token = jws.read(text)
        if (
            not isinstance(token, jws.Jws)
            or token.header != {"alg": "ES256", "kid": KEY_ID}
            or len(token.signature) != 64
        ):
            return self._no(403, "InvalidProviderToken")
        r, s = int.from_bytes(token.signature[:32]), int.from_bytes(token.signature[32:])
        try:
            signer("ES256", "apns").public.verify(encode_dss_signature(r, s), token.signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return self._no(403, "InvalidProviderToken")
        issued = token.claims.get("iat")
        if token.claims.get("iss") != TEAM or not isinstance(issued, int) or issued > self.wall() + 5:
            return self._no(403, "InvalidProviderToken")
        if issued < self.wall() - 3_600:
            return self._no(403, "ExpiredProviderToken")
        if text != self.provider:
            if self.updates and self.wall() - self.updates[-1] < 1_200:
                return self._no(429, "TooManyProviderTokenUpdates")
            self.provider = text
            self.updates.append(self.wall())
        return None


# Google


@dataclass
class Google(StandIn):
    """Its token endpoint too. ``senders``: device tokens of other projects."""

    gone: set[str] = field(default_factory=set)
    senders: set[str] = field(default_factory=set)
    issued: dict[str, float] = field(default_factory=dict)
    """Access tokens, and when they end."""
    token_answers: deque[Fate] = field(default_factory=deque)
    token_uri: str = ""
    asked_for_tokens: int = 0

    def _no(self, status: int, code: str, general: str, said: str = "") -> Answer:
        if code != "UNREGISTERED":
            self.broke.append(f"{code} {said}".strip())
        details = [{"@type": FCM_ERROR, "errorCode": code}]
        return Answer(status, {"error": {"code": status, "message": said, "status": general, "details": details}})

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> Fate:
        return self._token(body) if path == "/token" else super().answer(path, headers, body)

    def _token(self, body: bytes) -> Fate:
        self.asked_for_tokens += 1
        if self.token_answers:
            return self.token_answers.popleft()
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return Answer(400, {"error": "unsupported_grant_type"})
        token = jws.read(form.get("assertion"))
        if not isinstance(token, jws.Jws) or token.header.get("alg") != "RS256":
            return Answer(400, {"error": "invalid_grant"})
        claims, now_s = token.claims, self.wall()
        try:
            signer("RS256", "google").public.verify(token.signature, token.signed, padding.PKCS1v15(), hashes.SHA256())
            assert claims["iss"] == ACCOUNT
            assert claims["aud"] == self.token_uri
            assert claims["scope"] == "https://www.googleapis.com/auth/firebase.messaging"
            issued, ends = claims["iat"], claims["exp"]
            assert isinstance(issued, int)
            assert isinstance(ends, int)
            assert issued <= now_s + 5
            assert now_s < ends <= issued + 3_600
        except (InvalidSignature, AssertionError, KeyError):
            self.broke.append("invalid_grant")
            return Answer(400, {"error": "invalid_grant"})
        access = f"ya29.{len(self.issued)}"
        self.issued[access] = now_s + 3_599
        return Answer(200, {"access_token": access, "expires_in": 3_599, "token_type": "Bearer"})

    def judge(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if path != f"/v1/projects/{PROJECT}/messages:send":
            return self._no(404, "NOT_FOUND", "NOT_FOUND", path)
        access = headers.get("authorization", "").removeprefix("Bearer ")
        if self.issued.get(access, 0.0) <= self.wall():
            return Answer(401, {"error": {"code": 401, "status": "UNAUTHENTICATED", "message": "no such access token"}})
        message = orjson.loads(body)["message"]
        if (wrong := self._wrong(message, body)) is not None:
            return self._no(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", wrong)
        token, android = message["token"], message["android"]
        if token in self.senders:
            return self._no(403, "SENDER_ID_MISMATCH", "PERMISSION_DENIED")
        if token in self.gone:
            return self._no(404, "UNREGISTERED", "NOT_FOUND")
        if token not in self.apps:
            return self._no(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "no valid registration token")
        if android.get("restricted_package_name", self.apps[token]) != self.apps[token]:
            return self._no(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "another package")
        self.got.append(Got(token, headers, message))
        self.shown[token, android["notification"]["tag"]] = message
        return Answer(200, {"name": f"projects/{PROJECT}/messages/{len(self.got)}"})

    @staticmethod
    def _wrong(message: dict[str, Any], body: bytes) -> str | None:
        android = message.get("android", {})
        if set(message) - {"token", "notification", "data", "android", "apns", "webpush", "fcm_options"}:
            return "unknown field in message"
        if set(android) - {"collapse_key", "priority", "ttl", "restricted_package_name", "data", "notification"}:
            return "unknown field in android"
        if not re.fullmatch(r"\d+(\.\d{1,9})?s", android.get("ttl", "0s")) or float(android["ttl"][:-1]) > 2_419_200:
            return "ttl"
        if android.get("priority") not in ("HIGH", "NORMAL"):
            return "priority"
        for name, value in message.get("data", {}).items():
            if not isinstance(value, str) or name in ("from", "message_type") or name.startswith(("google", "gcm")):
                return f"data.{name}"
        return "too big" if len(body) > 4_096 else None


# On the wire


async def _drip(link: h2.connection.H2Connection, id: int, stream: trio.SSLStream[trio.SocketStream]) -> None:
    """A byte again and again, until the peer has enough of it."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError, h2.exceptions.ProtocolError):
        while True:
            await trio.sleep(0.05)
            link.send_data(id, b" ")
            with suppress(trio.BusyResourceError):
                await stream.send_all(link.data_to_send())


async def _serve(stand_in: StandIn, nursery: trio.Nursery, stream: trio.SSLStream[trio.SocketStream]) -> None:
    """One connection: HTTP/2 or nothing. Requests are answered side by side."""
    stand_in.connections += 1
    try:
        await stream.do_handshake()
        if stream.selected_alpn_protocol() != "h2":
            stand_in.broke.append("not HTTP/2")
            return
        link = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        link.initiate_connection()
        await stream.send_all(link.data_to_send())
        heads: dict[int, dict[str, str]] = {}
        bodies: dict[int, bytes] = {}
        while data := await stream.receive_some():
            for event in link.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    heads[event.stream_id] = dict(cast("list[tuple[str, str]]", event.headers))
                    bodies[event.stream_id] = b""
                elif isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] += event.data
                    link.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    head = heads.pop(event.stream_id)
                    fate = stand_in.answer(head[":path"], head, bodies.pop(event.stream_id))
                    if fate == CUT:
                        return
                    if isinstance(fate, Answer):
                        _reply(link, event.stream_id, fate)
                    elif fate == DRIP:
                        link.send_headers(event.stream_id, [(":status", "503")])
                        nursery.start_soon(_drip, link, event.stream_id, stream)
            await stream.send_all(link.data_to_send())
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    finally:
        await trio.aclose_forcefully(stream)


def _reply(link: h2.connection.H2Connection, id: int, answer: Answer) -> None:
    link.send_headers(
        id, [(":status", str(answer.status)), *answer.headers.items()], end_stream=answer.document is None
    )
    if answer.document is not None:
        body = orjson.dumps(answer.document)
        for at in range(0, len(body), 16_384):
            link.send_data(id, body[at : at + 16_384], end_stream=at + 16_384 >= len(body))


@dataclass
class Stand:
    """Both, on their ports, and what is needed to use them."""

    apple: Apple
    google: Google
    bases: Bases
    client: ssl.SSLContext
    made: list[Services] = field(default_factory=list)

    @property
    def broke(self) -> list[str]:
        return self.apple.broke + self.google.broke

    @property
    def secrets(self) -> Secrets:
        account = {
            "type": "service_account",
            "project_id": PROJECT,
            "client_email": ACCOUNT,
            "private_key": pem("RS256", "google"),
            "private_key_id": "g1",
            "token_uri": self.google.token_uri,
        }
        return Secrets({}, {}, fcm_service_account=orjson.dumps(account), apns_key=pem("ES256", "apns").encode())

    def services(self, limits: PushLimits | None = None) -> Services:
        config = Config(apns_team=TEAM, apns_key_id=KEY_ID)
        limits = limits or PushLimits()
        made = services_of(config, self.secrets, self.google.wall, limits, bases=self.bases, verify=self.client)
        self.made.append(made)
        return made


def pem(algorithm: str, kid: str) -> str:
    private = signer(algorithm, kid).private
    form = serialization.PrivateFormat.PKCS8
    data: bytes = private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return data.decode()


@asynccontextmanager
async def standing(folder: Path, wall: Callable[[], float]) -> AsyncIterator[Stand]:
    pair = make_pair(folder, "push")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(pair.cert, pair.key)
    server.set_alpn_protocols(["h2", "http/1.1"])
    apple, google = Apple(wall), Google(wall)
    bases = []
    async with trio.open_nursery() as nursery:
        for stand_in in (apple, google):
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            bases.append(f"https://127.0.0.1:{listener.socket.getsockname()[1]}")
            secured = trio.SSLListener(listener, server, https_compatible=True)
            nursery.start_soon(partial(trio.serve_listeners, partial(_serve, stand_in, nursery), [secured]))
        google.token_uri = f"{bases[1]}/token"
        stand = Stand(apple, google, Bases(bases[1], bases[0]), pair.client())
        try:
            yield stand
        finally:
            with trio.CancelScope(shield=True):
                for made in stand.made:
                    await made.aclose()
            nursery.cancel_scope.cancel()


# What a store would keep


class Phones:
    """The part of `core.tracks.Tracks` that is about pushes."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], tuple[str, str, Push]] = {}
        self.failing: BaseException | None = None

    @property
    def tracks(self) -> Tracks:
        return cast(Tracks, self)

    def _check(self) -> None:
        if self.failing is not None:
            raise self.failing

    async def add_push(self, tenant: str, principal: str, push: Push) -> None:
        self.kept[push.service, push.token] = tenant, principal, push

    async def pushes(self, tenant: str, principal: str) -> list[Push]:
        self._check()
        mine = [push for whose, who, push in self.kept.values() if (whose, who) == (tenant, principal)]
        return sorted(mine, key=lambda push: -push.at_ms)

    async def drop_push(self, service: str, token: str, before_ms: int | None = None) -> bool:
        self._check()
        found = self.kept.get((service, token))
        if found is None or (before_ms is not None and found[2].at_ms > before_ms):
            return False
        del self.kept[service, token]
        return True
