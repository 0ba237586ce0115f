"""docs/read-models.md says what is in the rows, how they are keyed, and which routes read them."""

from __future__ import annotations

import re
from pathlib import Path

from core.flight.views import MODELS
from core.limits import Limits
from gateway.http_reads import router
from tests.flight_rows import FLIGHT, OUT, Story, flight

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/read-models.md").read_text()


def rows() -> dict[str, dict[str, object]]:
    """One row of each model."""
    leg, cabin, crew = flight(), Story(f"flight:{FLIGHT}.seats"), Story("flight:crew.c7")
    layout = {"rows": [{"row": 1, "seats": "A", "class": "Y"}]}
    cabin.tell(("seat.opened", {"flight": "QX12", "layout": layout}), ("seat.booked", {"passenger": "p1"}))
    duty = {"flight": FLIGHT, "role": "captain", "report_at": OUT, "release_at": OUT}
    crew.tell(("crew.registered", {"base": "SYD", "pack": "far135"}), ("crew.assigned", duty))
    return {model: doc for story in (leg, cabin, crew) for (model, _), doc in story.rows.items()}


def test_every_field_of_every_model_is_on_the_page() -> None:
    """In the paragraph of its model; and no model is left out."""
    found = rows()
    assert set(found) == set(MODELS)
    for model, doc in found.items():
        (paragraph,) = re.findall(rf"^- `{model}`:(.*?)(?=^- |^\n|\Z)", PAGE, re.DOTALL | re.MULTILINE)
        for field in doc:
            assert f"`{field}`" in paragraph, f"the field {field} of {model} is not in docs/read-models.md"


def test_keys_are_as_the_code_says() -> None:
    """The table of the page and the docstring of core/flight/views.py."""
    said = dict(
        re.findall(r"^    (\w+) +(<\S+(?: \w+>\S*)*)  ", (ROOT / "core/flight/views.py").read_text(), re.MULTILINE)
    )
    shown = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", PAGE, re.MULTILINE))
    assert shown == said
    assert set(shown) == set(MODELS)


def test_every_route_and_bound_is_on_the_page() -> None:
    """As they are served."""
    for route in router.routes:
        path: str = route.path  # type: ignore[attr-defined]
        assert re.search(rf"`GET {re.escape(path)}[`?]", PAGE), path
    assert f"{Limits().board_rows_max:,} rows of a tenant (`board_rows_max`)" in PAGE
    for model in MODELS:
        assert f"`readback.{model}`" in PAGE
