"""gateway.jwks: keys of issuers are there when they are needed, new ones soon, old ones not for ever, at a bounded cost."""

from __future__ import annotations

import os
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import trio
import trio.lowlevel
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from trio.testing import MockClock, wait_all_tasks_blocked

from core.keys import JWKS_BYTES_MAX
from core.tenants import Issuer, Tenant, Tenants
from gateway.jwks import AGAIN_S, FETCHES_AT_ONCE, REFRESH_S, RETRY_S, STALE_S, WANT_S, KeySource, _wait_s
from tests.issuers import own, signer

ISSUER = Issuer("https://id.example", jwks_url="https://id.example/keys")
DAY_S = 86_400.0


def tenants(*issuers: Issuer) -> Tenants:
    return Tenants({f"t{n}": Tenant(f"t{n}", (issuer,)) for n, issuer in enumerate(issuers)})


def jwks(*kids: str) -> bytes:
    return orjson.dumps({"keys": [own(kid).jwk for kid in kids]})


class Provider:
    """An issuer's web server, in memory."""

    def __init__(self, *kids: str) -> None:
        self.kids = kids
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body: bytes | None = None
        self.fails = False
        self.gate: trio.Event | None = None
        """Where it is set, answers wait for it."""
        self.asked: list[httpx.Request] = []
        self.asked_at_s: list[float] = []
        self.at_once = 0
        self.at_once_max = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        self.asked_at_s.append(trio.current_time())
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.fails:
                raise httpx.ConnectError("secret words of a peer")
            body = jwks(*self.kids) if self.body is None else self.body
            return httpx.Response(self.status, headers=self.headers, stream=httpx.ByteStream(body))
        finally:
            self.at_once -= 1


@asynccontextmanager
async def keeping(
    *issuers: Issuer, provider: Callable[[httpx.Request], Awaitable[httpx.Response]] | None = None, seed: int = 1
) -> AsyncIterator[KeySource]:
    transport = None if provider is None else httpx.MockTransport(provider)  # type: ignore[arg-type]
    source = KeySource(tenants(*issuers), rng=random.Random(seed), transport=transport)
    async with trio.open_nursery() as nursery:
        await nursery.start(source.run)
        await wait_all_tasks_blocked()
        yield source
        nursery.cancel_scope.cancel()


def kids(source: KeySource, issuer: Issuer = ISSUER) -> list[str] | None:
    keys = source.keys(issuer)
    return None if keys is None else list(keys)


async def passed(clock: MockClock, seconds: float) -> None:
    """Time goes by, and whatever was due has been done."""
    clock.jump(seconds)
    await wait_all_tasks_blocked()


async def test_keys_are_fetched_at_start_and_anew(mock_clock: MockClock) -> None:
    """Every ten minutes at most, a little earlier by chance; what was withdrawn is gone then."""
    provider = Provider("a")
    async with keeping(ISSUER, provider=provider) as source:
        assert kids(source) == ["a"]
        provider.kids = ("b", "c")
        await passed(mock_clock, REFRESH_S * 0.9 - 1)
        assert kids(source) == ["a"]
        await passed(mock_clock, REFRESH_S * 0.1 + 1)
        assert kids(source) == ["b", "c"]
        assert (source.fetches, source.failures, source.troubles()) == (2, 0, [])


async def test_nothing_is_waited_for_without_a_source(mock_clock: MockClock) -> None:
    """An issuer that is not among the tenants has no keys, and none are fetched for it."""
    provider = Provider("a")
    async with keeping(provider=provider) as source:
        assert source.keys(ISSUER) is None
        await source.want(ISSUER, "a")
        assert (source.fetches, source.oldest_s()) == (0, 0.0)


async def test_what_is_asked_and_how(mock_clock: MockClock) -> None:
    """A GET of the URL as it is, uncompressed, without anything that says who we are to whom."""
    provider = Provider("a")
    async with keeping(ISSUER, provider=provider):
        (request,) = provider.asked
        assert (request.method, str(request.url)) == ("GET", "https://id.example/keys")
        assert request.headers["accept-encoding"] == "identity"
        assert "authorization" not in request.headers


async def test_nodes_started_together_do_not_ask_together(mock_clock: MockClock) -> None:
    """Chance shortens the wait by up to a tenth."""
    at_s = set()
    for seed in range(5):
        provider = Provider("a")
        began_s = trio.current_time()
        async with keeping(ISSUER, provider=provider, seed=seed):
            for _ in range(100):
                await passed(mock_clock, REFRESH_S / 100)
            at_s.add(round((provider.asked_at_s[1] - began_s) / (REFRESH_S / 100)))
            assert 90 <= max(at_s) <= 100
    assert len(at_s) > 1


# A key that is not known


async def test_a_key_that_is_not_known_is_fetched_at_once(mock_clock: MockClock) -> None:
    """Who waits goes on when it is there."""
    provider = Provider("a")
    async with keeping(ISSUER, provider=provider) as source:
        await passed(mock_clock, AGAIN_S)
        provider.kids = ("a", "b")
        await source.want(ISSUER, "b")
        assert kids(source) == ["a", "b"]
        await source.want(ISSUER, "b")
        assert source.fetches == 2


async def test_guesses_cost_one_fetch_in_ten_seconds(mock_clock: MockClock) -> None:
    """10,000 kids that nobody has: of those that come at once most share a fetch, the rest is answered without one."""
    provider = Provider("a")
    async with keeping(ISSUER, provider=provider) as source:
        await passed(mock_clock, AGAIN_S)
        async with trio.open_nursery() as nursery:
            for n in range(1_000):
                nursery.start_soon(source.want, ISSUER, f"guess-{n}")
        for n in range(1_000, 10_000):
            await source.want(ISSUER, f"guess-{n}")
        assert (source.fetches, source.wanted, source.spared) == (2, 10_000, 9_000)
        assert kids(source) == ["a"]
        await passed(mock_clock, AGAIN_S)
        await source.want(ISSUER, "guess")
        assert source.fetches == 3


async def test_one_fetch_at_a_time(mock_clock: MockClock) -> None:
    """Who comes while one is under way waits for that one."""
    provider = Provider("a")
    provider.gate = trio.Event()
    async with keeping(ISSUER, provider=provider) as source, trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(source.want, ISSUER, f"k{n}")
        await wait_all_tasks_blocked()
        provider.gate.set()
        await wait_all_tasks_blocked()
        assert (len(provider.asked), provider.at_once_max, nursery.child_tasks) == (1, 1, frozenset())


async def test_a_wait_has_a_bound(mock_clock: MockClock) -> None:
    """A provider that hangs keeps a hello for 2.5 s, and itself for 5."""
    provider = Provider("a")
    async with keeping(ISSUER, provider=provider) as source:
        await passed(mock_clock, AGAIN_S)
        provider.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.want, ISSUER, "b")
            await wait_all_tasks_blocked()
            await passed(mock_clock, WANT_S - 0.1)
            assert len(nursery.child_tasks) == 1
            await passed(mock_clock, 0.2)
            assert not nursery.child_tasks
        assert source.failures == 0
        await passed(mock_clock, 3.0)
        assert source.failures == 1
        assert source.troubles() == ["https://id.example/keys: no whole answer within 5 s"]
        assert kids(source) == ["a"]


# A provider that is away


async def test_keys_stay_good_for_a_day(mock_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Then its tokens are refused, until it is back; the log says so once, without the words of the peer."""
    provider = Provider("a")
    async with keeping(ISSUER, provider=provider) as source:
        caplog.set_level("INFO", "readback.jwks")
        provider.fails = True
        for _ in range(200):
            await passed(mock_clock, DAY_S / 200 - 1)
        assert kids(source) == ["a"]
        assert source.failures > 100
        assert [record.getMessage() for record in caplog.records] == [
            "The keys at https://id.example/keys cannot be had: no answer (ConnectError). Those at hand stay good for a day."
        ]
        await passed(mock_clock, 300)
        assert kids(source) is None
        assert source.oldest_s() > STALE_S
        provider.fails = False
        await source.want(ISSUER, "a")
        assert kids(source) == ["a"]
        assert source.troubles() == []
        assert "can be had again" in caplog.text


async def test_a_provider_that_is_away_is_asked_less_and_less(mock_clock: MockClock) -> None:
    """After half a minute, a minute, two, and so on up to the usual ten."""
    provider = Provider("a")
    provider.fails = True
    async with keeping(ISSUER, provider=provider) as source:
        assert kids(source) is None
        assert source.oldest_s() == float("inf")
        for _ in range(7_200):
            mock_clock.jump(1.0)
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        waits = [b - a for a, b in zip(provider.asked_at_s, provider.asked_at_s[1:], strict=False)]
        bounds = [RETRY_S, RETRY_S * 2, RETRY_S * 4, RETRY_S * 8, RETRY_S * 16, REFRESH_S, REFRESH_S]
        assert all(0.89 * most <= wait <= most + 5 for wait, most in zip(waits, bounds, strict=False)), waits
        assert len(waits) > len(bounds)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": 302, "headers": {"location": "https://evil.example/keys"}}, "the answer was 302"),
        ({"status": 500}, "the answer was 500"),
        ({"status": 404}, "the answer was 404"),
        ({"headers": {"content-encoding": "gzip"}}, "compressed"),
        ({"body": b"x" * (JWKS_BYTES_MAX + 1)}, "larger than"),
        ({"body": b"<html>"}, "nothing in there can be used (the key set is not JSON)"),
        ({"body": b'{"keys":[{"kty":"oct","k":"AA"}]}'}, "nothing in there can be used (key 1: a symmetric key"),
        ({"body": b'{"keys":[' + b",".join([orjson.dumps(own("b").jwk)] * 2) + b"]}"}, "the same kid"),
    ],
)
async def test_an_answer_that_is_none_replaces_nothing(
    mock_clock: MockClock, change: dict[str, Any], said: str
) -> None:
    """Redirects are not followed, bodies not read to their end; the keys at hand stay."""
    provider = Provider("a")
    async with keeping(ISSUER, provider=provider) as source:
        for name, value in change.items():
            setattr(provider, name, value)
        await passed(mock_clock, REFRESH_S)
        assert kids(source) == ["a"]
        (trouble,) = source.troubles()
        assert said in trouble
        assert len(provider.asked) == 2
        provider.status, provider.headers, provider.body, provider.kids = 200, {}, None, ("b",)
        await passed(mock_clock, RETRY_S)
        assert kids(source) == ["b"]


async def test_a_set_without_keys_withdraws_all(mock_clock: MockClock) -> None:
    """It is an answer, and a plain one."""
    provider = Provider("a")
    async with keeping(ISSUER, provider=provider) as source:
        provider.kids = ()
        await passed(mock_clock, REFRESH_S)
        assert kids(source) == []


async def test_what_is_left_out_is_logged(mock_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Names of keys, a few of them, and never a key."""
    caplog.set_level("INFO", "readback.jwks")
    provider = Provider()
    provider.body = orjson.dumps({"keys": [*(own(f"k{n}").jwk for n in range(9)), {"kty": "oct", "k": "hunter2"}]})
    async with keeping(ISSUER, provider=provider):
        assert "k0, k1, k2, k3, k4 and 4 more." in caplog.text
        assert "left out: key 10: a symmetric key" in caplog.text
        assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("", 600),
        ("public", 600),
        ("max-age=120", 120),
        ("public, Max-Age=300, must-revalidate", 300),
        ('max-age="300"', 300),
        ("max-age=5", 60),
        ("max-age=0", 60),
        ("max-age=9999999999", 3_600),
        ("s-maxage=120", 600),
        ("x-max-age=120", 600),
        ("max-age=-1", 600),
        ("max-age=x", 600),
        ("no-store", 60),
        ("max-age=900, no-cache", 60),
    ],
)
def test_how_long_an_answer_holds(header: str, wait_s: float) -> None:
    """By its Cache-Control, within a minute and an hour."""
    assert _wait_s(header) == wait_s


async def test_an_answer_says_how_long_it_holds(mock_clock: MockClock) -> None:
    """And is fetched anew by then."""
    provider = Provider("a")
    provider.headers = {"cache-control": "max-age=120"}
    async with keeping(ISSUER, provider=provider) as source:
        await passed(mock_clock, 120)
        assert source.fetches == 2


# Many issuers


async def test_issuers_with_one_url_share_it(mock_clock: MockClock) -> None:
    """One fetch for all of its tenants."""
    second = Issuer("https://id.example", jwks_url=ISSUER.jwks_url, audience="other", algorithms=("ES256",))
    provider = Provider("a")
    async with keeping(ISSUER, second, provider=provider) as source:
        assert kids(source) == kids(source, second) == ["a"]
        assert source.fetches == 1


async def test_a_bounded_number_of_fetches_at_once(mock_clock: MockClock) -> None:
    """The rest waits its turn, and who wants a key meanwhile waits for it."""
    provider = Provider("a")
    provider.gate = trio.Event()
    many = [Issuer(f"i{n}", jwks_url=f"https://id.example/{n}") for n in range(FETCHES_AT_ONCE + 5)]
    async with keeping(*many, provider=provider) as source, trio.open_nursery() as nursery:
        assert len(provider.asked) == FETCHES_AT_ONCE
        nursery.start_soon(source.want, many[-1], "a")
        await wait_all_tasks_blocked()
        provider.gate.set()
        await wait_all_tasks_blocked()
        assert provider.at_once_max == FETCHES_AT_ONCE
        assert all(kids(source, issuer) == ["a"] for issuer in many)
        assert source.fetches == len(many)


async def test_tenants_are_replaced(mock_clock: MockClock) -> None:
    """A new issuer is fetched at once, one that stays is not, one that went is asked no more, and who waited for it
    goes on."""
    other = Issuer("https://other.example", jwks_url="https://other.example/keys")
    provider = Provider("a")
    async with keeping(ISSUER, provider=provider) as source, trio.open_nursery() as nursery:
        source.replace(tenants(ISSUER, other))
        await wait_all_tasks_blocked()
        assert (kids(source), kids(source, other), source.fetches) == (["a"], ["a"], 2)
        await passed(mock_clock, AGAIN_S)
        provider.gate = trio.Event()
        nursery.start_soon(source.want, ISSUER, "b")
        await wait_all_tasks_blocked()
        source.replace(tenants(other))
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks
        assert source.keys(ISSUER) is None
        provider.gate.set()
        await passed(mock_clock, REFRESH_S)
        assert [str(request.url) for request in provider.asked[3:]] == ["https://other.example/keys"]


async def test_replaced_before_it_runs(mock_clock: MockClock) -> None:
    """What was read at start may change before the node runs; what nobody keeps is waited for no longer than ever."""
    source = KeySource(tenants(ISSUER), rng=random.Random(1), transport=httpx.MockTransport(Provider("a")))  # type: ignore[arg-type]
    source.replace(tenants())
    source.replace(tenants(ISSUER))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.want, ISSUER, "a")
        await wait_all_tasks_blocked()
        await passed(mock_clock, WANT_S)
        assert not nursery.child_tasks
        nursery.start_soon(source.run)
        await wait_all_tasks_blocked()
        assert kids(source) == ["a"]
        nursery.cancel_scope.cancel()


# Files


@pytest.fixture
def clock(mock_clock: MockClock) -> MockClock:
    """Threads and sockets need it to run."""
    mock_clock.rate = 1.0
    return mock_clock


async def until(ready: Callable[[], object]) -> None:
    with trio.fail_after(20):
        while not ready():  # noqa: ASYNC110  # a thread or another process' socket says when
            await trio.sleep(0.001)


async def test_a_file_is_read_at_start_and_when_it_changes(clock: MockClock, tmp_path: Path) -> None:
    """One that did not change is not read again, and stays good."""
    path = tmp_path / "keys.json"
    path.write_bytes(jwks("a"))
    issuer = Issuer("x", jwks_file=str(path))
    async with keeping(issuer) as source:
        await until(lambda: kids(source, issuer) == ["a"])
        first = source.keys(issuer)
        for n in range(2, 5):
            clock.jump(REFRESH_S)
            await until(lambda n=n: source.fetches == n and source.oldest_s() < 60)
        assert source.keys(issuer) is first
        path.write_bytes(jwks("b", "c"))
        clock.jump(AGAIN_S)
        await source.want(issuer, "b")
        assert kids(source, issuer) == ["b", "c"]


async def test_a_file_that_cannot_be_used(clock: MockClock, tmp_path: Path) -> None:
    """Missing, too large, no keys, not a file: the keys at hand stay; once it is well it is read, changed or not."""
    path = tmp_path / "keys.json"
    issuer = Issuer("x", jwks_file=str(path))
    pipe = Issuer("y", jwks_file=str(tmp_path / "pipe"))
    os.mkfifo(pipe.jwks_file)
    async with keeping(issuer, pipe) as source:
        await until(lambda: len(source.troubles()) == 2)
        assert "cannot be read: No such file" in source.troubles()[0]
        path.write_bytes(jwks("a"))
        clock.jump(RETRY_S)
        await until(lambda: kids(source, issuer) == ["a"])
        for broken, said in ((b"{", "not JSON"), (b" " * (JWKS_BYTES_MAX + 1), "larger")):
            path.write_bytes(broken)
            clock.jump(REFRESH_S)
            await until(lambda said=said: said in source.troubles()[0])
            failures = source.failures
            clock.jump(REFRESH_S)
            await until(lambda failures=failures: source.failures > failures)
            assert said in source.troubles()[0]
        assert kids(source, issuer) == ["a"]
        path.write_bytes(jwks("b"))
        clock.jump(REFRESH_S)
        await until(lambda: kids(source, issuer) == ["b"])


# Over real sockets


@asynccontextmanager
async def server(answer: bytes, context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Whatever is asked, this is answered, byte for byte; what was asked is kept."""
    asked: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        try:
            if context is None:
                asked.append(await stream.receive_some(4_096))
                await stream.send_all(answer)
                await stream.send_eof()
            else:
                tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
                asked.append(await tls.receive_some(4_096))
                await tls.send_all(answer)
                await tls.aclose()
        except trio.BrokenResourceError:
            pass
        finally:
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield listener.socket.getsockname()[1], asked
        nursery.cancel_scope.cancel()


def http(body: bytes, *fields: str, status: str = "200 OK") -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", *(fields or (f"content-length: {len(body)}",)), "", ""])
    return head.encode() + body


async def outcome(url: str) -> tuple[list[str] | None, list[str]]:
    """The keys that are fetched from there, or why none are."""
    issuer = Issuer("x", jwks_url=url)
    async with keeping(issuer) as source:
        await until(lambda: source.keys(issuer) is not None or source.troubles())
        return kids(source, issuer), source.troubles()


async def test_a_real_server(clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its keys, and a proxy of the environment is not asked for them."""
    async with server(http(jwks("a"))) as (port, asked), server(http(jwks("evil"))) as (proxy, detours):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy}")
        monkeypatch.setenv("all_proxy", f"http://127.0.0.1:{proxy}")
        assert await outcome(f"http://127.0.0.1:{port}/keys") == (["a"], [])
        assert asked[0].startswith(b"GET /keys HTTP/1.1\r\n")
        assert detours == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "no answer"),
        (b"SSH-2.0-OpenSSH\r\n", "no answer"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000, "no answer"),
        (http(b"{}", "content-length: 2000"), "no answer"),
        (http(b"5\r\nhello\r\nZZ\r\n", "transfer-encoding: chunked"), "no answer"),
        (http(b"", "content-length: 99999999999") + b"x" * 400_000, "larger"),
        (http(b"x" * 400_000, "connection: close"), "larger"),
        (http(b"\x1f\x8b", "content-encoding: gzip"), "compressed"),
        (http(b"", "location: http://127.0.0.1:1/", status="301 Moved"), "the answer was 301"),
    ],
)
async def test_a_real_server_that_misbehaves(clock: MockClock, answer: bytes, said: str) -> None:
    """No answer, half of one, too much of one: a reason, and nothing else happens."""
    async with server(answer) as (port, asked):
        keys, troubles = await outcome(f"http://127.0.0.1:{port}/")
        assert keys is None
        assert said in troubles[0]
        assert len(asked) == 1


async def test_nobody_there(clock: MockClock) -> None:
    """A port that is closed, a name that is none, a URL that the tenants file would not have had."""
    for url, said in (
        ("http://127.0.0.1:1/", "no answer (ConnectError)"),
        ("http://192.0.2.1/", "not an https URL"),
    ):
        keys, troubles = await outcome(url)
        assert keys is None
        assert said in troubles[0]


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a certificate of its own making, and that certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "cert.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, folder / "key.pem")
    return context, path


async def test_certificates_are_checked(clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody vouches for is refused; one that the machine trusts is taken, for the name that it is of."""
    context, path = certificate(tmp_path)
    async with server(http(jwks("a")), context) as (port, _):
        keys, troubles = await outcome(f"https://localhost:{port}/")
        assert (keys, "no answer" in troubles[0]) == (None, True)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        assert await outcome(f"https://localhost:{port}/") == (["a"], [])
        keys, troubles = await outcome(f"https://127.0.0.1:{port}/")
        assert (keys, "no answer" in troubles[0]) == (None, True)


async def test_keys_of_every_kind_come_through(mock_clock: MockClock) -> None:
    """All three algorithms, from one set."""
    provider = Provider()
    provider.body = orjson.dumps({"keys": [signer(name).jwk for name in ("EdDSA", "ES256", "RS256")]})
    async with keeping(ISSUER, provider=provider) as source:
        assert kids(source) == ["eddsa", "es256", "rs256"]
