"""The shapes of what the read models and the past are answered with. What the documents hold, docs/read-models.md says.

As `gateway.http_models`: for the OpenAPI document; answers are written as bytes by the routes.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from gateway.http_models import example

_SEQ = "the last fact in this; 0: there was none"
_BEHIND = "positions of the log that the read model has yet to take; 0: it has all. null: folded from the log itself"


class AsOfModel(BaseModel):
    model_config = example({"valid_at": "2026-11-21T06:40:00.000Z", "recorded_at": None})

    valid_at: str | None
    recorded_at: str | None


class FlightStateModel(BaseModel):
    model_config = example(
        {"flight": "QX12-20261121", "seq": 7, "as_of": None, "state": {"flight": "QX12", "status": "departed"}}
    )

    flight: str
    seq: int = Field(description=_SEQ)
    as_of: AsOfModel | None = Field(description="null: as it is now")
    state: dict[str, Any] = Field(
        description="as docs/flights.md has it; its `status` is `new` where nothing was known"
    )


class FlightRowsModel(BaseModel):
    """A flight's passengers, seats or crew."""

    model_config = example(
        {
            "flight": "QX12-20261121",
            "seq": 31,
            "behind": 0,
            "as_of": None,
            "rows": [{"passenger": "p-17", "name": "Ann", "status": "checked_in", "seat": "12A"}],
        }
    )

    flight: str
    seq: int = Field(description=_SEQ)
    behind: int | None = Field(description=_BEHIND)
    as_of: AsOfModel | None = Field(description="null: as it is now")
    rows: list[dict[str, Any]]


class ListingModel(BaseModel):
    """Rows of many flights."""

    model_config = example(
        {
            "rows": [{"key": "QX12-20261121", "seq": 7, "flight": "QX12", "from": "SYD", "to": "MEL"}],
            "next": None,
            "behind": 0,
        }
    )

    rows: list[dict[str, Any]] = Field(description="each with its `key`, and the `seq` it is as of in its own stream")
    next: str | None = Field(description="pass it as `after` to go on; null: there is no more")
    behind: int = Field(description="positions of the log that the read model has yet to take, in all")


class CrewStateModel(BaseModel):
    model_config = example({"crew": "c7", "seq": 12, "as_of": None, "state": {"status": "registered", "duties": []}})

    crew: str
    seq: int = Field(description=_SEQ)
    as_of: AsOfModel | None = Field(description="null: as it is now")
    state: dict[str, Any] = Field(description="duties, totals and rest, as docs/flights.md has it")
