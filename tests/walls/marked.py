"""A town of two nodes in which everything that one tenant says bears a mark, and all that anybody else gets is kept.

The mark is twelve random hex digits, so that it fits into whatever a tenant may choose: names, types, the end of a key,
bodies, reasons, token ids. What the gateway makes for that tenant (sessions, tokens, ids and secrets of clients, claims) bears
none, and is added to what must not be heard.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
import time
import uuid
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import httpx
import orjson
import trio

from core.bus import Bus
from core.jws import write
from core.limits import Limits
from core.seal import Seals
from gateway.http import make_app
from store.memory import MemoryLog
from store.memory_bus import MemoryBroker, MemoryBus
from store.memory_directory import MemoryDirectory
from tests.hostile.peer import Frame, Peer, connected, text
from tests.nodes import SECRETS, TestNode, calm, memory_log, until

RIVAL: Final = "rival"
HALL: Final = "chat:hall"
CREW: Final = "trip:crew"
"""Names that both tenants use."""
_RESUME = re.compile(rb"r1\.[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.")
_JWT = re.compile(rb"eyJ[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.")


def access(principal: str, tenant: str, *, roles: tuple[str, ...] = (), jti: str = "") -> str:
    now_s = time.time()
    claims: dict[str, object] = {
        "sub": principal, "tenant": tenant, "roles": list(roles), "aud": "readback", "iat": now_s, "exp": now_s + 3_600,
    }  # fmt: skip
    if jti:
        claims["jti"] = jti
    secret = SECRETS.token_secrets["k1"]
    return write({"alg": "HS256", "typ": "JWT", "kid": "k1"}, claims, lambda data: hmac.digest(secret, data, "sha256"))


def opened(heard: bytes) -> bytes:
    """With what is written in base64 inside the tokens in it."""
    inside = [urlsafe_b64decode(part + b"==") for form in (_RESUME, _JWT) for part in form.findall(heard)]
    return b"\n".join([heard, *inside])


class Ear:
    """What a group of people was told, whichever way."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.answers: list[bytes] = []

    def heard(self) -> bytes:
        return opened(b"\n".join([*(bytes(peer.raw) for peer in self.peers), *self.answers]))


class Town:
    def __init__(
        self, stack: AsyncExitStack, nodes: list[TestNode], log: MemoryLog, directory: MemoryDirectory
    ) -> None:
        self.mark = secrets.token_hex(6)
        self.tenant = f"acme-{self.mark}"
        self.nodes = nodes
        self.log = log
        self.directory = directory
        self.made: dict[str, list[str]] = {"session": [], "token": [], "client": [], "secret": [], "claim": []}
        """What the gateway made for the marked tenant, by kind."""
        self.own, self.others = Ear(), Ear()
        self._stack = stack
        self._https: list[httpx.AsyncClient] = []
        self.bus: list[tuple[str, bytes]] = []
        self.numbers: list[str] = []

    async def open(self) -> None:
        for node in self.nodes:
            transport = httpx.ASGITransport(make_app(node.desk, office=node.office))
            http = await self._stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://node"))
            self._https.append(http)

    def ear(self, tenant: str) -> Ear:
        return self.own if tenant == self.tenant else self.others

    def key(self) -> str:
        return f"{uuid.uuid4()!s:.24}{self.mark}"

    def who(self, name: str) -> str:
        """A principal of the marked tenant."""
        return f"{name}-{self.mark}"

    async def connect(self, tenant: str, node: int = 0) -> Peer:
        peer = await self._stack.enter_async_context(connected(self.nodes[node].port))
        self.ear(tenant).peers.append(peer)
        await peer.upgrade()
        return peer

    async def hello(
        self, principal: str, tenant: str, streams: dict[str, Any], *, node: int = 0, roles: tuple[str, ...] = ()
    ) -> tuple[Peer, Frame]:
        peer = await self.connect(tenant, node)
        jti = f"t-{self.mark}-{len(self.made['token'])}" if tenant == self.tenant else "t-rival"
        token = access(principal, tenant, roles=roles, jti=jti)
        welcome = await peer.ask("hello", token=token, streams=streams)
        assert welcome["op"] == "welcome", welcome
        if tenant == self.tenant:
            self.made["session"].append(welcome["session"])
            self.made["token"] += [token, welcome["resume"]]
        return peer, welcome

    async def call(
        self, method: str, path: str, principal: str = "", tenant: str = "", *, node: int = 0, **request: Any
    ) -> httpx.Response:
        """Over HTTP; without a principal as a stranger."""
        headers = {**request.pop("headers", {})}
        if principal:
            headers["authorization"] = f"Bearer {access(principal, tenant, roles=('admin',))}"
        response = await self._https[node].request(method, path, headers=headers, **request)
        told = b"\r\n".join([str(response.status_code).encode(), *(b": ".join(pair) for pair in response.headers.raw)])
        content = response.content
        if path == "/metrics":  # what may be there of a tenant is its name, in series of its own, and these are bounded
            content = re.sub(
                rb'^(readback_tenant_\w+\{tenant=")%b("\} \d+)$' % self.tenant.encode(), rb"\1\2", content, flags=re.M
            )
        self.ear(tenant).answers.append(told + b"\r\n\r\n" + content)
        return response

    def needles(self) -> dict[str, list[bytes]]:
        found = {kind: [word.encode() for word in texts] for kind, texts in self.made.items()}
        return {"mark": [self.mark.encode()], **found}

    def found_in(self, heard: bytes, *, but: tuple[str, ...] = ()) -> Counter[str]:
        """Which kinds of what is the marked tenant's are in there, and how often."""
        counts: Counter[str] = Counter()
        for kind, texts in self.needles().items():
            if kind not in but:
                counts[kind] = sum(heard.count(word) for word in texts)
        return +counts

    def sealed(self, channel: str, payload: bytes) -> bool:
        return Seals(SECRETS.resume_keys).open(channel, payload) is not None


@asynccontextmanager
async def town(make_bus: Callable[[str], Bus] | None = None) -> AsyncIterator[Town]:
    """Two nodes on one log and one bus, with audit streams, offices, and names that both tenants have. The bus is in memory,
    and listened to, unless ``make_bus`` gives another's."""
    log, broker = memory_log(), MemoryBroker()
    directory = MemoryDirectory(log)
    limits = calm(replace(Limits(), signal_flush_s=0.005, presence_grace_s=0.01))
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        nodes = [
            TestNode(
                log,
                limits,
                nursery,
                name=name,
                make_bus=make_bus or (lambda _: MemoryBus(broker)),
                directory=directory,
                audit=True,
            )
            for name in "ab"
        ]
        made = Town(stack, nodes, log, directory)

        def tap(channel: str, payload: bytes) -> bool:
            made.bus.append((channel, payload))
            return False

        broker.lose = tap
        raise_number = broker._raise_number

        def tapped(key: str, number: int, ttl_s: float) -> int:
            made.numbers.append(key)
            return raise_number(key, number, ttl_s)

        broker._raise_number = tapped  # type: ignore[method-assign]
        for node in nodes:
            await node.start()
            node.node.use_keys(replace(SECRETS, signing_keys={"s1": b"s" * 32}))
            node.node.new_session_id = lambda: uuid.uuid4().hex
        for node in nodes:
            await until(lambda node=node: node.hears and len(node.node.cluster.gossip.nodes) == 1)  # type: ignore[misc]
        for tenant in (made.tenant, RIVAL):
            await nodes[0].stream(HALL, tenant=tenant)
            await nodes[0].stream(CREW, tenant=tenant, open=False)
        await made.open()
        yield made
        nursery.cancel_scope.cancel()


async def live(made: Town) -> None:
    """All that a tenant can do, with its mark on everything that it may choose."""
    mark, tenant = made.mark, made.tenant
    amy, bob, root = made.who("user:amy"), made.who("user:bob"), made.who("user:root")
    room, truck = f"chat:{mark}", made.who("device:truck")
    await made.call(
        "POST", "/v1/streams", root, tenant, json={"stream": room, "members": [{"principal": amy, "role": "owner"}]}
    )
    await made.call("PUT", f"/v1/streams/{CREW}/members/{bob}", root, tenant, json={"role": "member"})
    await made.call("PUT", f"/v1/streams/{CREW}/members/{made.who('user:cy')}", root, tenant)
    client = (
        await made.call("POST", "/v1/clients", root, tenant, json={"principal": made.who("service:eta"), "roles": []})
    ).json()
    made.made["client"].append(client["client_id"])
    made.made["secret"].append(client["client_secret"])
    claim = (await made.call("POST", "/v1/devices/claims", root, tenant, json={"device": truck})).json()
    made.made["claim"].append(claim["claim"])
    everything = {HALL: {"after": 0}, CREW: {"after": 0}, room: {"after": 0}, "audit:log": {"after": 0}, amy: {}}
    first, _ = await made.hello(amy, tenant, everything, roles=("admin",))
    other, welcome = await made.hello(bob, tenant, {HALL: {}, CREW: {}, room: {}}, node=1)
    for stream in (HALL, CREW, room):
        for peer in (first, other):
            body = {"text": f"said {mark}", "file": f"../../{mark}.pdf", "deep": [{"mark": mark}]}
            await peer.send(stream, body, key=made.key(), type=f"t.{mark}")
            await peer.send(stream, {"ref": 1, "emoji": mark, "on": True}, key=made.key(), type="react")
            await peer.ask("mark", stream=stream, delivered=1, read=1)
            await peer.ask("signal", stream=stream, kind="typing", value=True)
            await peer.ask("presence", stream=stream, of=[amy, bob, made.who("user:gone")])
            await peer.ask("history", stream=stream)
    key = made.key()
    for node in (0, 1):  # the same key twice: the second is a duplicate
        await made.call(
            "POST",
            f"/v1/streams/{HALL}/events",
            amy,
            tenant,
            node=node,
            json={"body": mark},
            headers={"idempotency-key": key},
        )
    for peer in (first, other):  # and what is refused
        await peer.ask("sub", stream=f"chat:no-{mark}")
        await peer.ask("sub", stream=f"room:{mark}")
        await peer.ask(f"op-{mark}")
        await peer.send(HALL, {"text": mark}, key=f"k-{mark}")
        await peer.send(HALL, {"text": mark}, type=f"T {mark}")
        await peer.send(HALL, {"text": mark}, type=f"member.{mark}")
        await peer.send(HALL, {"ref": 9_999}, type="edit")
        await peer.send(HALL, {"text": mark}, expect=0)
        await peer.ask("refresh", token=f"t-{mark}")
        await peer.ask(
            "position", stream=CREW, fixes=[{"seq": 1, "at": "2026-11-21T09:30:00Z", "lat": 1, "lon": 2}], sig=mark
        )
    again = await made.connect(tenant, 0)  # at the other node
    resumed = await again.ask("resume", resume=welcome["resume"], streams={HALL: 0, CREW: 0})
    assert resumed["op"] == "welcome", resumed
    made.made["token"].append(resumed["resume"])
    bad = await made.connect(tenant)
    await bad.ask("resume", resume=welcome["resume"], streams={})  # used before
    await bad.put(b"\x81\x85\0\0\0\0{" + mark[:4].encode())
    await bad.ended()
    for path in (
        f"/v1/streams/{room}/events",
        f"/v1/streams/{room}/members",
        f"/v1/streams/chat:no-{mark}/events",
        f"/{mark}",
    ):
        await made.call("GET", path, amy, tenant)
    await made.call(
        "POST", "/v1/oauth/token", data={"grant_type": mark, "client_id": mark, "client_secret": mark}, tenant=tenant
    )
    await made.call("DELETE", f"/v1/streams/{room}/events", root, tenant, params={"before": 2})
    await made.call("DELETE", f"/v1/streams/{CREW}/members/{bob}", root, tenant)
    revoked = {"scope": "principal", "value": bob, "reason": f"left with {mark}"}
    await made.call("POST", "/v1/revocations", root, tenant, json=revoked)
    await again.ended()
    late = await made.connect(tenant, 1)
    await late.ask("presence", stream=HALL)
    await late.put(text({"op": "hello", "id": 9, "token": made.made["token"][2], "streams": {}}))
    await late.ended()
    await made.call(
        "GET", "/v1/me/streams", tenant=tenant, headers={"authorization": f"Bearer {made.made['token'][2]}"}
    )
    for path in ("/v1/clients", "/v1/devices", "/v1/revocations", "/v1/me/streams"):
        await made.call("GET", path, root, tenant)
    await made.call("DELETE", f"/v1/devices/{truck}", root, tenant)
    await made.call("DELETE", f"/v1/clients/{client['client_id']}", root, tenant)


async def pry(made: Town) -> None:
    """All that another tenant, with every role, and a stranger can ask, without a word of what they cannot know."""
    eve = "user:eve"
    everything = {HALL: {"after": 0}, CREW: {"after": 0}, "audit:log": {"after": 0}, eve: {}}
    for node in (0, 1):
        peer, _ = await made.hello(eve, RIVAL, everything, node=node, roles=("admin",))
        for stream in (*everything, "chat:none", "user:amy"):
            for op, fields in (
                ("sub", {"after": 0}), ("history", {}), ("presence", {}), ("presence", {"of": ["user:amy", "user:bob", eve]}),
                ("mark", {"read": 99}), ("signal", {"kind": "typing", "value": True}), ("unsub", {}), ("sub", {"last": 99}),
                ("position", {"fixes": []}), ("command", {}),
            ):  # fmt: skip
                await peer.ask(op, stream=stream, **fields)
            await peer.send(stream, {"text": "hello?"}, type="message")
            await peer.send(stream, {"ref": 1}, type="delete")
            for path in (f"/v1/streams/{stream}/events", f"/v1/streams/{stream}/members"):
                await made.call("GET", path, eve, RIVAL, node=node)
                await made.call("GET", path, node=node)
            for seq in (1, 2, 3):
                await made.call("GET", "/v1/audit/proof", eve, RIVAL, node=node, params={"stream": stream, "seq": seq})
        for path in (
            "/v1/me/streams", "/v1/clients", "/v1/devices", "/v1/revocations", "/metrics", "/livez", "/readyz",
            "/openapi.json", "/v1/jwks.json", "/nowhere",
        ):  # fmt: skip
            await made.call("GET", path, eve, RIVAL, node=node)
            await made.call("GET", path, node=node)
        guess = {"grant_type": "client_credentials", "client_id": "client-x", "client_secret": "x"}
        await made.call("POST", "/v1/oauth/token", node=node, data=guess)
        await made.call("POST", "/v1/devices/redeem", node=node, json={"claim": "x"})
        for words in (
            b"{",
            b"[]",
            b'{"op":1,"id":1}',
            orjson.dumps({"op": "hello", "id": 1, "token": "x", "streams": {}}),
        ):
            stranger = await made.connect(RIVAL, node)
            await stranger.put(b"\x81" + bytes([0x80 | len(words)]) + b"\0\0\0\0" + words)
            if b"op" not in words or b"hello" in words:
                await stranger.ended()
            else:
                await stranger.next("error")


class Records(logging.Handler):
    """Every record of every logger but the tests' own clients."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(("httpx", "httpcore", "asyncio")):
            line = logging.Formatter("%(name)s %(message)s").format(record)
            self.lines.append((record.name, line))
