"""gateway.loader: many ask, one query answers, and what it answers is true when it arrives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.lowlevel

from core.hub import Hub
from core.limits import Limits
from core.model import Mark, Member
from core.ports import Unavailable
from gateway import loader as loader_module
from gateway.loader import Loader
from store.memory import MemoryLog
from tests.nodes import memory_log

AMY = ("demo", "chat:a", "user:amy")


class Bench:
    """A loader over a log in memory; ``between`` runs while a query is on its way, after it read."""

    def __init__(self) -> None:
        self.log = memory_log()
        self.hub = Hub(16, Limits(), fetch=lambda stream, after: None, fill=lambda stream: None)
        self.loader = Loader(self.log, self.hub)
        self.between: list[Callable[[], Awaitable[object]]] = []
        read = self.log.open_streams

        async def open_streams(asked: object) -> object:
            facts = await read(asked)  # type: ignore[arg-type]
            await trio.lowlevel.checkpoint()
            if self.between:
                await self.between.pop(0)()
            return facts

        self.log.open_streams = open_streams  # type: ignore[method-assign, assignment]

    async def start(self, nursery: trio.Nursery) -> None:
        await self.log.create_stream(
            "demo", "chat:a", open=False, members=[Member("user:amy", "member")], by="user:amy"
        )
        nursery.start_soon(self.loader.run)

    async def change(self, role: str | None) -> None:
        """A membership change, shown to the hub as the node would."""
        if role is None:
            event = await MemoryLog.remove_member(self.log, "demo", "chat:a", "user:amy", "user:boss")
        else:
            put = await MemoryLog.put_member(self.log, "demo", "chat:a", "user:amy", role, "user:boss")
            assert put is not None
            event = put
        self.hub.ingest_events(event.partition, [event], 0.0)

    def role(self) -> str | None:
        return self.hub.by_name["demo", "chat:a"].roles.get("user:amy", "unknown")


async def test_all_who_ask_together_share_a_query(nursery: trio.Nursery) -> None:
    """Fifty connections at once: one query for the first, one for all who came meanwhile."""
    bench = Bench()
    await bench.start(nursery)
    async with trio.open_nursery() as many:
        for n in range(50):
            many.start_soon(bench.loader.load, [AMY, ("demo", f"chat:none{n % 3}", "user:amy")])
    assert bench.loader.queries <= 2
    assert list(bench.hub.by_name) == [("demo", "chat:a")]
    assert bench.role() == "member"


async def test_more_than_a_batch_is_asked_in_parts(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many streams: no query is larger than `BATCH_MAX`."""
    monkeypatch.setattr(loader_module, "BATCH_MAX", 2)
    bench = Bench()
    await bench.start(nursery)
    async with trio.open_nursery() as many:
        many.start_soon(bench.loader.load, [("demo", f"chat:x{n}", "user:amy") for n in range(3)] + [AMY])
        many.start_soon(bench.loader.load, [("demo", f"chat:y{n}", "user:amy") for n in range(2)])
    assert bench.role() == "member"
    assert bench.loader.queries >= 3


async def test_facts_that_a_change_overtook_are_asked_again(nursery: trio.Nursery) -> None:
    """Removed while the answer was under way: the old answer is not believed, the next one is."""
    bench = Bench()
    await bench.start(nursery)
    bench.between.append(lambda: bench.change(None))
    await bench.loader.load([AMY])
    assert bench.loader.queries == 2
    assert bench.role() is None


async def test_a_change_between_the_answer_and_who_waits_for_it(nursery: trio.Nursery) -> None:
    """The role was read, forgotten at once because it changed, and its asker took that for "no part in it"."""
    bench = Bench()
    await bench.start(nursery)
    load = bench.hub.load

    def load_then_forget(*args: object) -> list[bool]:
        believed = load(*args)  # type: ignore[arg-type]
        bench.hub.load = load  # type: ignore[method-assign]
        bench.hub.by_name["demo", "chat:a"].roles.pop("user:amy")  # as the hub does for a member.role event
        return believed

    bench.hub.load = load_then_forget  # type: ignore[method-assign, assignment]
    await bench.loader.load([AMY])
    assert (bench.role(), bench.loader.queries) == ("member", 2)


async def test_membership_that_never_rests_is_a_trouble(nursery: trio.Nursery) -> None:
    """Ten answers overtaken in a row: unavailable, not for ever."""
    bench = Bench()
    await bench.start(nursery)
    bench.between += [lambda role=role: bench.change(role) for role in ("owner", "reader") * 10]  # type: ignore[misc]
    with pytest.raises(Unavailable, match="membership"):
        await bench.loader.load([AMY])


async def test_markers_come_with_the_stream(nursery: trio.Nursery) -> None:
    """A stream is known together with its stored markers, asked once."""
    bench = Bench()
    await bench.start(nursery)
    await bench.log.put_member("demo", "chat:a", "user:bob", "member", "user:boss")
    await bench.log.save_marks("demo", [Mark(1, "user:bob", 1, 1)])
    await bench.loader.load([AMY])
    await bench.loader.load([("demo", "chat:a", "user:bob")])
    assert bench.hub.by_name["demo", "chat:a"].marks == {"user:bob": (1, 1)}
    assert bench.log.calls["load_marks"] == 1


async def test_markers_that_could_not_be_read_are_not_forgotten(nursery: trio.Nursery) -> None:
    """The log failed between facts and markers: the stream was then known without markers until it was let go."""
    bench = Bench()
    await bench.start(nursery)
    await bench.log.put_member("demo", "chat:a", "user:bob", "member", "user:boss")
    await bench.log.save_marks("demo", [Mark(1, "user:bob", 1, 1)])
    bench.log.fail_next("unavailable", "load_marks")
    with pytest.raises(Unavailable):
        await bench.loader.load([AMY])
    await bench.loader.load([AMY])
    assert bench.hub.by_name["demo", "chat:a"].marks == {"user:bob": (1, 1)}


async def test_a_log_that_is_away_is_told_to_all_who_wait(nursery: trio.Nursery) -> None:
    """Everyone of the query hears it, the next query is a new try, and nothing is remembered of the failed one."""
    bench = Bench()
    await bench.start(nursery)
    bench.log.down = "stopped"
    failures = []

    async def ask() -> None:
        try:
            await bench.loader.load([AMY])
        except Unavailable as error:
            failures.append(str(error))

    async with trio.open_nursery() as many:
        for _ in range(3):
            many.start_soon(ask)
    assert failures == ["stopped"] * 3
    bench.log.down = None
    await bench.loader.load([AMY])
    assert bench.role() == "member"
    assert bench.hub._loading == 0
