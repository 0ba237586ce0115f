"""What the commands of `gateway.cli_work_tools` do, at the database. Does not: print."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson
import trio

from core.flight import times
from core.saga_kinds import problem
from core.work import KINDS, Parked, Task, Work
from gateway.cli_errors import USAGE, CliError
from gateway.cli_run import new_key
from gateway.cli_tools import database
from gateway.config import Config
from gateway.keyring import load_secrets
from gateway.work import sagas as running
from gateway.work.webhooks import shown_secret
from gateway.work_desk import shown
from store.postgres import PostgresLog, open_postgres_log

T = TypeVar("T")

PAGE = 1_000
LETTERS_MAX = 10_000
BEHIND_MAX = 1_000
"""Events behind a parked stream that are counted."""


class Letter(NamedTuple):
    """``behind``: events of the stream, or tasks of the lane, that wait for it."""

    id: str
    tenant: str
    what: str
    since: str
    attempts: int
    behind: int
    reason: str


def at_work(config: Config, do: Callable[[PostgresLog], Awaitable[T]]) -> T:
    async def main() -> T:
        async with database(config) as url, open_postgres_log(url, new_key=new_key) as log:
            return await do(log)

    return trio.run(main)


def now_ms() -> int:
    return int(1000 * time.time())


async def all_tasks(
    work: Work, kind: str, *, tenant: str | None = None, state: str | None = None, limit: int
) -> list[Task]:
    found: list[Task] = []
    while len(found) < limit:
        after = found[-1].id if found else 0
        page = await work.tasks(kind, tenant=tenant, state=state, limit=min(PAGE, limit - len(found)), after=after)
        found += page
        if len(page) < PAGE:
            break
    return found


async def one_task(work: Work, id: int) -> Task:
    for kind in KINDS:
        page = await work.tasks(kind, limit=1, after=id - 1)
        if page and page[0].id == id:
            return page[0]
    raise CliError(f"there is no task {id}, or it was done long ago")


# -- dead letters -----------------------------------------------------------------------------------------------------------


def letters(config: Config, tenant: str | None) -> list[Letter]:
    return at_work(config, lambda log: letters_of(log, log.work, tenant))


async def letters_of(log: Any, work: Work, tenant: str | None) -> list[Letter]:
    found = []
    for parked in await work.parked(tenant=tenant, limit=LETTERS_MAX):
        events = await log.read(parked.tenant, parked.sid, parked.seq - 1, BEHIND_MAX)
        what = f"{parked.stream} seq {parked.seq}" + (" (to be retried)" if parked.retry else "")
        id = f"stream:{parked.consumer}/{parked.sid}"
        letter = Letter(
            id,
            parked.tenant,
            what,
            times.write(parked.since_ms),
            parked.attempts,
            max(len(events) - 1, 0),
            parked.reason,
        )
        found.append((parked.since_ms, letter))
    for kind in KINDS:
        tasks = await all_tasks(work, kind, tenant=tenant, state="parked", limit=LETTERS_MAX)
        waiting = await all_tasks(work, kind, tenant=tenant, state="waiting", limit=LETTERS_MAX) if tasks else []
        for task in tasks:
            behind = [one for one in waiting if task.lane and (one.tenant, one.lane) == (task.tenant, task.lane)]
            letter = Letter(
                f"task:{task.id}", task.tenant, f"{kind} {task.key}", times.write(task.made_ms), task.attempts, len(behind),
                task.reason,
            )  # fmt: skip
            found.append((task.made_ms, letter))
    return [letter for _, letter in sorted(found)]


def parse(id: str) -> tuple[str, int] | int:
    """(consumer, sid) of a stream, or a task's number."""
    kind, _, rest = id.partition(":")
    consumer, _, number = rest.rpartition("/")
    if kind == "task" and rest.isdecimal():
        return int(rest)
    if kind == "stream" and consumer and number.isdecimal():
        return consumer, int(number)
    raise CliError(
        f"{id!r} is no such id; they look like stream:rules/123 or task:45, as `readback dlq list` shows", USAGE
    )


def letter(config: Config, id: str) -> dict[str, Any]:
    return at_work(config, lambda log: letter_of(log, log.work, parse(id)))


async def letter_of(log: Any, work: Work, id: tuple[str, int] | int) -> dict[str, Any]:
    if isinstance(id, int):
        return task_facts(await one_task(work, id))
    parked = await _parked(work, *id)
    events = await log.read(parked.tenant, parked.sid, parked.seq - 1, 1)
    facts = parked._asdict() | {"since": times.write(parked.since_ms)}
    del facts["since_ms"]
    if events and events[0].seq == parked.seq:
        event = events[0]
        facts["event"] = {
            "type": event.type,
            "by": event.by,
            "at": times.write(event.at_ms),
            "body": None if event.body is None else orjson.loads(event.body),
        }
    return facts


async def _parked(work: Work, consumer: str, sid: int) -> Parked:
    for parked in await work.parked(consumer, limit=LETTERS_MAX):
        if parked.sid == sid:
            return parked
    raise CliError(f"the consumer {consumer} does not wait with a stream {sid}")


def retry(config: Config, id: str, *, skip: bool) -> str:
    return at_work(config, lambda log: retry_of(log.work, parse(id), skip=skip))


async def retry_of(work: Work, id: tuple[str, int] | int, *, skip: bool) -> str:
    if isinstance(id, int):
        if skip:
            raise CliError(
                "--skip is for streams; a task that is not to be done is dropped: `readback dlq drop`", USAGE
            )
        task = await one_task(work, id)
        if not await work.tell(id, "retry"):
            raise CliError(f"task {id} is {task.state}; only a parked one can be retried")
        return f"task {id} is tried again, now"
    parked = await _parked(work, *id)
    await work.ask_retry(*id, skip=skip)
    at = parked.seq + 1 if skip else parked.seq
    return (
        f"{parked.stream} is taken on from seq {at} within a worker's beat; `readback dlq list` says if it fails again"
    )


def drop(config: Config, id: str) -> str:
    number = parse(id)
    assert isinstance(number, int)
    return at_work(config, lambda log: drop_of(log.work, number))


async def drop_of(work: Work, id: int) -> str:
    task = await one_task(work, id)
    if not await work.tell(id, "drop"):
        raise CliError(f"task {id} is {task.state}; only one that is parked or waits can be dropped")
    return f"task {id} is given up: it will not be done"


# -- sagas ------------------------------------------------------------------------------------------------------------------


def saga_facts(task: Task) -> dict[str, Any]:
    facts = shown(task)
    return {
        "id": facts.id,
        "tenant": task.tenant,
        "kind": facts.kind,
        "key": facts.key,
        "state": facts.ended or facts.state,
        "next": ("undo " if facts.next and facts.compensating else "") + facts.next,
        "reason": facts.reason,
        "deadline": times.write(facts.deadline_ms),
        "made": times.write(facts.made_ms),
        "steps": facts.marks,
        "data": task.body.get("data", {}),
    }


def sagas(config: Config, tenant: str | None, *, ended: bool) -> list[dict[str, Any]]:
    return at_work(config, lambda log: sagas_of(log.work, tenant, ended=ended))


async def sagas_of(work: Work, tenant: str | None, *, ended: bool) -> list[dict[str, Any]]:
    found = await all_tasks(work, running.KIND, tenant=tenant, limit=LETTERS_MAX)
    return [saga_facts(task) for task in found if ended or task.state not in ("done", "dropped")]


async def find_saga(work: Work, id: str, tenant: str | None) -> Task:
    found = None
    if id.isdecimal():
        found = await running.by_id(work, int(id), tenant)
    if found is None and tenant is not None:
        found = await running.find(work, tenant, id)
    if found is None:
        raise CliError(
            f"there is no saga {id}; by its key it is found with --tenant, and `readback saga list --all` has all"
        )
    return found


def saga(config: Config, id: str, tenant: str | None) -> dict[str, Any]:
    async def do(log: PostgresLog) -> dict[str, Any]:
        return saga_facts(await find_saga(log.work, id, tenant))

    return at_work(config, do)


def read_json(file: Path) -> Any:
    try:
        return orjson.loads(sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes())
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise CliError(f"{file} is no JSON: {error}", USAGE) from None


def start(config: Config, tenant: str, kind: str, key: str, data: Any, deadline_s: float) -> str:
    return at_work(config, lambda log: start_of(log.work, tenant, kind, key, data, deadline_s))


async def start_of(work: Work, tenant: str, kind: str, key: str, data: Any, deadline_s: float) -> str:
    wrong = problem(kind, key, data)
    if wrong:
        raise CliError(wrong, USAGE)
    before = await running.find(work, tenant, key)
    if before is None:
        await work.add([running.new_saga(tenant, kind, key, data, now_ms(), deadline_s)])
    found = before or await running.find(work, tenant, key)
    assert found is not None
    return f"saga {found.id} was started before, and is {found.state}" if before else f"saga {found.id} is started"


def resume_saga(config: Config, id: str, tenant: str | None, *, past: bool) -> str:
    return at_work(config, lambda log: resume_of(log.work, id, tenant, past=past))


async def resume_of(work: Work, id: str, tenant: str | None, *, past: bool) -> str:
    task = await find_saga(work, id, tenant)
    said = _said(task, await running.resume(work, task, now_ms(), past=past), "goes on")
    return said + await _now(work, task)


def abort_saga(config: Config, id: str, tenant: str | None) -> str:
    return at_work(config, lambda log: abort_of(log.work, id, tenant))


async def abort_of(work: Work, id: str, tenant: str | None) -> str:
    task = await find_saga(work, id, tenant)
    said = _said(task, await running.abort(work, task, now_ms()), "turns back: what was done is undone")
    return said + await _now(work, task)


async def _now(work: Work, task: Task) -> str:
    """One that is written anew has another number."""
    found = await running.find(work, task.tenant, task.key)
    return "" if found is None or found.id == task.id else f"; its number is {found.id} now"


def _said(task: Task, said: running.Said, done: str) -> str:
    if said == "ended":
        raise CliError(f"the saga {task.key} has ended: {task.body.get('ended', task.state)}")
    if said == "running":
        raise CliError(f"a worker has the saga {task.key} in hand right now; try again in a moment")
    return f"the saga {task.key} {done}"


# -- tasks ------------------------------------------------------------------------------------------------------------------


def task_facts(task: Task) -> dict[str, Any]:
    facts = task._asdict() | {"due": times.write(max(task.due_ms, 0)), "made": times.write(task.made_ms)}
    del facts["due_ms"], facts["made_ms"]
    return facts


def tasks(config: Config, kind: str | None, state: str | None, tenant: str | None, limit: int) -> list[dict[str, Any]]:
    if kind is not None and kind not in KINDS:
        raise CliError(f"there is no kind of task {kind!r}; there are {', '.join(KINDS)}", USAGE)
    states = ("waiting", "claimed", "parked", "done", "dropped")
    if state is not None and state not in states:
        raise CliError(f"there is no state {state!r}; there are {', '.join(states)}", USAGE)

    async def do(log: PostgresLog) -> list[dict[str, Any]]:
        found: list[Task] = []
        for each in KINDS if kind is None else (kind,):
            found += await all_tasks(log.work, each, tenant=tenant, state=state, limit=limit)
        return [task_facts(task) for task in sorted(found, key=lambda task: task.id)]

    return at_work(config, do)


def task(config: Config, id: int) -> dict[str, Any]:
    async def do(log: PostgresLog) -> dict[str, Any]:
        return task_facts(await one_task(log.work, id))

    return at_work(config, do)


def cancel(config: Config, id: int) -> str:
    return at_work(config, lambda log: cancel_of(log.work, id))


async def cancel_of(work: Work, id: int) -> str:
    task = await one_task(work, id)
    if not await work.tell(id, "cancel"):
        raise CliError(f"task {id} is {task.state}; only one that runs or waits can be cancelled")
    return f"task {id} stops at its next step" if task.state == "claimed" else f"task {id} will not be done"


def webhook_secrets(config: Config, tenant: str) -> list[str]:
    keys = load_secrets(config).webhook_keys
    if not keys:
        raise CliError("there are no `webhook_keys` in the secrets file yet: add one, and webhooks are signed with it")
    return [shown_secret(key, tenant) for key in keys.values()]


def lag(config: Config, consumer: str | None) -> list[dict[str, Any]]:
    return at_work(config, lambda log: lag_of(log.work, consumer))


async def lag_of(work: Work, consumer: str | None) -> list[dict[str, Any]]:
    cursors = await work.cursors(consumer)
    if not cursors and (known := {cursor.consumer for cursor in await work.cursors(None)}):
        raise CliError(f"there is no consumer {consumer!r}; there are {', '.join(sorted(known))}", USAGE)
    return [
        {
            "consumer": cursor.consumer,
            "partition": cursor.partition,
            "pos": cursor.pos,
            "behind": cursor.head - cursor.pos,
            "holder": cursor.holder,
            "moved": times.write(cursor.at_ms),
        }
        for cursor in cursors
    ]
