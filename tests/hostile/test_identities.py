"""Tokens that prove nothing, or something else than is asked: refused in words that help their owner and nobody else."""

from __future__ import annotations

import base64
import hmac
import time
from typing import Any

import orjson
import pytest
import trio

from core.tokens import ResumeClaims, ResumeKeys, mint
from tests.hostile.peer import Frame, Peer, text
from tests.hostile.scene import ROOM, VAULT, Scene, scene
from tests.nodes import SECRETS, token

KEY = SECRETS.token_secrets["k1"]


def b64(value: object) -> str:
    data = value if isinstance(value, bytes) else orjson.dumps(value)
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: dict[str, Any], claims: object, secret: bytes = KEY) -> str:
    """A JWT with exactly this header and these claims, signed with HMAC-SHA256 whatever the header says."""
    head = f"{b64(header)}.{b64(claims)}"
    return f"{head}.{b64(hmac.digest(secret, head.encode(), 'sha256'))}"


def claims(**changed: object) -> dict[str, Any]:
    whole = {"sub": "user:mallory", "tenant": "demo", "roles": [], "aud": "readback", "exp": time.time() + 3600}
    return {name: value for name, value in {**whole, **changed}.items() if value is not ...}


HEAD = {"alg": "HS256", "typ": "JWT", "kid": "k1"}


def headed(header: object, signature: bytes = b"\0") -> str:
    """A JWT with this header and a signature that is none."""
    return f"{b64(header)}.{b64(claims())}.{b64(signature)}"


def swapped_claims() -> str:
    head, _, mac = token("user:mallory").split(".")
    return f"{head}.{b64(claims(sub='user:amy', roles=['admin']))}.{mac}"


def respelled_end(good: str) -> str:
    """The last letter of 32 bytes in base64 carries two bits that nobody reads: another letter, the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return good[:-1] + alphabet[alphabet.index(good[-1]) ^ 1]


TOKENS: dict[str, tuple[object, str]] = {
    "forged signature": (token("user:mallory")[:-4] + "AAAA", "bad signature"),
    "claims swapped under a good signature": (swapped_claims(), "bad signature"),
    "no signature": (token("user:mallory").rpartition(".")[0] + ".", "not a JWT"),
    "another's secret": (signed(HEAD, claims(), b"x" * 32), "bad signature"),
    "the resume key": (signed(HEAD, claims(), SECRETS.resume_keys["r1"]), "bad signature"),
    "alg none": (f"{b64({**HEAD, 'alg': 'none'})}.{b64(claims())}.AA", "algorithm"),
    "alg None, unsigned": (f"{b64({**HEAD, 'alg': 'None'})}.{b64(claims())}.", "not a JWT"),
    "alg nOnE, well signed": (signed({**HEAD, "alg": "nOnE"}, claims()), "algorithm"),
    "alg HS512": (signed({**HEAD, "alg": "HS512"}, claims()), "algorithm"),
    "alg RS256 (the secret as a public key)": (signed({**HEAD, "alg": "RS256"}, claims()), "algorithm"),
    "alg a list": (signed({**HEAD, "alg": ["HS256"]}, claims()), "algorithm"),
    "alg RS256, its secret in PEM's clothes": (
        signed(
            {**HEAD, "alg": "RS256"}, claims(), b"-----BEGIN PUBLIC KEY-----\n" + KEY + b"\n-----END PUBLIC KEY-----"
        ),
        "algorithm",
    ),
    "alg ES256 with a signature of zeros": (
        headed({**HEAD, "alg": "ES256"}, bytes(64)),
        "algorithm",
    ),
    "alg EdDSA": (signed({**HEAD, "alg": "EdDSA"}, claims()), "algorithm"),
    "alg hs256": (signed({**HEAD, "alg": "hs256"}, claims()), "algorithm"),
    "alg with white space": (signed({**HEAD, "alg": "HS256 "}, claims()), "algorithm"),
    "alg with a NUL": (signed({**HEAD, "alg": "HS256\0"}, claims()), "algorithm"),
    "alg null": (signed({**HEAD, "alg": None}, claims()), "algorithm"),
    "no alg": (signed({"typ": "JWT", "kid": "k1"}, claims()), "algorithm"),
    "alg twice, none last": (
        headed(b'{"alg":"HS256","kid":"k1","alg":"none"}'),
        "twice",
    ),
    "a kid with SQL": (signed({**HEAD, "kid": "k1' union select 'secret"}, claims()), "unknown key"),
    "a kid with a command": (signed({**HEAD, "kid": "k1|id"}, claims()), "unknown key"),
    "a kid with a NUL": (signed({**HEAD, "kid": "k1\0"}, claims()), "unknown key"),
    "a kid with a line feed": (signed({**HEAD, "kid": "k1\nk1"}, claims()), "unknown key"),
    "a kid that is the null device": (signed({**HEAD, "kid": "/dev/null"}, claims(), b""), "unknown key"),
    "an empty kid": (signed({**HEAD, "kid": ""}, claims()), "unknown key"),
    "a kid that is a number": (signed({**HEAD, "kid": 1}, claims()), "unknown key"),
    "a kid that is an object": (signed({**HEAD, "kid": {"k1": 1}}, claims()), "unknown key"),
    "a kid of 5 KB": (signed({**HEAD, "kid": "k" * 5_000}, claims()), "unknown key"),
    "a kid of the resume keys": (signed({**HEAD, "kid": "r1"}, claims(), SECRETS.resume_keys["r1"]), "unknown key"),
    "a key to be fetched (jku)": (signed({**HEAD, "jku": "http://127.0.0.1:1/"}, claims()), "unsupported"),
    "a certificate brought along": (signed({**HEAD, "x5c": ["MIIB"]}, claims()), "unsupported"),
    "a certificate to be fetched": (signed({**HEAD, "x5u": "file:///etc/passwd"}, claims()), "unsupported"),
    "claims not in base64 (b64 false)": (signed({**HEAD, "b64": False, "crit": ["b64"]}, claims()), "unsupported"),
    "compressed": (signed({**HEAD, "zip": "DEF"}, claims()), "unsupported"),
    "encrypted: five parts": (".".join([b64({"alg": "dir", "enc": "A128GCM"}), "", "AA", "AA", "AA"]), "not a JWT"),
    "a header that is a list": (headed(["HS256"]), "header is not understood"),
    "a header that is no JSON": (headed(b"{"), "header is not understood"),
    "a header with a byte order mark": (headed(b"\xef\xbb\xbf{}"), "header is not understood"),
    "a header 2,000 deep": (headed(b"[" * 2_000), "header is not understood"),
    "an unknown kid": (signed({**HEAD, "kid": "k2"}, claims()), "unknown key"),
    "a kid that is a path": (signed({**HEAD, "kid": "../../etc/passwd"}, claims()), "unknown key"),
    "a kid that is a list": (signed({**HEAD, "kid": ["k1"]}, claims()), "unknown key"),
    "a key brought along": (signed({**HEAD, "jwk": {"kty": "oct", "k": "eHh4"}}, claims()), "unsupported"),
    "crit": (signed({**HEAD, "crit": ["exp"]}, claims()), "unsupported"),
    "expired": (signed(HEAD, claims(exp=time.time() - 60)), "expired"),
    "no exp": (signed(HEAD, claims(exp=...)), "exp is missing"),
    "exp a text": (signed(HEAD, claims(exp="2099-01-01")), "exp is missing"),
    "exp true": (signed(HEAD, claims(exp=True)), "exp is missing"),
    "expired long ago": (signed(HEAD, claims(exp=0)), "expired"),
    "exp below nothing": (signed(HEAD, claims(exp=-(2**63))), "expired"),
    "exp 1e400": (
        signed(HEAD, b'{"sub":"user:mallory","tenant":"demo","aud":"readback","exp":1e400}'),
        "not understood",
    ),
    "exp Infinity": (
        signed(HEAD, b'{"sub":"user:mallory","tenant":"demo","aud":"readback","exp":Infinity}'),
        "not understood",
    ),
    "exp NaN": (signed(HEAD, b'{"sub":"user:mallory","tenant":"demo","aud":"readback","exp":NaN}'), "not understood"),
    "exp a list": (signed(HEAD, claims(exp=[time.time() + 60])), "exp is missing"),
    "exp null": (signed(HEAD, claims(exp=None)), "exp is missing"),
    "exp twice, the last over": (
        signed(HEAD, b'{"sub":"user:mallory","tenant":"demo","aud":"readback","exp":9999999999,"exp":1}'),
        "twice",
    ),
    "nbf a text": (signed(HEAD, claims(nbf="2020-01-01")), "nbf is not a number"),
    "nbf true": (signed(HEAD, claims(nbf=True)), "nbf is not a number"),
    "nbf null": (signed(HEAD, claims(nbf=None)), "nbf is not a number"),
    "nbf in a thousand years": (signed(HEAD, claims(nbf=1e11)), "not valid yet"),
    "not valid yet": (signed(HEAD, claims(nbf=time.time() + 600)), "not valid yet"),
    "another audience": (signed(HEAD, claims(aud="billing")), "audience"),
    "no audience": (signed(HEAD, claims(aud=...)), "audience"),
    "an audience that begins like ours": (signed(HEAD, claims(aud="readback-admin")), "audience"),
    "audiences without ours": (signed(HEAD, claims(aud=["billing", "readback "])), "audience"),
    "an audience in capitals": (signed(HEAD, claims(aud="READBACK")), "audience"),
    "an audience that is an object": (signed(HEAD, claims(aud={"readback": True})), "audience"),
    "an audience within a list within a list": (signed(HEAD, claims(aud=[["readback"]])), "audience"),
    "no tenant": (signed(HEAD, claims(tenant=...)), "tenant"),
    "a tenant that is a list": (signed(HEAD, claims(tenant=["demo"])), "tenant"),
    "a tenant with a NUL": (signed(HEAD, claims(tenant="demo\0")), "tenant"),
    "a tenant with a line feed": (signed(HEAD, claims(tenant="demo\n")), "tenant"),
    "no principal": (signed(HEAD, claims(sub=...)), "principal"),
    "a principal with an escape code": (signed(HEAD, claims(sub="user:\x1b[2J")), "principal"),
    "a principal with a quote": (signed(HEAD, claims(sub='user:a","by":"x')), "principal"),
    "roles that are a text": (signed(HEAD, claims(roles="admin")), "roles"),
    "roles that are objects": (signed(HEAD, claims(roles=[{}])), "role"),
    "33 roles": (signed(HEAD, claims(roles=[f"r{n}" for n in range(33)])), "roles"),
    "a role with a line feed": (signed(HEAD, claims(roles=["admin\n"])), "role"),
    "a role in capitals": (signed(HEAD, claims(roles=["Admin"])), "role"),
    "roles that are null": (signed(HEAD, claims(roles=None)), "roles"),
    "roles that are an object": (signed(HEAD, claims(roles={"admin": True})), "roles"),
    "claims that are a list": (signed(HEAD, [1, 2]), "not understood"),
    "claims that are no JSON": (signed(HEAD, b"{"), "not understood"),
    "claims 10,000 deep": (signed(HEAD, b"[" * 4_000), "not understood"),
    "an empty text": ("", "not a JWT"),
    "two dots": ("..", "not a JWT"),
    "not ASCII": ("é.é.é", "not a JWT"),
    "a line feed at the end": (token("user:mallory") + "\n", "not a JWT"),
    "white space before": (" " + token("user:mallory"), "not a JWT"),
    "white space behind": (token("user:mallory") + " ", "not a JWT"),
    "white space amid": (token("user:mallory").replace(".", ". ", 1), "not a JWT"),
    "CR LF amid": (token("user:mallory").replace(".", "\r\n.", 1), "not a JWT"),
    "a NUL behind": (token("user:mallory") + "\0", "not a JWT"),
    "with its scheme": ("Bearer " + token("user:mallory"), "not a JWT"),
    "padded base64": (token("user:mallory").replace(".", "=.", 1), "not a JWT"),
    "the other alphabet of base64": (token("user:mallory").replace(".", "+/.", 1), "not a JWT"),
    "letters that look alike": (token("user:mallory").replace("e", "\u0435", 1), "not a JWT"),
    "fullwidth dots": (token("user:mallory").replace(".", "\uff0e"), "not a JWT"),
    "two tokens": (token("user:mallory") + "." + token("user:amy"), "not a JWT"),
    "a bit of the signature's last letter that means nothing": (respelled_end(token("user:mallory")), "not a JWT"),
    "8,193 letters": ("a" * 8_189 + ".b.c", "too long"),
    "60 KB of it": ("a" * 20_000 + "." + "b" * 20_000 + "." + "c" * 20_000, "too long"),
    "a number": (17, "string"),
    "a list": ([token("user:mallory")], "string"),
    "true": (True, "string"),
}


@pytest.mark.parametrize("name", TOKENS)
async def test_a_token_that_proves_nothing_opens_nothing(name: str) -> None:
    """``bye/unauthorized``, 4501 and the reason; nothing of the token comes back."""
    bad, reason = TOKENS[name]
    async with scene() as stage:
        peer = await stage.upgraded()
        await peer.put(text({"op": "hello", "id": 1, "token": bad, "streams": {ROOM: {}}}))
        code, bye = await peer.bye()
        assert (code, bye["code"]) == (4501, "unauthorized")
        assert reason in bye["reason"]
        assert not isinstance(bad, str) or len(bad) < 8 or bad[:20].encode() not in peer.raw


HEADERS = {
    "no token at all": None,
    "Basic": "Basic dXNlcjpwYXNz",
    "Bearer with nothing": "Bearer ",
    "Bearer with another's": "Bearer " + signed(HEAD, claims(), b"x" * 32),
    "no scheme": token("user:mallory"),
    "bytes beyond ASCII": "Bearer \udcff\udcfe",
    "two tokens with a comma": f"Bearer {token('user:mallory')}, Bearer {token('user:amy')}",
    "a token in quotes": f'Bearer "{token("user:mallory")}"',
    "a scheme that begins like ours": "BearerX " + token("user:mallory"),
    "a tab for the space": "Bearer\t" + token("user:mallory"),
    "a parameter behind": f"Bearer {token('user:mallory')}; realm=x",
    "a token of 10 KB": "Bearer " + "a" * 10_000,
}


@pytest.mark.parametrize("name", HEADERS)
async def test_a_header_that_proves_nothing_opens_nothing(name: str) -> None:
    """The same for a token in ``Authorization``."""
    async with scene() as stage:
        peer = await stage.connect()
        await peer.upgrade(Authorization=HEADERS[name])
        await peer.put(text({"op": "hello", "id": 1}))
        code, bye = await peer.bye()
        assert (code, bye["code"]) == (4501, "unauthorized")


async def test_a_token_in_the_header_is_as_good() -> None:
    """``Authorization: Bearer`` stands in for the token of a hello, and a token in the hello goes first."""
    async with scene() as stage:
        peer = await stage.connect()
        await peer.upgrade(Authorization="bearer " + token("user:header"))
        assert (await peer.ask("hello"))["principal"] == "user:header"
        other = await stage.connect()
        await other.upgrade(Authorization="Bearer " + token("user:header"))
        assert (await other.hello("user:frame"))["principal"] == "user:frame"


# Resuming


async def _left(stage: Scene, principal: str = "user:mallory", **kind: Any) -> Frame:
    """The welcome of a connection that has gone."""
    peer = await stage.upgraded()
    welcome = await peer.hello(principal, {ROOM: {}}, **kind)
    peer.stream.socket.close()
    count = len(stage.node.node.shard.connections)
    await stage.until(lambda: len(stage.node.node.shard.connections) < count)
    return welcome


async def _resume(stage: Scene, resume: object, log: str = "", **fields: object) -> tuple[Peer, Frame]:
    peer = await stage.upgraded()
    return peer, await peer.ask("resume", resume=resume, log=log, streams={ROOM: 0}, **fields)


def forged(**changed: Any) -> str:
    """A resume token that says what it likes, signed with a key that is not the node's."""
    return ResumeKeys({"r1": b"z" * 32}).issue(resume_claims(**changed))


def resume_claims(**changed: Any) -> ResumeClaims:
    now_s = time.time()
    whole: dict[str, Any] = {
        "tenant": "demo",
        "principal": "user:mallory",
        "session": "s999",
        "generation": 1,
        "roles": frozenset(),
        "auth_expires_at_s": now_s + 3600,
        "expires_at_s": now_s + 300,
    }
    return ResumeClaims(**{**whole, **changed})


def ours(**changed: Any) -> str:
    return ResumeKeys(SECRETS.resume_keys).issue(resume_claims(**changed))


def respelled() -> str:
    """The same token with its claims in another spelling of base64."""
    prefix, kid, body, mac = ours().split(".")
    return f"{prefix}.{kid}.{body}=.{mac}"


RESUMES: dict[str, tuple[object, str]] = {
    "forged": (forged(), "bad signature"),
    "forged, of an admin": (forged(roles=frozenset(("admin",))), "bad signature"),
    "claims of another under a good signature": (
        ".".join((*forged(principal="user:amy").split(".")[:3], ours().split(".")[3])),
        "bad signature",
    ),
    "cut short": (ours()[:-1], "bad signature"),
    "spelled another way": (respelled(), "bad signature"),
    "of a key that is gone": (ResumeKeys({"r0": b"z" * 32}).issue(resume_claims()), "no longer known"),
    "expired": (ours(expires_at_s=time.time() - 1), "expired"),
    "whose access token has expired": (ours(auth_expires_at_s=time.time() - 1), "expired"),
    "an access token": (token("user:mallory"), "not a resume token"),
    "empty": ("", "not a resume token"),
    "dots": ("r1...", "signed with a key"),
    "of another version": ("r2." + ours()[3:], "not a resume token"),
    "not ASCII": ("r1.é.é.é", "not a resume token"),
    "60 KB": ("r1." + "a" * 60_000, "not a resume token"),
    "a number": (1, "not a resume token"),
    "a list": (["r1"], "not a resume token"),
    "null": (None, "not a resume token"),
}


@pytest.mark.parametrize("name", RESUMES)
async def test_a_resume_token_that_proves_nothing_is_rejected_and_hello_still_works(name: str) -> None:
    """``resume_rejected`` with the reason, on a connection that may go on with a hello."""
    bad, reason = RESUMES[name]
    async with scene() as stage:
        peer, answer = await _resume(stage, bad)
        assert (answer["op"], answer["code"]) == ("error", "resume_rejected")
        assert reason in answer["message"]
        assert (await peer.ask("sub", stream=ROOM))["code"] == "unauthorized"
        await peer.hello()


async def test_a_resume_token_is_no_access_token() -> None:
    """It never passes where an access token is asked for."""
    async with scene() as stage:
        welcome = await _left(stage)
        peer = await stage.upgraded()
        await peer.put(text({"op": "hello", "id": 1, "token": welcome["resume"]}))
        assert (await peer.bye())[0] == 4501


async def test_a_resume_token_works_once() -> None:
    """The second use is rejected, whether the first one's connection lives or not."""
    async with scene() as stage:
        welcome = await _left(stage)
        first, answer = await _resume(stage, welcome["resume"], welcome["log"])
        assert answer["resumed"] is True
        _, again = await _resume(stage, welcome["resume"], welcome["log"])
        assert (again["code"], again["message"]) == ("resume_rejected", "used before")
        await stage.still_serves(first)
        first.stream.socket.close()
        _, again = await _resume(stage, welcome["resume"], welcome["log"])
        assert (again["code"], again["message"]) == ("resume_rejected", "used before")
        _, newest = await _resume(stage, answer["resume"], welcome["log"])
        assert newest["session"] == welcome["session"]


async def test_of_many_who_bring_one_resume_token_at_once_one_gets_in() -> None:
    """A stolen token and its owner race: exactly one wins, and the session has one connection."""
    async with scene() as stage:
        welcome = await _left(stage)
        answers: list[Frame] = []

        async def race(peer: Peer) -> None:
            answers.append(
                await peer.ask("resume", resume=welcome["resume"], log=welcome["log"], streams={"chat:no": 0})
            )

        peers = [await stage.upgraded() for _ in range(20)]
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(race, peer)
        assert sorted(answer["op"] for answer in answers) == ["error"] * 19 + ["welcome"]
        speaking = [c for c in stage.node.node.shard.connections.values() if c.session == welcome["session"]]
        assert len(speaking) == 1


async def test_another_tenants_resume_token_opens_that_tenant_and_no_other() -> None:
    """The tenant is in what we signed: the same stream names mean the other tenant's streams."""
    async with scene() as stage:
        welcome = await _left(stage, "user:rita", tenant="rival")
        assert welcome["streams"] == {ROOM: {"error": "not_found"}}
        _, answer = await _resume(stage, welcome["resume"], welcome["log"])
        assert answer["resumed"] is True
        assert answer["streams"] == {ROOM: {"error": "not_found"}}


@pytest.mark.parametrize("role", ["admin", "service"])
async def test_an_admin_is_one_in_its_own_tenant_only(role: str) -> None:
    """Tenant roles open every stream of the tenant, and none of another."""
    async with scene() as stage:
        await stage.node.stream("chat:closed", open=False)
        peer = await stage.welcomed(roles=(role,))
        assert (await peer.ask("sub", stream="chat:closed"))["op"] == "ok"
        assert (await peer.ask("sub", stream=VAULT))["code"] == "not_found"
        assert (await peer.ask("history", stream=VAULT))["code"] == "not_found"


async def test_resuming_into_another_log_resets_the_cursors() -> None:
    """Cursors of another epoch are never guessed at, whatever the client calls the log."""
    async with scene() as stage:
        amy = await stage.welcomed("user:amy")
        await amy.send(ROOM, {"text": "one"})
        welcome = await _left(stage)
        peer, answer = await _resume(stage, welcome["resume"], "00000000-0000-4000-8000-000000000000")
        assert answer["streams"] == {ROOM: {"head": 1, "after": 0}}
        assert (await peer.next("reset"))["reason"] == "epoch"
        assert (await peer.next("event"))["seq"] == 1


async def test_names_and_tokens_with_line_feeds_never_reach_the_log() -> None:
    """What attackers call things stays out of the log, and so do tokens: the scene looks at every line of it."""
    async with scene() as stage:
        evil = "x\r\n2026-01-01 ERROR forged line\x1b[31m"
        peer = await stage.upgraded()
        await peer.put(text({"op": evil, "id": 1, "stream": evil, "token": evil}))
        await peer.next(id=1)
        await peer.put(text({"op": "hello", "id": 2, "token": evil, "streams": {evil: {}}, "log": evil}))
        assert (await peer.bye())[0] == 4501
        other = await stage.welcomed(streams={evil: {}})
        for op in ("sub", "send", "history", "mark", "presence", "unsub"):
            answer = await other.ask(op, stream=evil, key=evil, type=evil, body=evil, kind=evil, value=evil)
            assert evil not in str(answer)
        header = await stage.connect()
        await header.put(b"GET /v1/ws?x=%0d%0aforged HTTP/1.1\r\nUser-Agent: \x1b[31m\r\nHost: a\r\n\r\n")
        await header.ended()
        assert header.status == 400
        minted = mint(KEY, kid="k1", tenant="demo", principal="user:late", roles=(), now_s=0, ttl_s=1)
        late = await stage.upgraded()
        await late.put(text({"op": "hello", "id": 1, "token": minted}))
        assert (await late.bye())[1]["reason"] == "expired"
        assert not [record for record in stage.lines if "forged" in record.getMessage()]
