"""Pushes over real HTTP/2 and TLS to stand-ins that enforce Apple's and Google's rules; only the hour is made up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from core.push.alert import Alert, Note
from core.push.rules import SENT, PushLimits, Verdict, refused
from core.tracks import Push
from gateway.config import Config, ConfigError, Secrets
from gateway.push.make import pushing_of, services_of
from gateway.push.services import PushService
from tests.nodes import until
from tests.push_servers import APP, CUT, DRIP, HANG, KEY_ID, TEAM, Answer, Clock, Phones, Stand, pem, standing

IPHONE = Push("apns", "00fc13adff785122b4ad28809a342098", APP, 0)
ANDROID = Push("fcm", "fGci:APA91b-17", APP, 0)
KEY = "0b5e7c1e-4f57-8d8a-9a53-3c1f0c8f2f11"
SHORT = replace(PushLimits(), call_s=1.25)


class Scene:
    def __init__(self, stand: Stand, clock: Clock) -> None:
        self.stand = stand
        self.clock = clock
        self.made = stand.services()

    def again(self, limits: PushLimits | None = None) -> None:
        """As a worker that begins anew, or another one."""
        self.made = self.stand.services(limits)

    @property
    def apns(self) -> PushService:
        return self.made.by_name["apns"]

    @property
    def fcm(self) -> PushService:
        return self.made.by_name["fcm"]

    def note(self, key: str = KEY) -> Note:
        until_ms = self.clock.now_ms + 600_000
        return Note(Alert("trip:9", "home", 600, until_ms, "Home", "", ""), key, "eta-1", until_ms)


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    clock = Clock()
    async with standing(folder, clock) as stand:
        stand.apple.apps[IPHONE.token] = stand.google.apps[ANDROID.token] = APP
        yield Scene(stand, clock)


async def test_an_iphone_is_pushed_to(tmp_path: Path) -> None:
    """By HTTP/2, once, with all that Apple demands; fifty at once go over the one connection."""
    async with scene(tmp_path) as at:
        assert await at.apns.send(IPHONE, at.note()) == SENT
        (got,) = at.stand.apple.got
        assert (got.body["trip"], got.headers["apns-topic"]) == ("trip:9", APP)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(at.apns.send, IPHONE, at.note())
        assert (len(at.stand.apple.got), at.stand.apple.connections, at.stand.broke) == (11, 1, [])


async def test_an_android_phone_is_pushed_to(tmp_path: Path) -> None:
    """With an access token that was bought once, however many ask for it at once."""
    async with scene(tmp_path) as at:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(at.fcm.send, ANDROID, at.note())
        google = at.stand.google
        assert (len(google.got), google.asked_for_tokens, at.stand.broke) == (10, 1, [])
        assert google.got[0].body["android"]["ttl"] == "600s"


async def test_one_provider_token_for_all(tmp_path: Path) -> None:
    """For half a day, by three workers of which one begins anew at every push: never more than one in twenty minutes."""
    async with scene(tmp_path) as at:
        workers = [at.stand.services() for _ in range(3)]
        for n in range(120):
            at.clock.now_s += 360
            if n % 3 == 2:
                workers[2] = at.stand.services()
            assert await workers[n % 3].by_name["apns"].send(IPHONE, at.note()) == SENT
        apple = at.stand.apple
        gaps = [after - before for before, after in zip(apple.updates, apple.updates[1:], strict=False)]
        assert (len(apple.got), at.stand.broke) == (120, [])
        assert all(1_200 <= gap <= 3_600 for gap in gaps), gaps


async def test_a_provider_token_that_expired_is_renewed_once(tmp_path: Path) -> None:
    """With the next request of the same push, where the old one is twenty minutes old; a second refusal is final."""
    async with scene(tmp_path) as at:
        apple, expired = at.stand.apple, Answer(403, {"reason": "ExpiredProviderToken"})
        at.clock.now_s += 2_400 + 300 - at.clock.now_s % 2_400
        assert await at.apns.send(IPHONE, at.note()) == SENT
        apple.answers.append(expired)
        found = await at.apns.send(IPHONE, at.note())
        assert (found.what, found.after_s) == ("later", 900.0)
        at.clock.now_s += 1_200
        apple.answers.append(expired)
        assert await at.apns.send(IPHONE, at.note()) == SENT
        assert (len(apple.updates), apple.broke) == (2, [])
        at.clock.now_s += 2_400
        apple.answers += [expired, expired]
        assert await at.apns.send(IPHONE, at.note()) == refused("403 ExpiredProviderToken with a new provider token")


async def test_an_access_token_is_renewed(tmp_path: Path) -> None:
    """Before it ends; at once where it is not taken; and a second refusal is final."""
    async with scene(tmp_path) as at:
        google = at.stand.google
        for _ in range(20):
            assert await at.fcm.send(ANDROID, at.note()) == SENT
            at.clock.now_s += 600
        assert (google.asked_for_tokens, at.stand.broke) == (4, [])
        google.issued.clear()  # withdrawn
        assert await at.fcm.send(ANDROID, at.note()) == SENT
        no = Answer(401, {"error": {"code": 401, "status": "UNAUTHENTICATED"}})
        google.answers += [no, no]
        assert await at.fcm.send(ANDROID, at.note()) == refused("401 UNAUTHENTICATED with a new access token")


async def test_a_withdrawn_account_is_not_asked_with_again(tmp_path: Path) -> None:
    """For half a minute; a token endpoint that is in trouble is asked later."""
    async with scene(tmp_path) as at:
        google = at.stand.google
        google.token_answers.append(Answer(400, {"error": "invalid_grant"}))
        for _ in range(5):
            found = await at.fcm.send(ANDROID, at.note())
            assert (found.what, "no access token: 127.0.0.1 answers 400" in found.reason) == ("refused", True)
        assert google.asked_for_tokens == 1
        at.clock.now_s += 31
        google.token_answers.append(Answer(503, None, {"retry-after": "7"}))
        found = await at.fcm.send(ANDROID, at.note())
        assert (found.what, found.after_s) == ("later", 7.0)
        at.clock.now_s += 31
        google.token_answers.append(Answer(200, {"no": "token"}))
        assert (await at.fcm.send(ANDROID, at.note())).what == "refused"
        at.clock.now_s += 31
        assert await at.fcm.send(ANDROID, at.note()) == SENT


@pytest.mark.parametrize(
    ("spoil", "verdict"),
    [
        (
            lambda stand: stand.apple.gone.update({IPHONE.token: 5_000}),
            Verdict("dead", "Unregistered", before_ms=5_000),
        ),
        (lambda stand: stand.apple.apps.clear(), Verdict("dead", "BadDeviceToken")),
        (lambda stand: stand.apple.apps.update({IPHONE.token: "x.y"}), refused("400 DeviceTokenNotForTopic")),
        (
            lambda stand: stand.apple.answers.append(Answer(429, {"reason": "TooManyRequests"}, {"retry-after": "20"})),
            Verdict("later", "429 TooManyRequests", 20.0),
        ),
        (
            lambda stand: stand.apple.answers.append(Answer(503, {"reason": "ServiceUnavailable"})),
            Verdict("later", "503 ServiceUnavailable", 900.0),
        ),
    ],
)
async def test_what_apple_says(tmp_path: Path, spoil: Callable[[Stand], None], verdict: Verdict) -> None:
    """Its own errors become the verdicts that its documents ask for."""
    async with scene(tmp_path) as at:
        spoil(at.stand)
        assert await at.apns.send(IPHONE, at.note()) == verdict


@pytest.mark.parametrize(
    ("spoil", "verdict"),
    [
        (lambda stand: stand.google.gone.add(ANDROID.token), Verdict("dead", "UNREGISTERED")),
        (lambda stand: stand.google.apps.clear(), refused("400 INVALID_ARGUMENT")),
        (lambda stand: stand.google.apps.update({ANDROID.token: "x.y"}), refused("400 INVALID_ARGUMENT")),
        (lambda stand: stand.google.senders.add(ANDROID.token), refused("403 SENDER_ID_MISMATCH")),
        (
            lambda stand: stand.google.answers.append(Answer(429, None, {"retry-after": "20"})),
            Verdict("later", "429", 20.0),
        ),
        (lambda stand: stand.google.answers.append(Answer(429)), Verdict("later", "429", 60.0)),
        (lambda stand: stand.google.answers.append(Answer(503)), Verdict("later", "503")),
    ],
)
async def test_what_google_says(tmp_path: Path, spoil: Callable[[Stand], None], verdict: Verdict) -> None:
    """Its own errors become the verdicts that its documents ask for."""
    async with scene(tmp_path) as at:
        spoil(at.stand)
        assert await at.fcm.send(ANDROID, at.note()) == verdict


async def test_no_answer(tmp_path: Path) -> None:
    """A connection that is cut or silent is left: the next push takes a new one, and has the same id where it is the same."""
    async with scene(tmp_path) as at:
        at.again(SHORT)
        apple = at.stand.apple
        for fate in (CUT, HANG):
            apple.answers.append(fate)
            found = await at.apns.send(IPHONE, at.note())
            assert (found.what, found.after_s) == ("later", None), found
            assert await at.apns.send(IPHONE, at.note()) == SENT
        assert (len(apple.got), apple.connections, len(apple.shown)) == (4, 3, 1)
        assert len({got.headers["apns-id"] for got in apple.got}) == 1


async def test_an_answer_without_end(tmp_path: Path) -> None:
    """Is left after `call_s`, though bytes keep coming: the client's own timeouts are of each wait alone."""
    async with scene(tmp_path) as at:
        at.again(replace(PushLimits(), call_s=1.1))
        at.stand.apple.answers.append(DRIP)
        found = await at.apns.send(IPHONE, at.note())
        assert found == Verdict("later", "127.0.0.1 did not answer within 1.1 s")
        assert await at.apns.send(IPHONE, at.note()) == SENT


async def test_a_token_endpoint_that_is_away(tmp_path: Path) -> None:
    """Is trouble on the way, which passes."""
    async with scene(tmp_path) as at:
        google = at.stand.google
        google.token_answers.append(CUT)
        found = await at.fcm.send(ANDROID, at.note())
        assert (found.what, "cannot be reached" in found.reason) == ("later", True)
        assert await at.fcm.send(ANDROID, at.note()) == SENT


async def test_who_asked_with_an_old_token_takes_the_new_one(tmp_path: Path) -> None:
    """Of two pushes whose token had expired, one renews it and the other goes on with that: nothing is renewed twice."""
    async with scene(tmp_path) as at:
        at.clock.now_s += 2_400 + 1_500 - at.clock.now_s % 2_400
        expired = Answer(403, {"reason": "ExpiredProviderToken"})
        at.stand.apple.answers += [expired, expired]
        found: list[Verdict] = []

        async def send() -> None:
            found.append(await at.apns.send(IPHONE, at.note()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            nursery.start_soon(send)
        assert (found, len(at.stand.apple.updates), at.stand.broke) == ([SENT, SENT], 1, [])


async def test_a_service_that_fails_is_left_alone(tmp_path: Path) -> None:
    """After five failures in a row nothing goes out for a while, and whoever wants to is told so at once."""
    async with scene(tmp_path) as at:
        apple = at.stand.apple
        apple.answers += [Answer(500)] * 5
        for _ in range(5):
            assert (await at.apns.send(IPHONE, at.note())).what == "later"
        found = await at.apns.send(IPHONE, at.note())
        assert (found.what, "is left alone" in found.reason, apple.asked) == ("later", True, 5)
        assert at.made.outside.states()["open"] == 1
        assert await at.fcm.send(ANDROID, at.note()) == SENT


async def test_calls_at_once_are_bounded(tmp_path: Path) -> None:
    """Who finds no room is told to come back, and no attempt is counted."""
    async with scene(tmp_path) as at:
        at.again(replace(PushLimits(), calls_per_host_max=1))
        at.stand.apple.answers.append(HANG)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at.apns.send, IPHONE, at.note())
            await at.stand.apple.came.wait()
            found = await at.apns.send(IPHONE, at.note())
            assert (found.what, found.counts) == ("later", False)
            nursery.cancel_scope.cancel()


async def test_a_call_that_was_cancelled_at_any_moment_spoils_no_other(tmp_path: Path) -> None:
    """Also while its connection is opened: the client would then count its streams wrong, and fail whoever comes next."""
    async with scene(tmp_path) as at:
        for steps in range(0, 600, 20):
            at.again()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(at.apns.send, IPHONE, at.note())
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            found: list[Verdict] = []

            async def send(found: list[Verdict] = found) -> None:
                found.append(await at.apns.send(IPHONE, at.note()))

            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(send)
            # Cut amid what it writes of itself, a connection is broken: that is tried again, under the same id.
            assert {verdict.what for verdict in found} <= {"sent", "later"}, steps
            assert await at.apns.send(IPHONE, at.note()) == SENT, steps
        assert at.stand.broke == []


async def test_who_waits_for_a_connection_that_another_opens_is_answered(tmp_path: Path) -> None:
    """Though the other is cancelled, at whatever moment: or it tries again, and is refused nothing."""
    async with scene(tmp_path) as at:
        ends: list[Verdict] = []

        async def send() -> None:
            ends.append(await at.apns.send(IPHONE, at.note()))

        for steps in range(0, 400, 20):
            at.again()
            async with trio.open_nursery() as nursery, trio.open_nursery() as other:
                other.start_soon(at.apns.send, IPHONE, at.note())
                await trio.lowlevel.checkpoint()
                nursery.start_soon(send)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                other.cancel_scope.cancel()
            assert await at.apns.send(IPHONE, at.note()) == SENT, steps
        assert {verdict.what for verdict in ends} <= {"sent", "later"}
        assert at.stand.broke == []


async def test_a_call_that_hangs_and_is_cancelled_costs_no_connection(tmp_path: Path) -> None:
    """The next goes over the one that they shared, beside another that hangs on."""
    async with scene(tmp_path) as at:
        apple = at.stand.apple
        assert await at.apns.send(IPHONE, at.note()) == SENT
        apple.answers += [HANG, HANG]
        found: list[Verdict] = []

        async def send() -> None:
            found.append(await at.apns.send(IPHONE, at.note()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await until(lambda: len(apple.answers) < 2)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as other:
                    other.start_soon(send)
                    await until(lambda: not apple.answers)
                    scope.cancel()
            assert await at.apns.send(IPHONE, at.note()) == SENT
            assert apple.connections == 1
            nursery.cancel_scope.cancel()
        assert (found, at.stand.broke) == ([], [])


async def test_a_long_answer_is_not_kept(tmp_path: Path) -> None:
    """Its status is enough, and the connection goes on."""
    async with scene(tmp_path) as at:
        at.stand.apple.answers.append(Answer(400, {"reason": "x" * 20_000}))
        assert await at.apns.send(IPHONE, at.note()) == refused("400")
        assert await at.apns.send(IPHONE, at.note()) == SENT
        assert at.stand.apple.connections == 1


async def test_nobody_there_and_nobody_trusted(tmp_path: Path) -> None:
    """A port that is closed and a certificate of a stranger are networks that fail."""
    async with scene(tmp_path) as at:
        config = Config(apns_team=TEAM, apns_key_id=KEY_ID)
        made = services_of(config, at.stand.secrets, at.clock, PushLimits(), bases=at.stand.bases)
        at.stand.made.append(made)
        found = await made.by_name["apns"].send(IPHONE, at.note())
        assert (found.what, "cannot be reached" in found.reason, at.stand.apple.asked) == ("later", True, 0)


@pytest.mark.parametrize(
    ("config", "secrets", "says"),
    [
        ({}, {"apns_key": pem("ES256", "apns").encode()}, "set apns_team and apns_key_id"),
        ({"apns_team": TEAM, "apns_key_id": KEY_ID}, {"apns_key": b"none"}, "no P-256 key"),
        ({"apns_team": TEAM, "apns_key_id": KEY_ID}, {"apns_key": pem("RS256", "").encode()}, "no P-256 key"),
        ({}, {"fcm_service_account": b"{"}, "it is not JSON"),
        (
            {},
            {
                "fcm_service_account": b'{"type":"service_account","project_id":"p","client_email":"e","private_key":"none"}'
            },
            "no RSA key",
        ),
    ],
)
def test_keys_that_cannot_be_used(config: dict[str, str], secrets: dict[str, bytes], says: str) -> None:
    """Are said to be so at the start, by the secret's name, and nothing of them is shown."""
    with pytest.raises(ConfigError, match=says) as caught:
        services_of(Config(**config), Secrets({}, {}, **secrets), Clock(), PushLimits())  # type: ignore[arg-type]
    assert "none" not in str(caught.value)


def test_without_keys_there_are_no_services() -> None:
    """And with Apple's key alone, Apple's; for development where that is set."""
    assert services_of(Config(), Secrets({}, {}), Clock(), PushLimits()).by_name == {}
    secrets = Secrets({}, {}, apns_key=pem("ES256", "apns").encode())
    config = Config(apns_team=TEAM, apns_key_id=KEY_ID, apns_sandbox=True)
    assert list(services_of(config, secrets, Clock(), PushLimits()).by_name) == ["apns"]
    tracks = Phones().tracks
    assert pushing_of(config, secrets, None, Clock()) is None
    assert pushing_of(config, Secrets({}, {}), tracks, Clock()) is None
    made = pushing_of(config, secrets, tracks, Clock())
    assert made is not None
    assert made.tracks is tracks
