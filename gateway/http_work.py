"""The HTTP API's routes for sagas and for what rules did. As `gateway.http_routes`; in an app only where there are workers."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from core.flight import times
from core.work import Firing
from gateway.http_models import STREAM_PATTERN, example
from gateway.http_routes import Who, json_answer, problems
from gateway.work_service import SagaFacts, WorkService

DEADLINE_MAX_S = 7 * 86_400
FIRINGS_MAX = 1_000
KEY_PATTERN = r"^[A-Za-z0-9._~-]{1,48}$"
RULE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def _work(request: Request) -> WorkService:
    return cast(WorkService, request.app.state.work)


Work = Annotated[WorkService, Depends(_work)]

router = APIRouter()


class StartSaga(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "kind": "seat_swap",
                    "key": "swap-4711",
                    "data": {
                        "a": {"flight": "QX12-20261121", "passenger": "p-17"},
                        "b": {"flight": "QX14-20261121", "passenger": "p-23"},
                    },
                }
            ]
        },
    )

    kind: str = Field(max_length=64, description="cancel_and_rebook, seat_swap or aircraft_substitution")
    key: str = Field(
        pattern=KEY_PATTERN, description="your name for it, in its address: who repeats it gets the same saga"
    )
    data: dict[str, Any] = Field(description="what it is about; docs/workers.md says what each kind needs")
    deadline_s: float | None = Field(
        None, gt=0, le=DEADLINE_MAX_S, description="if it is not done by then it is undone; an hour where left out"
    )


class SagaModel(BaseModel):
    model_config = example(
        {
            "id": 12,
            "kind": "seat_swap",
            "key": "swap-4711",
            "state": "parked",
            "ended": "",
            "next": "b out",
            "compensating": False,
            "steps": {"look at a": "done", "look at b": "done", "a out": "done"},
            "reason": "step 'b out': there is no stream flight:QX14-20261121.seats",
            "attempts": 1,
            "deadline": "2026-11-21T07:40:00.000Z",
            "made": "2026-11-21T06:40:00.000Z",
        }
    )

    id: int
    kind: str
    key: str
    state: str = Field(description="waiting, claimed (by a worker, now), parked (an operator is needed), done, dropped")
    ended: str = Field(description="done: all of it; undone: none of it; empty: it has not ended")
    next: str = Field(description="the step that is next, undone where it is compensating")
    compensating: bool = Field(description="whether it is on its way back")
    steps: dict[str, str] = Field(description="done, met (found as it should be), skipped, or undone, by step")
    reason: str
    attempts: int = Field(description="failures in a row of the next step")
    deadline: str = Field(json_schema_extra={"format": "date-time"})
    made: str = Field(json_schema_extra={"format": "date-time"})


class FiringModel(BaseModel):
    model_config = example(
        {
            "rule": "no-boarding",
            "version": "1",
            "stream": "flight:QX12-20261121",
            "seq": 9,
            "at": "2026-11-21T06:40:00.000Z",
            "verdict": "fired",
            "inputs": {"severity": "warning", "flight": {"status": "scheduled"}},
            "actions": [{"kind": "message", "stream": "flight:QX12-20261121"}],
        }
    )

    rule: str
    version: str
    stream: str
    seq: int = Field(description="of the event that it is about")
    at: str = Field(json_schema_extra={"format": "date-time"})
    verdict: str = Field(description="fired, suppressed, held, not_effective, error or loop")
    inputs: dict[str, Any] = Field(description="what it was judged by; `reason` where it did not fire")
    actions: list[dict[str, Any]]


class FiringsModel(BaseModel):
    firings: list[FiringModel]


def _shown(saga: SagaFacts) -> dict[str, Any]:
    return {
        "id": saga.id,
        "kind": saga.kind,
        "key": saga.key,
        "state": saga.state,
        "ended": saga.ended,
        "next": saga.next,
        "compensating": saga.compensating,
        "steps": saga.marks,
        "reason": saga.reason,
        "attempts": saga.attempts,
        "deadline": times.write(saga.deadline_ms),
        "made": times.write(saga.made_ms),
    }


def _fired(firing: Firing) -> dict[str, Any]:
    return {
        "rule": firing.rule,
        "version": firing.version,
        "stream": firing.stream,
        "seq": firing.seq,
        "at": times.write(firing.at_ms),
        "verdict": firing.verdict,
        "inputs": firing.inputs,
        "actions": firing.actions,
    }


@router.post(
    "/v1/sagas",
    status_code=201,
    tags=["sagas"],
    operation_id="startSaga",
    summary="Start a saga",
    response_model=SagaModel,
    responses={
        200: {"model": SagaModel, "description": "it was started before, and this is how it is"},
        **problems("forbidden", "conflict", "too_large"),
    },
)
async def start_saga(request: StartSaga, work: Work, who: Who) -> Response:
    """Steps in several streams that end all done or all undone. Needs a token with role `admin` or `service`. It goes on by
    itself; ask for it by its `key`."""
    saga, made = await work.start_saga(who, request.kind, request.key, request.data, request.deadline_s)
    headers = {"Location": f"/v1/sagas/{saga.key}"} if made else {}
    answer = json_answer(_shown(saga), 201 if made else 200)
    answer.headers.update(headers)
    return answer


@router.get(
    "/v1/sagas/{key}",
    tags=["sagas"],
    operation_id="readSaga",
    summary="How far a saga is",
    response_model=SagaModel,
    responses=problems("forbidden", "not_found"),
)
async def read_saga(key: Annotated[str, Path(pattern=KEY_PATTERN)], work: Work, who: Who) -> Response:
    """Kept for a week after its end. Needs a token with role `admin` or `service`."""
    return json_answer(_shown(await work.saga(who, key)))


@router.get(
    "/v1/rules/firings",
    tags=["rules"],
    operation_id="listFirings",
    summary="What rules did, and why",
    response_model=FiringsModel,
    responses=problems("forbidden"),
)
async def list_firings(
    work: Work,
    who: Who,
    rule: Annotated[str | None, Query(pattern=RULE_PATTERN, description="of this rule only")] = None,
    stream: Annotated[str | None, Query(pattern=STREAM_PATTERN, description="in this stream only")] = None,
    limit: Annotated[int, Query(ge=1, le=FIRINGS_MAX)] = 100,
) -> Response:
    """The newest first, each with its inputs, its rule's version and its verdict. Needs a token with role `admin` or
    `service`: it may show what was said in any stream of the tenant."""
    return json_answer({"firings": [_fired(firing) for firing in await work.firings(who, rule, stream, limit)]})
