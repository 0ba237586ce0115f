"""Reading the fields of a rule's tables, one kind of value a method: the value, or a problem noted under the field's name.

For: `core.rules.read`, which knows the fields. Every method gives a value to go on with, so that one reading finds all
problems; what was read counts only where there are none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from math import isfinite
from typing import Any, Final
from urllib.parse import urlsplit

from core.flight import times
from core.model import TENANT_RE
from core.rules.expr import BadExpr, Expr, Template, Text, compile_expr, compile_text, exprs_of
from core.rules.limits import WAIT_MAX_MS
from core.rules.model import Globs, globs

_STREAM_GLOB_RE: Final = re.compile(r"[A-Za-z0-9._~:*?-]{1,134}\Z")
_TYPE_GLOB_RE: Final = re.compile(r"[a-z*?][a-z0-9_.*?-]{0,63}\Z")
_WAIT_RE: Final = re.compile(r"([+-]?)(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?\Z")
_UNITS_MS: Final = (86_400_000, 3_600_000, 60_000, 1_000)


class Fields:
    """``problems`` are (field, message) in the order in which they were met; ``exprs`` all expressions that were read."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []
        self.exprs: list[Expr] = []

    def bad(self, field: str, message: str) -> None:
        self.problems.append((field, message))

    def known(self, table: dict[str, Any], names: Sequence[str], place: str) -> None:
        for name in table:
            if name not in names:
                self.bad(place + name, f"unknown; here go {', '.join(names)}")

    def table(self, value: object, field: str, says: str) -> dict[str, Any] | None:
        if isinstance(value, dict):
            return value
        self.bad(field, says)
        return None

    def text(self, value: object, field: str) -> str:
        if isinstance(value, str):
            return value
        self.bad(field, "is a text")
        return ""

    def matched(self, table: dict[str, Any], name: str, place: str, shape: re.Pattern[str], allowed: str) -> str:
        value = table.get(name)
        if isinstance(value, str) and shape.match(value):
            return value
        self.bad(place + name, f"is {allowed}" + ("" if value is None else f", not {value!r}"))
        return ""

    def one_of(
        self, table: dict[str, Any], name: str, place: str, allowed: Sequence[str], default: str | None = None
    ) -> str:
        value = table.get(name, default)
        if isinstance(value, str) and value in allowed:
            return value
        self.bad(place + name, f"is one of {', '.join(allowed)}" + ("" if value is None else f", not {value!r}"))
        return ""

    def flag(self, table: dict[str, Any], name: str) -> bool:
        value = table.get(name, False)
        if not isinstance(value, bool):
            self.bad(name, f"is true or false, not {value!r}")
        return value is True

    def number(self, value: object, field: str) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
            return value
        self.bad(field, f"is a number, not {value!r}")
        return 0

    def instant(self, table: dict[str, Any], name: str) -> int | None:
        value = table.get(name)
        if value is None:
            return None
        if isinstance(value, datetime):  # TOML has times of its own
            value = value.isoformat()
        elif isinstance(value, date):
            value = f"{value.isoformat()}T00:00:00Z"
        found = times.read(value)
        if found.why:
            self.bad(name, found.message)
            return None
        return found.ms

    def wait(self, table: dict[str, Any], name: str, place: str, *, least: int = 1, needed: bool = False) -> int | None:
        value = table.get(name)
        if value is None:
            if needed:
                self.bad(place + name, 'say how long, such as "10m"')
            return None
        match = _WAIT_RE.match(value) if isinstance(value, str) else None
        if match is None or not any(match.groups()[1:]):
            self.bad(place + name, f'is a time such as "90s", "10m" or "1h30m", not {value!r}')
            return None
        ms = sum(int(part or 0) * unit for part, unit in zip(match.groups()[1:], _UNITS_MS, strict=True))
        ms = -ms if match[1] == "-" else ms
        if not least <= ms <= WAIT_MAX_MS:
            allowed = "more than 0" if least == 1 else "0 or more" if least == 0 else "at most a year either way"
            self.bad(place + name, f"is {allowed} and at most 366d, not {value!r}" if least >= 0 else f"is {allowed}")
            return None
        return ms

    def listed(self, value: object, field: str, check: Callable[[str, str], None], allowed: str) -> list[str]:
        """One text or several."""
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not items or not all(isinstance(item, str) for item in items):
            self.bad(field, f"is {allowed}")
            return []
        for item in items:
            check(item, field)
        return items

    def tenant(self, name: str, field: str) -> None:
        if name != "*" and not TENANT_RE.match(name):
            self.bad(field, f"{name!r} is no tenant's name; patterns other than * are not taken")

    def stream(self, name: str, field: str) -> None:
        if not _STREAM_GLOB_RE.match(name):
            self.bad(field, f"{name!r} is no stream and no pattern of streams, such as flight:*")

    def types(self, value: object, field: str) -> Globs:
        def check(name: str, field: str) -> None:
            if not _TYPE_GLOB_RE.match(name):
                self.bad(field, f"{name!r} is no type of events and no pattern, such as flight.delayed or flight.*")

        return globs(self.listed(value, field, check, 'a type of events or a pattern, such as "flight.delayed"'))

    def expr(self, value: object, field: str) -> Expr | None:
        found = compile_expr(value)
        if isinstance(found, BadExpr):
            self.bad(field, found.message)
            return None
        self.exprs.append(found)
        return found

    def templates(self, value: Any, place: str) -> Template:
        if isinstance(value, str):
            return self.template(value, place)
        if isinstance(value, dict):
            return {key: self.templates(item, f"{place}.{key}") for key, item in value.items()}
        if isinstance(value, list):
            return [self.templates(item, place) for item in value]
        if isinstance(value, float) and not isfinite(value):
            self.bad(place, "is no finite number")
        elif isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
            self.bad(place, "is a number beyond 64 bits")
        elif isinstance(value, date | time):
            return Text((value.isoformat(),))  # TOML's own times
        elif not isinstance(value, bool | int | float):
            self.bad(place, "is no text, number, time, list or table")
            return None
        plain: bool | int | float = value
        return plain

    def template(self, value: object, place: str) -> Text | None:
        if not isinstance(value, str) or not value:
            self.bad(place, "is a text")
            return None
        found = compile_text(value)
        if isinstance(found, BadExpr):
            self.bad(place, found.message)
            return None
        self.exprs += exprs_of(found)
        return found

    def url(self, value: object, place: str) -> str:
        try:
            parts = urlsplit(value if isinstance(value, str) else "")
            _ = parts.port
        except ValueError:
            parts = urlsplit("")
        plain = isinstance(value, str) and re.fullmatch(r"[!-~]{1,2048}", value) is not None
        if not plain or parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            self.bad(
                place, "is an address such as https://ops.example/hook, without a name or password, and with no ${…}"
            )
            return ""
        if "${" in str(value):
            self.bad(place, "is always the same address; values go into the body")
        return str(value)
