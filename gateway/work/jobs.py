"""Jobs: what a rule, a timer or a saga wants done, each under a key that makes it the same when done twice.

A job's body says what to ``do``:

- ``command``: ``stream``, ``type``, ``body``, ``key``, ``via``, ``not_before_ms`` (as of when it is decided at the earliest).
  One that is refused is done: the log keeps its verdict under the key, and the task its reason.
- ``message``: ``stream``, ``body`` (or ``text``), ``key``, ``type`` (``message``)
- ``notify``: ``to`` (a principal, whose inbox it goes to), ``body`` (or ``text``), ``key``, ``type`` (``notice``)
- ``webhook``: ``url``, ``body``, ``key``
- ``look``: ``stream``, a trip whose arrival times are to be looked at now (`gateway.arrivals`)
- ``push``: to somebody's phone, as `gateway.push.sender` has it; it comes of alerts alone

What comes of one stream and goes to one place is done in its order, one after the other. An inbox that is not there, a host
that is away, a command that its rule wrote wrongly hold up what goes there, and not the timers by which rules wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from core.commands import Answer
from core.work import NewTask, Task
from gateway.work.orders import Impossible, Orders
from gateway.work.outside import Full
from gateway.work.ports import DONE, Hold, Outcome
from gateway.work.webhooks import Webhooks, host_of

if TYPE_CHECKING:
    from gateway.push.sender import Pusher

PUSH: Final = "push"
KIND: Final = "job"
REASON_MAX: Final = 300


class Did(NamedTuple):
    """``answer`` is a command's, ``says`` what became of anything else."""

    answer: Answer | None = None
    says: str = ""


def lane_of(stream: str, sid: int, body: Mapping[str, Any]) -> str:
    """Of a job that comes of a stream: one for each place that it goes to, and one for the stream's timers."""
    if body["do"] == "webhook":
        return f"{sid} {host_of(body['url'])}"
    if body["do"] == "command" and body["type"].startswith("timer."):
        return f"{sid} timers"
    to = body["to"] if body["do"] == "notify" else body["stream"]
    return str(sid) if to == stream else f"{sid} {to}"


def job(tenant: str, key: str, due_ms: int, body: dict[str, Any], stream: str, sid: int) -> NewTask:
    """A job that comes of a stream; ``key`` is the task's, the body has its own."""
    return NewTask(KIND, tenant, key, due_ms, body, lane=lane_of(stream, sid, body))


def look_at(tenant: str, stream: str, key: str, due_ms: int) -> NewTask:
    """A job that has a trip looked at; of those under one key the last word counts."""
    return NewTask(KIND, tenant, key, due_ms, {"do": "look", "stream": stream}, replace=True)


class Deeds:
    """What can be done. Raises `Transient` and `Impossible`."""

    def __init__(
        self, orders: Orders, webhooks: Webhooks, look: Callable[[str, str], Awaitable[None]] | None = None
    ) -> None:
        self.orders = orders
        self.webhooks = webhooks
        self._look = look

    async def do(self, tenant: str, what: Mapping[str, Any], key: str) -> Did:
        try:
            return await self._do(tenant, what, key)
        except (KeyError, TypeError, AttributeError) as error:
            raise Impossible(f"what is to be done lacks something: {type(error).__name__}: {error}") from error

    async def _do(self, tenant: str, what: Mapping[str, Any], key: str) -> Did:
        orders, verb = self.orders, what["do"]
        if verb == "command":
            answer = await orders.command(
                tenant,
                what["stream"],
                what["type"],
                what.get("body", {}),
                key,
                via=tuple(what.get("via", ())),
                not_before_ms=what.get("not_before_ms", 0),
            )
            return Did(answer)
        if verb == "message":
            seq = await orders.send(tenant, what["stream"], what.get("type", "message"), _said(what), key)
            return Did(says=f"{what['stream']} seq {seq}")
        if verb == "notify":
            seq = await orders.notify(tenant, what["to"], what.get("type", "notice"), _said(what), key)
            return Did(says=f"{what['to']} seq {seq}")
        if verb == "webhook":
            return Did(says=f"answered {await self.webhooks.post(tenant, what['url'], what.get('body', {}), key)}")
        if verb == "look" and self._look is not None:
            await self._look(tenant, what["stream"])
            return Did(says="looked")
        raise Impossible(f"nobody knows how to do {verb!r}; there are command, message, notify, webhook")


def _said(what: Mapping[str, Any]) -> dict[str, Any]:
    body = what.get("body")
    return dict(body) if isinstance(body, Mapping) else {"text": what["text"]}


class JobRunner:
    """``pushes`` does what is to be pushed; without it such a job is parked."""

    kind = KIND

    def __init__(self, deeds: Deeds, uniform: Callable[[], float], pushes: Pusher | None = None) -> None:
        self._deeds = deeds
        self._uniform = uniform
        self._pushes = pushes

    async def run(self, task: Task, hold: Hold) -> Outcome:
        if task.body.get("do") == PUSH:
            if self._pushes is None:
                return Outcome(
                    "parked", "this worker has no keys for pushes: fcm_service_account, apns_key in the secrets"
                )
            return await self._pushes.run(task, hold)
        try:
            did = await self._deeds.do(task.tenant, task.body, task.body.get("key", ""))
        except Full as full:
            return Outcome("waiting", after_s=(full.retry_after_s or 0.0) * (1.0 + self._uniform()))
        except Impossible as error:
            return Outcome("parked", str(error)[:REASON_MAX])
        if did.answer is None:
            return Outcome("done", body={**task.body, "did": did.says})
        refusal = did.answer.refusal
        if refusal is None:
            return DONE
        why = {"reason": refusal.reason, "message": refusal.message}
        return Outcome(
            "done", f"refused: {refusal.reason}: {refusal.message}"[:REASON_MAX], body={**task.body, "refused": why}
        )
