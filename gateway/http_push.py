"""The HTTP API's routes for phones that are to be pushed to. As `gateway.http_routes`; in an app only where tracks are kept."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, Field

from core.flight import times
from core.tracks import Push
from gateway.http_models import RequestModel, example
from gateway.http_routes import Who, json_answer, problems
from gateway.push.desk import PushDesk
from gateway.service import WireError

TOKEN_PATTERN = r"^[A-Za-z0-9_:.~-]{16,1024}$"
APP_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,154}$"
_PUSH: dict[str, Any] = {
    "service": "apns",
    "token": "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0",
    "app": "example.buses",
    "at": "2026-11-21T06:40:00.000Z",
}


def _desk(request: Request) -> PushDesk:
    return cast(PushDesk, request.app.state.pushes)


Desk = Annotated[PushDesk, Depends(_desk)]

router = APIRouter()


class RegisterPush(RequestModel):
    model_config = example({name: value for name, value in _PUSH.items() if name != "at"})

    service: Literal["fcm", "apns"] = Field(description="fcm: Firebase Cloud Messaging; apns: Apple's")
    token: str = Field(pattern=TOKEN_PATTERN, description="the phone's, as the service gave it to the app")
    app: str = Field(pattern=APP_PATTERN, description="the app's bundle id (its APNs topic) or package name")


class PushModel(BaseModel):
    model_config = example(_PUSH)

    service: Literal["fcm", "apns"]
    token: str
    app: str
    at: str = Field(description="when it was registered last", json_schema_extra={"format": "date-time"})


class PushesModel(BaseModel):
    pushes: list[PushModel]


def _shown(push: Push) -> dict[str, str]:
    return {"service": push.service, "token": push.token, "app": push.app, "at": times.write(push.at_ms)}


@router.post(
    "/v1/me/pushes",
    status_code=201,
    tags=["pushes"],
    operation_id="registerPush",
    summary="Have alerts pushed to this phone",
    response_model=PushModel,
    responses=problems("forbidden"),
)
async def register_push(request: RegisterPush, desk: Desk, who: Who) -> Response:
    """Repeat it whenever the app starts: a service may give a phone another token, and only the app learns of it. A token is of
    who registered it last; of more than ten of one principal the oldest go."""
    return json_answer(_shown(await desk.register(who, request.service, request.token, request.app)), 201)


@router.get(
    "/v1/me/pushes",
    tags=["pushes"],
    operation_id="listPushes",
    summary="One's own phones",
    response_model=PushesModel,
    responses=problems(),
)
async def list_pushes(desk: Desk, who: Who) -> Response:
    """The newest first. Tokens that their service called dead are gone."""
    return json_answer({"pushes": [_shown(push) for push in await desk.pushes(who)]})


@router.delete(
    "/v1/me/pushes/{token}",
    status_code=204,
    tags=["pushes"],
    operation_id="dropPush",
    summary="Have no more pushed to a phone",
    responses=problems("not_found"),
)
async def drop_push(
    token: Annotated[
        str,
        Path(
            pattern=TOKEN_PATTERN,
            description="as it was registered",
            openapi_examples={"token": {"value": _PUSH["token"]}},
        ),
    ],
    desk: Desk,
    who: Who,
) -> Response:
    """When its user signs out, or wants it no more."""
    if not await desk.drop(who, token):
        raise WireError("not_found", "no phone of yours is registered with this token")
    return Response(status_code=204)
