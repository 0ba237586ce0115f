"""gateway.cli_work_tools, gateway.work_tools: what waits for an operator is told with its reason; their word is heard."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
from typer.testing import CliRunner, Result

from core.model import Entry
from core.work import Effects, NewTask, Parked
from gateway import cli, work_tools
from gateway.config import Config, Secrets
from gateway.work.sagas import new_saga
from gateway.work.webhooks import shown_secret
from store.memory import MemoryLog
from store.memory_work import MemoryWork
from tests.nodes import memory_log

SWAP = {"a": {"flight": "QX1", "passenger": "p1"}, "b": {"flight": "QX2", "passenger": "p2"}}


def now_ms() -> int:
    return int(1000 * time.time())


class Store:
    """A log in memory with its work, as the commands see one in Postgres."""

    def __init__(self) -> None:
        self.log: MemoryLog = memory_log()
        self.work = MemoryWork(self.log, now_ms)
        self.read = self.log.read

    def at_work(self, config: Config, do: Callable[[Any], Awaitable[Any]]) -> Any:
        return trio.run(do, self)

    async def park_stream(self) -> int:
        facts = await self.log.create_stream("demo", "flight:QX1", open=True, members=[], by="service:test")
        for n in range(4):
            body = orjson.dumps({"n": n})
            entry = Entry("demo", facts.sid, str(uuid.uuid4()), "message", "user:amy", body, privileged=True)
            await self.log.append([entry])
        leases = await self.work.beat("w1", ["rules"], 60_000)
        lease = next(lease for lease in leases if lease.partition == facts.partition)
        parked = Parked(
            "rules", "demo", facts.sid, "flight:QX1", facts.partition, 2, 2, "ValueError: bad\n\x1b[31mone", 1, 0, False
        )
        await self.work.commit(lease, 4, Effects(parks=[parked]))
        return facts.sid

    async def park_task(self, key: str, kind: str = "job", reason: str = "no such hook") -> int:
        await self.work.add([NewTask(kind, "demo", f"{key}{n}", 1, {"do": "webhook"}, lane=key) for n in range(3)])
        (task,) = [task for task in await self.work.claim("w1", kind, 10, 60_000) if task.lane == key]
        await self.work.settle(task, state="parked", reason=reason, failed=True)
        return task.id

    async def park_saga(self, key: str = "swap") -> int:
        await self.work.add([new_saga("demo", "seat_swap", key, SWAP, 1, 60.0)])
        (task,) = await self.work.claim("w1", "saga", 1, 60_000)
        await self.work.settle(task, state="parked", reason="step 'look at a': there is no stream", failed=True)
        return task.id


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store()
    monkeypatch.setattr(work_tools, "at_work", made.at_work)
    return made


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli.app, list(arguments), input=stdin, env={"COLUMNS": "200"})


def said(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code in (0, 1), done.output
    return orjson.loads(done.stdout)


def test_nothing_waits(store: Store) -> None:
    """Where all is well nothing is on standard output, and a script sees 0."""
    done = run("dlq", "list")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "nothing waits for an operator" in done.stderr


def test_dead_letters_are_one_list(store: Store) -> None:
    """Streams and tasks with their reason, how many wait behind them, and 1 for a script; nothing of theirs is a command to
    the terminal."""
    sid = trio.run(store.park_stream)
    task = trio.run(store.park_task, "lane")
    letters = {letter["id"]: letter for letter in said("dlq", "list")}
    assert letters.keys() == {f"stream:rules/{sid}", f"task:{task}"}
    stream = letters[f"stream:rules/{sid}"]
    assert (stream["what"], stream["behind"], stream["attempts"]) == ("flight:QX1 seq 2", 2, 1)
    assert (letters[f"task:{task}"]["behind"], letters[f"task:{task}"]["reason"]) == (2, "no such hook")
    done = run("dlq", "list")
    assert done.exit_code == 1
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 3
    assert said("dlq", "list", "--tenant", "acme") == []


def test_one_of_them_with_all_that_is_known(store: Store) -> None:
    """Of a stream the event that it stopped at, of a task its body."""
    sid = trio.run(store.park_stream)
    task = trio.run(store.park_task, "lane")
    assert said("dlq", "show", f"stream:rules/{sid}")["event"]["body"] == {"n": 1}
    assert said("dlq", "show", f"task:{task}")["body"] == {"do": "webhook"}
    assert "flight:QX1" in run("dlq", "show", f"stream:rules/{sid}").stdout


def test_a_stream_is_retried_or_goes_on_past_the_event(store: Store) -> None:
    """The store is told, and whoever runs `dlq list` sees that it will be."""
    sid = trio.run(store.park_stream)
    done = run("dlq", "retry", f"stream:rules/{sid}")
    assert done.stdout.startswith("flight:QX1 is taken on from seq 2")
    assert said("dlq", "list")[0]["what"] == "flight:QX1 seq 2 (to be retried)"
    assert "from seq 3" in run("dlq", "retry", f"stream:rules/{sid}", "--skip").stdout


def test_a_task_is_retried_or_dropped(store: Store) -> None:
    """A parked task waits again or is done with; what cannot be said of its state is explained."""
    task = trio.run(store.park_task, "lane")
    assert run("dlq", "retry", f"task:{task}").stdout == f"task {task} is tried again, now\n"
    again = run("dlq", "retry", f"task:{task}")
    assert (again.exit_code, "only a parked one can be retried" in again.stderr) == (3, True)
    assert run("dlq", "drop", f"task:{task}", stdin="n\n").exit_code == 1
    assert run("dlq", "drop", f"task:{task}", "--yes").stdout == f"task {task} is given up: it will not be done\n"
    assert "only one that is parked or waits" in run("dlq", "drop", f"task:{task}", "--yes").stderr
    assert run("dlq", "list").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("dlq", "show", "45"), 2, "they look like stream:rules/123 or task:45"),
        (("dlq", "show", "stream:rules"), 2, "they look like"),
        (("dlq", "show", "task:99"), 3, "there is no task 99"),
        (("dlq", "show", "stream:rules/9"), 3, "does not wait with a stream 9"),
        (("dlq", "drop", "stream:rules/9"), 2, "retry --skip"),
        (("dlq", "retry", "task:9", "--skip"), 2, "--skip is for streams"),
        (("saga", "show", "9"), 3, "There is no saga 9"),
        (("saga", "abort", "9"), 3, "There is no saga 9"),
        (("jobs", "list", "--kind", "dance"), 2, "there are timer, job, saga, long"),
        (("jobs", "list", "--state", "odd"), 2, "there are waiting, claimed"),
        (("jobs", "cancel", "9"), 3, "There is no task 9"),
        (("saga", "start", "seat_swap", "nowhere.json", "--key", "k", "--tenant", "demo"), 3, "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said(store: Store, arguments: tuple[str, ...], code: int, says: str) -> None:
    """One sentence that says what is and what to do, and the code for whose fault it is."""
    done = run(*arguments)
    assert (done.exit_code, says.lower() in done.stderr.lower()) == (code, True), done.stderr


def test_a_saga_is_started_from_a_file_once(store: Store, tmp_path: Path) -> None:
    """Who starts it again with the same key is told how it is; data that cannot be used start nothing."""
    file = tmp_path / "swap.json"
    file.write_bytes(orjson.dumps(SWAP))
    start = ("saga", "start", "seat_swap", str(file), "--key", "swap", "--tenant", "demo")
    assert run(*start).stdout == "saga 1 is started\n"
    assert run(*start).stdout == "saga 1 was started before, and is waiting\n"
    file.write_bytes(b"{}")
    wrong = run("saga", "start", "seat_swap", str(file), "--key", "other", "--tenant", "demo")
    assert (wrong.exit_code, "`a` must be {flight, passenger" in wrong.stderr) == (2, True)
    file.write_bytes(b"{")
    assert "is no JSON" in run(*start).stderr
    (saga,) = said("saga", "list")
    assert (saga["kind"], saga["state"], saga["next"]) == ("seat_swap", "waiting", "look at a")


def test_a_parked_saga_is_resumed_passed_by_or_aborted(store: Store) -> None:
    """By its number or its key; each word is in what is kept, and a saga that has ended takes none."""
    id = trio.run(store.park_saga)
    assert said("saga", "show", str(id))["reason"] == "step 'look at a': there is no stream"
    assert run("saga", "resume", "swap", "--tenant", "demo").stdout == "the saga swap goes on; its number is 2 now\n"
    (saga,) = said("saga", "list")
    assert (saga["state"], saga["next"]) == ("waiting", "look at a")
    assert run("saga", "resume", str(saga["id"]), "--past").exit_code == 0
    (saga,) = said("saga", "list")
    assert (saga["next"], saga["steps"]) == ("look at b", {"look at a": "met"})
    assert "turns back" in run("saga", "abort", str(saga["id"])).stdout
    assert "seat_swap" in run("saga", "list", "--all").stdout


def test_a_saga_that_a_worker_has_is_not_written_over(store: Store) -> None:
    """It is asked to turn back, and cannot be resumed while somebody has it in hand."""

    async def claimed() -> int:
        await store.work.add([new_saga("demo", "seat_swap", "swap", SWAP, 1, 60.0)])
        (task,) = await store.work.claim("w1", "saga", 1, 60_000)
        return task.id

    id = trio.run(claimed)
    assert "in hand right now" in run("saga", "resume", str(id)).stderr
    assert "turns back" in run("saga", "abort", str(id)).stdout


def test_tasks_are_listed_shown_and_cancelled(store: Store) -> None:
    """By kind and state; one that waits is dropped, one that runs is asked to stop."""
    trio.run(store.park_task, "lane")
    assert [task["state"] for task in said("jobs", "list", "--kind", "job")] == ["parked", "waiting", "waiting"]
    assert [task["key"] for task in said("jobs", "list", "--state", "waiting")] == ["lane1", "lane2"]
    assert "lane1" in run("jobs", "list").stdout
    assert run("jobs", "cancel", "2").stdout == "task 2 will not be done\n"
    assert said("jobs", "show", "2")["state"] == "dropped"
    assert "lane1" in run("jobs", "show", "2").stdout
    assert "only one that runs or waits" in run("jobs", "cancel", "2").stderr


def test_lag_says_who_is_where(store: Store) -> None:
    """Each partition of each consumer, with how far it is behind and who holds it."""
    assert run("lag").exit_code == 0
    trio.run(store.park_stream)
    cursors = said("lag", "rules")
    assert {cursor["holder"] for cursor in cursors} == {"w1"}
    assert sum(cursor["pos"] for cursor in cursors) == 4
    assert sum(cursor["behind"] for cursor in cursors) == 0
    assert "rules" in run("lag").stdout
    unknown = run("lag", "rulez")
    assert unknown.exit_code == 2
    assert "there is no consumer 'rulez'; there are rules" in unknown.stderr.replace("There", "there")


def test_webhook_secrets_are_of_a_tenant(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each key of the installation, newest first; without any key it says what to add."""
    keys = {"w2": b"2" * 32, "w1": b"1" * 32}
    monkeypatch.setattr(work_tools, "load_secrets", lambda config: Secrets({}, {}, webhook_keys=keys))
    done = run("jobs", "webhook-secret", "--tenant", "demo")
    assert done.stdout.split() == [shown_secret(key, "demo") for key in keys.values()]
    monkeypatch.setattr(work_tools, "load_secrets", lambda config: Secrets({}, {}))
    assert "no `webhook_keys`" in run("jobs", "webhook-secret", "--tenant", "demo").stderr
