"""The port of tracks, sentence by sentence, in memory and in Postgres: samples, last positions, how long they are kept.

Fences, keys of apps and pushes have a file of their own beside this one.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from core.ports import Unavailable
from core.tracks import KEEP_MAX, OLDEST_DAYS, REASON_CHARS_MAX, Last, Tracks
from store.postgres import open_postgres_log
from tests.tracks import DAY, NOW, TRIP, TRUCK, VAN, Couple, last, places, sample, whole

# Samples


async def test_what_is_kept_is_read(couple: Couple) -> None:
    """By another node, with every field, numbers to their last digit, and nothing where nothing was."""
    full = sample(NOW, 7, lat=-33.123456789012345, alt=-12.5, verdict="quarantined", reason="a jump of 3 km – ž")
    bare = sample(NOW + 1, -5, acc=None, speed=None, heading=None, lat=90, lon=-180.0, verdict="degraded")
    await couple.one.keep([bare, full], [])
    assert await whole(couple.two) == [full, bare]


async def test_nothing_is_kept_of_nothing(tracks: Tracks) -> None:
    """And no stream that was never heard of has a track."""
    await tracks.keep([], [])
    assert await whole(tracks) == []
    assert await whole(tracks, stream="trip:never") == []


async def test_what_is_kept_outlives_the_node(couple: Couple) -> None:
    """Everything in Postgres is read by one that connects later."""
    await couple.one.keep([sample()], [last()])
    if couple.database is not None:
        async with open_postgres_log(couple.database.url) as later:
            assert await whole(later.tracks) == [sample()]
            assert await later.tracks.lasts("demo", [TRUCK]) == {TRUCK: last()}


async def test_a_batch_is_of_any_tenants_and_days(tracks: Tracks) -> None:
    """In one commit: some of it days old, some of tomorrow by a clock that is ahead."""
    mixed = [
        sample(NOW - 30 * DAY, taken_ms=NOW),
        sample(NOW - 1, 2, tenant="other"),
        sample(NOW + DAY - 1, 3, taken_ms=NOW),
        sample(NOW - OLDEST_DAYS * DAY, 4, taken_ms=NOW),
    ]
    await tracks.keep(mixed, [last(), last(tenant="other")])
    assert [each.seq for each in await whole(tracks)] == [4, 1, 3]
    assert [each.seq for each in await whole(tracks, "other")] == [2]


async def test_a_track_is_of_a_time(tracks: Tracks) -> None:
    """From its first moment up to the one it ends at, which is not of it."""
    await tracks.keep([sample(NOW + n, n) for n in range(5)], [])
    assert [each.seq for each in await whole(tracks, from_ms=NOW + 1, to_ms=NOW + 3)] == [1, 2]
    assert await whole(tracks, from_ms=NOW + 3, to_ms=NOW + 3) == []
    assert await whole(tracks, from_ms=NOW + 3, to_ms=NOW) == []
    assert len(await whole(tracks, from_ms=-(2**70), to_ms=2**70)) == 5


async def test_a_track_is_in_order(tracks: Tracks) -> None:
    """Of time, then subject, then number, however it came; of one subject where one is asked for."""
    kept = [sample(NOW + n % 3, n, subject=(TRUCK, VAN)[n % 2]) for n in range(30)]
    Random(1).shuffle(kept)
    for batch in (kept[:7], kept[7:]):
        await tracks.keep(batch, [])
    found = await whole(tracks)
    assert places(found) == sorted(places(kept))
    assert await whole(tracks, subject=VAN) == [each for each in found if each.subject == VAN]
    assert await whole(tracks, subject="device:nobody") == []


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
async def test_pages_have_no_gaps_and_nothing_twice(tracks: Tracks, limit: int) -> None:
    """Whatever their size: each goes on past the last place of the one before, also within one moment and over midnight."""
    kept = [sample(NOW - 5 + n // 4, n % 2, subject=(TRUCK, VAN)[n // 2 % 2]) for n in range(40)]
    await tracks.keep(kept + kept[::3], [])
    pages = []
    after: tuple[int, str, int] | None = None
    while page := await whole(tracks, after=after, limit=limit):
        assert len(page) <= limit
        pages += page
        after = places(page)[-1]
    assert places(pages) == sorted(places(kept))


async def test_a_cursor_need_not_be_of_a_sample(tracks: Tracks) -> None:
    """It is a place: what is past it follows, and never what is before ``from_ms``."""
    await tracks.keep([sample(NOW + n, n) for n in range(4)], [])
    assert [each.seq for each in await whole(tracks, after=(NOW + 1, "", -(2**70)))] == [1, 2, 3]
    assert [each.seq for each in await whole(tracks, after=(NOW + 1, "~", 0))] == [2, 3]
    assert [each.seq for each in await whole(tracks, after=(0, "", 0), from_ms=NOW + 3)] == [3]
    assert await whole(tracks, after=(2**70, "", 0)) == []
    assert await whole(tracks, after=(NOW, "device:\0", 0)) == []


async def test_the_newest_of_a_track(tracks: Tracks) -> None:
    """In rising order still; of one subject, past a place, within a time."""
    await tracks.keep([sample(NOW + n, n, subject=(TRUCK, VAN)[n % 2]) for n in range(6)] * 2, [])
    assert [each.seq for each in await whole(tracks, newest=True, limit=3)] == [3, 4, 5]
    assert [each.seq for each in await whole(tracks, newest=True, limit=2, to_ms=NOW + 4)] == [2, 3]
    assert [each.seq for each in await whole(tracks, newest=True, limit=2, subject=TRUCK)] == [2, 4]
    assert [each.seq for each in await whole(tracks, newest=True, after=(NOW + 3, VAN, 3))] == [4, 5]
    assert await whole(tracks, newest=True, limit=0) == []


@pytest.mark.parametrize("limit", [0, -1])
async def test_none_is_asked_for(tracks: Tracks, limit: int) -> None:
    """And none is answered."""
    await tracks.keep([sample()], [])
    assert await whole(tracks, limit=limit) == []


async def test_a_sample_kept_twice_is_read_once(couple: Couple) -> None:
    """Whoever kept it again, and in whatever batch; of two that were judged apart, the one that was taken first."""
    later = sample(NOW, 1, taken_ms=NOW + 900, verdict="degraded", reason="late")
    await couple.two.keep([later, later], [])
    await couple.one.keep([sample(NOW, 1), sample(NOW, 2)], [])
    await couple.two.keep([sample(NOW, 2), later], [])
    assert await whole(couple.one) == [sample(NOW, 1), sample(NOW, 2)]
    assert await whole(couple.one, newest=True) == [sample(NOW, 1), sample(NOW, 2)]


async def test_a_commit_that_was_not_answered_is_repeated(couple: Couple) -> None:
    """It may or may not have had its effect: either way what is read is right."""
    for n, kind in enumerate(("unavailable", "unknown")):
        batch, lasts = [sample(NOW + n, n)], [last(NOW + n)]
        if couple.log is not None:
            couple.log.fail_next(kind, "keep")  # type: ignore[arg-type]
            with pytest.raises(Unavailable):
                await couple.one.keep(batch, lasts)
        else:
            await couple.one.keep(batch, lasts)
        await couple.one.keep(batch, lasts)
    assert [each.seq for each in await whole(couple.one)] == [0, 1]
    assert await couple.one.lasts("demo", [TRUCK]) == {TRUCK: last(NOW + 1)}


@pytest.mark.parametrize("fields", [
    {"tenant": "Demo"}, {"tenant": ""}, {"tenant": "a\0b"}, {"tenant": "a" * 64},
    {"subject": "truck-7"}, {"subject": "device:" + "x" * 129}, {"subject": "device:a\0"},
    {"stream": "9"}, {"stream": "audit:tenant"}, {"stream": "trip:" + "x" * 129},
    {"lat": float("nan")}, {"lat": 90.001}, {"lat": float("-inf")}, {"lon": float("nan")}, {"lon": -180.1},
    {"acc": float("nan")}, {"speed": float("inf")}, {"heading": float("-inf")}, {"alt": float("nan")},
    {"verdict": "rejected"}, {"reason": "a\0b"}, {"reason": "\ud800"}, {"reason": "x" * (REASON_CHARS_MAX + 1)},
    {"at_ms": -1}, {"taken_ms": 2**60}, {"taken_ms": NOW - DAY - 1}, {"taken_ms": NOW + OLDEST_DAYS * DAY + 1},
    {"seq": 2**63}, {"seq": -(2**63)},
])  # fmt: skip
async def test_a_sample_that_no_store_keeps(tracks: Tracks, fields: dict[str, Any]) -> None:
    """Is a mistake of ours: nothing of its batch is written."""
    with pytest.raises(ValueError, match=r"."):
        await tracks.keep([sample(NOW + 1), sample(NOW, 2)._replace(**fields)], [last()])
    assert await whole(tracks) == []
    assert await tracks.lasts("demo", [TRUCK]) == {}


async def test_a_batch_has_a_bound(tracks: Tracks) -> None:
    """Of samples and of last positions: what is more is refused whole."""
    with pytest.raises(ValueError, match="at most 10000 samples"):
        await tracks.keep([sample()] * (KEEP_MAX + 1), [])
    with pytest.raises(ValueError, match="at most 10000 last positions"):
        await tracks.keep([], [last()] * (KEEP_MAX + 1))


# Last positions


async def test_where_somebody_was_last(couple: Couple) -> None:
    """With all that was said of it; of those who were ever believed."""
    await couple.one.keep([], [last(), last(subject=VAN, alt=None, memory={})])
    found = await couple.two.lasts("demo", [VAN, "device:nobody", "no principal", TRUCK])
    assert found == {TRUCK: last(), VAN: last(subject=VAN, alt=None, memory={})}
    assert await couple.two.lasts("demo", []) == {}


async def test_a_last_position_never_goes_back(couple: Couple) -> None:
    """Whatever comes later, from another node, or in the same call; of two of one moment the first stays."""
    await couple.one.keep([], [last(NOW + 1, lat=1.0), last(NOW + 3, lat=3.0), last(NOW + 3, lat=3.2), last(NOW + 2)])
    await couple.two.keep([], [last(NOW + 2, lat=2.5)])
    await couple.two.keep([], [last(NOW + 3, lat=3.5)])
    [found] = (await couple.one.lasts("demo", [TRUCK])).values()
    assert found == last(NOW + 3, lat=3.0)
    await couple.two.keep([], [last(NOW + 4, stream="trip:10")])
    assert (await couple.one.lasts("demo", [TRUCK]))[TRUCK].stream == "trip:10"


async def test_who_is_shown_in_a_stream(couple: Couple) -> None:
    """Those whose last position is of it, by subject: who went on to another is shown there."""
    await couple.one.keep([], [last(subject=VAN), last(), last(subject="user:amy", stream="trip:10")])
    assert [each.subject for each in await couple.two.shown("demo", TRIP)] == [TRUCK, VAN]
    await couple.one.keep([], [last(NOW + 1, stream="trip:10")])
    assert await couple.two.shown("demo", TRIP) == [last(subject=VAN)]
    assert [each.subject for each in await couple.two.shown("demo", "trip:10")] == [TRUCK, "user:amy"]
    assert await couple.two.shown("demo", "no stream") == []


async def test_a_memory_is_what_it_was(tracks: Tracks) -> None:
    """Whatever JSON it is, and whatever becomes of the object that was handed in."""
    memory: dict[str, Any] = {"n": [0, -1.5, 2**53, True, None], "o": {"ž": {}}, "text": "\\u0000 is six characters"}
    await tracks.keep([], [last(memory=memory)])
    memory["n"].append("more")
    found = (await tracks.lasts("demo", [TRUCK]))[TRUCK].memory
    assert found == memory | {"n": memory["n"][:-1]}
    found["n"] = "changed"
    assert (await tracks.lasts("demo", [TRUCK]))[TRUCK].memory["n"] != "changed"


@pytest.mark.parametrize("fields", [
    {"tenant": "Demo"}, {"subject": "x"}, {"stream": "audit:tenant"}, {"lat": float("nan")}, {"verdict": "rejected"},
    {"at_ms": -1}, {"taken_ms": 2**60}, {"memory": {"a": "\0"}}, {"memory": {"a\0": 1}}, {"memory": {"a": [{"b": "\0"}]}},
    {"memory": {"a": "\ud800"}}, {"memory": {"a": object()}}, {"memory": {"a": "x" * 5_000}},
])  # fmt: skip
async def test_a_last_position_that_no_store_keeps(tracks: Tracks, fields: dict[str, Any]) -> None:
    """Is a mistake of ours: nothing of its call is written."""
    with pytest.raises(ValueError, match=r"."):
        await tracks.keep([sample()], [last(subject=VAN), last()._replace(**fields)])
    assert await whole(tracks) == []
    assert await tracks.lasts("demo", [VAN]) == {}


# How long


async def test_samples_are_forgotten_by_tenant(tracks: Tracks) -> None:
    """Each after its own days, to the millisecond; whole days where nobody wants them; who is not named as everybody else."""
    kept = {"short": 1, "long": 10, "rest": 3}
    ages = (0, 1, 2, 3, 4, 9, 10, 11, 12)
    for tenant in kept:
        await tracks.keep([sample(NOW - age * DAY + 5, age, tenant=tenant, taken_ms=NOW) for age in ages], [])
    await tracks.keep([], [last(NOW - 12 * DAY, tenant=tenant) for tenant in kept])
    gone = await tracks.retain({"short": 1, "long": 10}, 3, NOW)
    left = {tenant: sorted(each.seq for each in await whole(tracks, tenant)) for tenant in kept}
    assert left == {"short": [0, 1], "long": [0, 1, 2, 3, 4, 9, 10], "rest": [0, 1, 2, 3]}
    assert gone == 2 + (2 + 3) + (3 + 0), "two days that nobody wants, and rows of those that somebody does"
    assert await tracks.retain({"short": 1, "long": 10}, 3, NOW) == 0
    assert len(await tracks.lasts("rest", [TRUCK])) == 1, "last positions stay"


async def test_a_moment_is_enough(tracks: Tracks) -> None:
    """What is a millisecond too old within a day that stays goes alone, as often as it was kept."""
    await tracks.keep([sample(NOW + 999, 1), sample(NOW + 999, 1), sample(NOW + 1_000, 2)], [])
    assert await tracks.retain({}, 1, NOW + DAY + 1_000) == 2
    assert [each.seq for each in await whole(tracks)] == [2]


async def test_days_that_went_come_again(couple: Couple) -> None:
    """A phone's old fixes after its day was forgotten, at a node that knows nothing of that."""
    old = sample(NOW - 5 * DAY, taken_ms=NOW)
    await couple.one.keep([old], [])
    assert await couple.two.retain({}, 1, NOW) == 1
    assert await whole(couple.one) == []
    await couple.one.keep([old], [last()])
    assert await whole(couple.two) == [old]
    assert await couple.one.lasts("demo", [TRUCK]) == {TRUCK: last()}
    assert await couple.two.retain({}, 1, NOW) == 1


@pytest.mark.parametrize("days", [-1, 10**9])
async def test_a_retention_that_makes_no_sense(tracks: Tracks, days: int) -> None:
    """Is said, and nothing is forgotten."""
    await tracks.keep([sample()], [])
    for call in (({"demo": days}, 1), ({}, days)):
        with pytest.raises(ValueError, match="samples are kept for 0 to"):
            await tracks.retain(*call, NOW)
    assert len(await whole(tracks)) == 1


# Tenants


async def test_nothing_crosses_a_tenant(tracks: Tracks) -> None:
    """The same names in two: each has its own, and who has nothing is answered nothing."""
    await tracks.keep(
        [sample(lat=1.0), sample(lat=2.0, tenant="other")], [last(lat=1.0), last(lat=2.0, tenant="other")]
    )
    for tenant, lat in (("demo", 1.0), ("other", 2.0)):
        assert [(each.tenant, each.lat) for each in await whole(tracks, tenant)] == [(tenant, lat)]
        assert [(each.tenant, each.lat) for each in (await tracks.lasts(tenant, [TRUCK])).values()] == [(tenant, lat)]
        assert [(each.tenant, each.lat) for each in await tracks.shown(tenant, TRIP)] == [(tenant, lat)]
    for stranger in ("void", "", "Demo", "de\0mo", "demo' or true --"):
        assert await whole(tracks, stranger) == []
        assert await tracks.lasts(stranger, [TRUCK]) == {}
        assert await tracks.shown(stranger, TRIP) == []


async def test_the_same_calls_give_the_same_answers(couple: Couple) -> None:
    """Drawn ones, held to what a dict would say."""
    random = Random(7)
    samples: dict[tuple[str, int, str, int], Any] = {}
    lasts: dict[tuple[str, str], Last] = {}
    for _ in range(25):
        batch = [
            sample(NOW + random.randrange(-2, 3) * DAY + random.randrange(3), random.randrange(3), taken_ms=NOW + 2 * DAY,
                   tenant=random.choice(("demo", "other")), subject=random.choice((TRUCK, VAN)))
            for _ in range(random.randrange(8))
        ]  # fmt: skip
        told = [
            last(NOW + random.randrange(30), subject=random.choice((TRUCK, VAN))) for _ in range(random.randrange(3))
        ]
        await random.choice(couple[:2]).keep(batch, told)
        for each in batch:
            samples.setdefault((each.tenant, each.at_ms, each.subject, each.seq), each)
        for told_last in told:
            before = lasts.get(told_last[:2])
            if before is None or told_last.at_ms > before.at_ms:
                lasts[told_last[:2]] = told_last
    for tenant in ("demo", "other"):
        wanted = [samples[place] for place in sorted(samples) if place[0] == tenant]
        assert await whole(couple.two, tenant) == wanted
        for _ in range(20):
            low, high = sorted(NOW + random.randrange(-2, 3) * DAY + random.randrange(4) for _ in range(2))
            within = [each for each in wanted if low <= each.at_ms < high]
            assert await whole(couple.one, tenant, from_ms=low, to_ms=high, limit=5) == within[:5]
            assert await whole(couple.one, tenant, from_ms=low, to_ms=high, limit=5, newest=True) == within[-5:]
    assert await couple.one.lasts("demo", [TRUCK, VAN]) == {each.subject: each for each in lasts.values()}
