"""gateway.work.jobs, webhooks, outside: what is done for a rule is done once; what goes outside is signed, and stays out."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import httpx
import orjson
import pytest
import trio
from trio.testing import MockClock

from core.commands import Answer
from core.flight.machine import Refusal
from core.retry import RETRY_AFTER_MAX_S
from core.work import Task
from core.work_limits import WorkLimits
from gateway.work.jobs import Deeds, JobRunner, job
from gateway.work.orders import Impossible
from gateway.work.outside import HOSTS_MAX, Full, Outside
from gateway.work.ports import Outcome, Transient
from gateway.work.webhooks import (
    ANSWER_BYTES_MAX,
    Webhooks,
    host_of,
    is_public,
    shown_secret,
)
from tests.working import is_ours

LIMITS = WorkLimits()
NOW_S = 1_790_000_000.0
KEY = "0b5e7c1e-4f57-8d8a-9a53-3c1f0c8f2f11"
KEYS = {"w2": b"second key of the installation..", "w1": b"first key of the installation..."}
URL = "https://hooks.example/in?x=1"


class Port:
    """The outside: answers as told, keeps what came."""

    def __init__(self, *answers: int | httpx.Response | Exception) -> None:
        self.answers = list(answers) or [200]
        self.requests: list[httpx.Request] = []
        self.gate: trio.Event | None = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer) if isinstance(answer, int) else answer


def webhooks(port: Port, *addresses: str, keys: Any = KEYS, limits: WorkLimits = LIMITS, **more: Any) -> Webhooks:
    async def resolve(host: str, port: int) -> Sequence[str]:
        if not addresses:
            return ["93.184.216.34"]
        if addresses == ("nowhere",):
            raise OSError("no such name")
        return addresses

    outside = more.pop("outside", None) or Outside(limits)
    transport = httpx.MockTransport(port)
    return Webhooks(outside, limits, lambda: NOW_S, keys, resolve=resolve, transport=transport, **more)


async def test_a_webhook_is_signed_for_its_tenant_and_believed_by_its_receiver() -> None:
    """A receiver with its tenant's secret believes it, of either key; with another's, another body or later, not."""
    port = Port()
    assert await webhooks(port).post("demo", URL, {"a": 1}, KEY) == 200
    (request,) = port.requests
    assert request.content == b'{"a":1}'
    assert (request.headers["idempotency-key"], request.headers["webhook-id"]) == (KEY, KEY)
    for key in KEYS.values():
        secret, headers = shown_secret(key, "demo"), request.headers
        assert is_ours(secret, headers, request.content, NOW_S)
        assert not is_ours(secret, headers, b'{"a":2}', NOW_S)
        assert not is_ours(secret, {**headers, "webhook-id": "other"}, request.content, NOW_S)
        assert not is_ours(secret, headers, request.content, NOW_S + 301)
        assert not is_ours(shown_secret(key, "acme"), headers, request.content, NOW_S)


async def test_it_goes_to_the_address_that_was_looked_at() -> None:
    """The name is in Host and for the certificate, the connection is to the address: no second look-up changes that."""
    port = Port()
    await webhooks(port, "10.0.0.7", "93.184.216.34").post("demo", URL, {}, KEY)
    (request,) = port.requests
    assert str(request.url) == "https://93.184.216.34/in?x=1"
    assert request.headers["host"] == "hooks.example"
    assert request.extensions["sni_hostname"] == "hooks.example"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:127.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:5ef5:79fb:0:0:80ff:fffe",
    ],
)  # fmt: skip
async def test_nothing_of_ours_is_called(address: str) -> None:
    """Loopback, private, link-local, multicast and reserved addresses are refused, however they are written."""
    port = Port()
    with pytest.raises(Impossible, match="no address of the public internet"):
        await webhooks(port, address).post("demo", URL, {}, KEY)
    bare = address.partition("%")[0]
    host = f"[{bare}]" if ":" in bare else bare
    with pytest.raises(Impossible, match="no address of the public internet"):
        await webhooks(port).post("demo", f"https://{host}/", {}, KEY)
    assert port.requests == []


def test_public_addresses_are() -> None:
    """What the internet routes may be called, as IPv6 and inside it too."""
    for address in ("93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "::ffff:93.184.216.34"):
        assert is_public(ip_address(address))


async def test_networks_of_ours_can_be_allowed() -> None:
    """What the operator names may be called, by plain http too; what is not named may not."""
    port = Port()
    some = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert await webhooks(port, "10.1.2.3", private=some).post("demo", "http://inside.example:8080/x", {}, KEY) == 200
    assert str(port.requests[0].url) == "http://10.1.2.3:8080/x"
    assert port.requests[0].headers["host"] == "inside.example:8080"
    with pytest.raises(Impossible):
        await webhooks(port, "192.168.0.1", private=some).post("demo", URL, {}, KEY)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://hooks.example/", "webhooks go out by https, not to http://hooks.example"),
        ("ftp://hooks.example/", "looks like https://host/path"),
        ("hooks.example", "looks like https://host/path"),
        ("https://", "looks like https://host/path"),
        ("https://amy:secret@hooks.example/", "holds no name or password"),
        ("https://hooks.example/" + "x" * 2_000, "at most 2000 characters"),
        ("https://[::1", "cannot be read"),
    ],
)
async def test_addresses_that_are_none(url: str, says: str) -> None:
    """What is wrong with it is said, and nothing goes out."""
    port = Port()
    with pytest.raises(Impossible, match=says):
        await webhooks(port).post("demo", url, {}, KEY)
    assert port.requests == []


async def test_nothing_goes_out_unsigned() -> None:
    """Without a key the receiver could not know whom to believe."""
    with pytest.raises(Impossible, match="set `webhook_keys`"):
        await webhooks(Port(), keys={}).post("demo", URL, {}, KEY)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 599])
async def test_answers_that_may_be_better_later(status: int) -> None:
    """A host that is busy or broken is asked again."""
    with pytest.raises(Transient, match=f"hooks.example answers {status}"):
        await webhooks(Port(status)).post("demo", URL, {}, KEY)


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("what"), OSError("no")],
)
async def test_networks_that_fail(error: Exception) -> None:
    """What never came through is tried again."""
    with pytest.raises(Transient, match="cannot be reached"):
        await webhooks(Port(error)).post("demo", URL, {}, KEY)


async def test_a_name_that_cannot_be_looked_up_is_tried_again() -> None:
    """Name servers fail too."""
    with pytest.raises(Transient, match="cannot be looked up"):
        await webhooks(Port(), "nowhere").post("demo", URL, {}, KEY)


@pytest.mark.parametrize(
    ("said", "wait_s"),
    [
        ("17", 17.0),
        ("999999", RETRY_AFTER_MAX_S),
        ("Mon, 21 Sep 2026 14:14:20 GMT", 60.0),
        ("Mon, 21 Sep 2020 14:14:20 GMT", 0.0),
        ("soon", None),
        ("", None),
    ],
)
async def test_retry_after_is_obeyed(said: str, wait_s: float | None) -> None:
    """Seconds or a date, within an hour."""
    with pytest.raises(Transient) as caught:
        await webhooks(Port(httpx.Response(503, headers={"retry-after": said}))).post("demo", URL, {}, KEY)
    assert caught.value.retry_after_s == wait_s


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
async def test_answers_that_will_not_change(status: int) -> None:
    """The reason has the status and the beginning of what was said."""
    with pytest.raises(Impossible, match=f"refuses the webhook: {status} no such hook"):
        await webhooks(Port(httpx.Response(status, text="no such hook"))).post("demo", URL, {}, KEY)


async def test_redirects_are_not_followed() -> None:
    """Whoever moved must be named anew: a redirect could point at us."""
    port = Port(httpx.Response(307, headers={"location": "https://10.0.0.1/"}))
    with pytest.raises(Impossible, match=r"redirects \(307\)"):
        await webhooks(port).post("demo", URL, {}, KEY)
    assert len(port.requests) == 1


class Endless(httpx.AsyncByteStream):
    def __init__(self) -> None:
        self.given = 0
        self.closed = False

    async def __aiter__(self) -> Any:
        while True:
            self.given += 1_000
            yield b"x" * 1_000

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize("length", [None, str(ANSWER_BYTES_MAX + 1), "9" * 30, "-1", "²"])
async def test_long_answers_are_not_read(length: str | None) -> None:
    """An answer without end, or that says that it is long, costs nothing; its status counts all the same."""
    for status in (200, 404):
        endless = Endless()
        headers = [] if length is None else [(b"content-length", length.encode())]
        hooks = webhooks(Port(httpx.Response(status, headers=headers, stream=endless)))
        with contextlib.suppress(Impossible):
            assert await hooks.post("demo", URL, {}, KEY) == 200
        assert (endless.given, endless.closed) == (0, True)


async def test_a_host_that_does_not_answer_is_not_waited_for(autojump_clock: MockClock) -> None:
    """After `webhook_s` it counts as failed."""
    port = Port()
    port.gate = trio.Event()
    with pytest.raises(Transient, match="did not answer within 10 s"):
        await webhooks(port).post("demo", URL, {}, KEY)


async def test_a_host_that_keeps_failing_is_left_alone(autojump_clock: MockClock) -> None:
    """After so many failures no call is made until the rest is over; then one is, and all is well again."""
    port = Port(*[500] * LIMITS.breaker_failures, 200)
    outside = Outside(LIMITS)
    hooks = webhooks(port, outside=outside)
    for _ in range(LIMITS.breaker_failures):
        with pytest.raises(Transient, match="answers 500"):
            await hooks.post("demo", URL, {}, KEY)
    with pytest.raises(Transient, match="failed 5 times in a row and is left alone") as caught:
        await hooks.post("demo", URL, {}, KEY)
    assert (caught.value.retry_after_s, len(port.requests)) == (LIMITS.breaker_rest_s, 5)
    assert outside.states() == {"closed": 0, "open": 1, "half-open": 0}
    await trio.sleep(LIMITS.breaker_rest_s)
    assert await hooks.post("demo", URL, {}, KEY) == 200
    assert (outside.states()["closed"], outside.opened) == (1, 1)


async def test_refusals_are_no_failures_of_the_host() -> None:
    """A host that answers, be it with a refusal, is well."""
    hooks = webhooks(Port(404))
    for _ in range(3 * LIMITS.breaker_failures):
        with pytest.raises(Impossible, match="404"):
            await hooks.post("demo", URL, {}, KEY)


async def test_a_slow_host_takes_no_others_room(autojump_clock: MockClock) -> None:
    """At most so many calls to a host at once; one more is told to come back, and other hosts are called meanwhile."""
    port, outside = Port(), Outside(LIMITS)
    port.gate = trio.Event()
    hooks = webhooks(port, outside=outside)
    async with trio.open_nursery() as nursery:
        for _ in range(LIMITS.webhooks_per_host_max):
            nursery.start_soon(hooks.post, "demo", URL, {}, KEY)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Full):
            await hooks.post("demo", URL, {}, KEY)
        with outside.call("other.example"):
            pass
        port.gate.set()
    assert len(port.requests) == LIMITS.webhooks_per_host_max


async def test_a_call_that_was_cancelled_says_nothing(autojump_clock: MockClock) -> None:
    """The trial after a rest that was cancelled is somebody else's, and its place is free."""
    outside = Outside(replace(LIMITS, breaker_failures=1))
    with pytest.raises(Transient), outside.call("a"):
        raise Transient("no")
    await trio.sleep(LIMITS.breaker_rest_s)
    with trio.move_on_after(1), outside.call("a"):
        await trio.sleep(5)
    with outside.call("a"):
        assert outside.states()["half-open"] == 1


def test_hosts_are_remembered_within_a_bound() -> None:
    """Of many hosts those that fail are remembered longest."""
    outside = Outside(LIMITS, now_s=lambda: 0.0)
    with pytest.raises(Transient), outside.call("bad"):
        raise Transient("no")
    for n in range(2 * HOSTS_MAX):
        with outside.call(f"h{n}"):
            pass
    assert sum(outside.states().values()) == HOSTS_MAX
    assert "bad" in outside._hosts


# -- jobs -------------------------------------------------------------------------------------------------------------------


class FakeOrders:
    def __init__(self) -> None:
        self.given: list[tuple[Any, ...]] = []
        self.error: Exception | None = None
        self.answer = Answer(range(3, 4), 0, False)

    def wall(self) -> float:
        return NOW_S

    async def command(self, *args: Any, **more: Any) -> Answer:
        self._give("command", *args, more["via"])
        return self.answer

    async def send(self, *args: Any) -> int:
        self._give("send", *args)
        return 7

    async def notify(self, *args: Any) -> int:
        self._give("notify", *args)
        return 8

    def _give(self, *what: Any) -> None:
        if self.error is not None:
            raise self.error
        self.given.append(what)


def task(**body: Any) -> Task:
    return Task(1, "job", "demo", "k", "", 0, "claimed", 1, 0, "", {"key": KEY, **body}, {}, False, 0)


async def run(orders: FakeOrders, port: Port | None = None, **body: Any) -> Outcome:
    deeds = Deeds(orders, webhooks(port or Port()))  # type: ignore[arg-type]  # a stand-in
    return await JobRunner(deeds, lambda: 0.5).run(task(**body), None)  # type: ignore[arg-type]  # it holds nothing


COMMAND: dict[str, Any] = {"do": "command", "stream": "flight:QX1", "type": "gate", "body": {"a": 1}, "via": ["rule"]}


@pytest.mark.parametrize(
    ("body", "given"),
    [
        (COMMAND, ("command", "demo", "flight:QX1", "gate", {"a": 1}, KEY, ("rule",))),
        (
            {"do": "message", "stream": "flight:QX1", "text": "hello"},
            ("send", "demo", "flight:QX1", "message", {"text": "hello"}, KEY),
        ),
        (
            {"do": "message", "stream": "flight:QX1", "body": {"text": "hello", "via": ["r"]}},
            ("send", "demo", "flight:QX1", "message", {"text": "hello", "via": ["r"]}, KEY),
        ),
        (
            {"do": "notify", "to": "user:amy", "text": "hello"},
            ("notify", "demo", "user:amy", "notice", {"text": "hello"}, KEY),
        ),
    ],
)
async def test_what_a_job_does(body: dict[str, Any], given: tuple[Any, ...]) -> None:
    """Each is done under the job's own key, so that done twice it is done once."""
    orders = FakeOrders()
    assert (await run(orders, **body)).state == "done"
    assert orders.given == [given]


async def test_a_webhook_job() -> None:
    """The answer's status is kept with the task."""
    port = Port()
    outcome = await run(FakeOrders(), port, do="webhook", url=URL, body={"a": 1})
    assert outcome.state == "done"
    assert outcome.body is not None
    assert outcome.body["did"] == "answered 200"
    assert orjson.loads(port.requests[0].content) == {"a": 1}


async def test_a_refused_command_is_done_and_says_why() -> None:
    """The log keeps the verdict under the key, so that trying again would change nothing."""
    orders = FakeOrders()
    orders.answer = Answer(range(0), 0, False, Refusal("wrong_state", "it has left"))
    outcome = await run(orders, **COMMAND)
    assert (outcome.state, outcome.reason) == ("done", "refused: wrong_state: it has left")
    assert outcome.body is not None
    assert outcome.body["refused"] == {"reason": "wrong_state", "message": "it has left"}


async def test_what_is_impossible_parks_with_its_reason() -> None:
    """No such stream, no such deed, nothing to do it with: an operator's."""
    orders = FakeOrders()
    orders.error = Impossible("there is no stream flight:QX1")
    assert await run(orders, **COMMAND) == Outcome("parked", "there is no stream flight:QX1")
    assert (await run(orders, do="dance")).reason == (
        "nobody knows how to do 'dance'; there are command, message, notify, webhook"
    )
    assert "lacks something: KeyError: 'stream'" in (await run(FakeOrders(), do="message", text="x")).reason


async def test_a_host_without_room_costs_no_attempt() -> None:
    """The job waits a moment, and that is no failure."""
    orders, port = FakeOrders(), Port(Full("4 calls", 0.25))
    outcome = await run(orders, port, do="webhook", url=URL, body={})
    assert (outcome.state, outcome.reason, outcome.after_s) == ("waiting", "", 0.375)


def test_each_place_has_its_lane() -> None:
    """What goes to one place from one stream keeps its order; what cannot go there holds up nothing else."""

    def lane(**body: Any) -> str:
        return job("demo", "k", 0, body, "flight:QX1", 7).lane

    assert lane(do="command", stream="flight:QX1", type="gate") == lane(do="message", stream="flight:QX1") == "7"
    assert lane(do="command", stream="flight:QX1", type="timer.set") == "7 timers"
    assert lane(do="command", stream="flight:QX2", type="gate") == "7 flight:QX2"
    assert lane(do="message", stream="chat:ops") == "7 chat:ops"
    assert lane(do="notify", to="user:amy") == "7 user:amy"
    assert lane(do="webhook", url=URL) == "7 hooks.example"
    assert lane(do="webhook", url="https://[::1") == "7 "
    assert host_of(5) == ""  # type: ignore[arg-type]  # a rule's text can be anything
