"""Conditions and values in CEL, and texts with values in them: compiled when a rule is loaded, evaluated at events.

Promises: what cannot be evaluated is found at loading as far as that can be known (syntax, names of variables and functions,
size); at run time nothing is raised, a `Failed` is answered. Evaluation ends in bounded time (`core.rules.limits`). Results
are JSON: a time is RFC 3339 text, a duration such as ``5400s``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, Final, NamedTuple

import cel
import orjson

from core.rules.limits import CEL_CHARS_MAX, INPUT_ITEMS_MAX, INPUT_VALUES_MAX, LOOPS_MAX

NAMES: Final = ("event", "flight", "memory", "trigger", "rule", "due", "now")
"""What an expression may look at; docs/rules.md describes each."""

FUNCTIONS: Final = frozenset(
    {
        *("size", "contains", "startsWith", "endsWith", "matches"),
        *("string", "int", "uint", "double", "bytes", "duration", "timestamp", "type", "dyn"),
        *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
        *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
    }
)

_LOOP: Final = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_][A-Za-z0-9_]*)\s*,")
_PATH: Final = re.compile(
    r"(?<![.\w])({names})\b((?:\s*\.\s*[A-Za-z_]\w*(?!\w|\s*\())*)".replace("{names}", "|".join(NAMES))
)
_POSITION: Final = re.compile(r"<input>:(\d+):(\d+): (.*)")
_INT_MAX: Final = 2**63
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class BadExpr(NamedTuple):
    """Why a text is no expression, with the position where that is known."""

    message: str


class Failed(NamedTuple):
    """Why there is no value. ``missing``: only because a field is not there."""

    message: str
    missing: bool = False


State = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""A machine's `show()`, or what gives it when it is first asked for."""

Looks = dict[str, "Looks"] | None
"""Fields of an object that are looked at, and of these in turn; ``None``: all of it."""


class Scope:
    """What expressions see at one event. ``flight`` is only asked for where one looks at it."""

    __slots__ = ("_flight", "names")

    def __init__(self, names: dict[str, Any], flight: State) -> None:
        self.names = names
        self._flight = flight

    @property
    def flight(self) -> Mapping[str, Any]:
        if not isinstance(self._flight, Mapping):
            self._flight = self._flight()
        return self._flight

    def also(self, **names: Any) -> Scope:
        return Scope({**self.names, **names}, self._flight)

    def cut(self, name: str, looks: Looks) -> Any:
        """What is behind a name, without what is not looked at: most of what is large."""
        return _cut(self.flight if name == "flight" else self.names[name], looks)


def _cut(value: Any, looks: Looks) -> Any:
    if looks is None or not isinstance(value, Mapping):
        return value
    return {key: _cut(value[key], inner) for key, inner in looks.items() if key in value}


def _looks(text: str) -> dict[str, Looks]:
    """By name, what an expression looks at. A call's name is none of the path; what stands in quotes may add to it."""
    found: dict[str, Looks] = {}
    for name, path in _PATH.findall(text):
        looked: Looks = None
        for key in reversed([part.strip() for part in path.split(".")[1:]]):
            looked = {key: looked}
        found[name] = joined(found[name], looked) if name in found else looked
    return found


def joined(one: Looks, other: Looks) -> Looks:
    """What both look at together."""
    if one is None or other is None:
        return None
    return {
        key: joined(one[key], other[key]) if key in one and key in other else one[key] if key in one else other[key]
        for key in (*one, *(key for key in other if key not in one))
    }


@dataclass(frozen=True, slots=True)
class Expr:
    """One compiled expression, and what it looks at behind each name."""

    text: str
    program: cel.Program
    looks: dict[str, Looks]

    def value(self, scope: Scope) -> Any | Failed:
        """Its value as JSON."""
        handed = {name: scope.cut(name, looks) for name, looks in self.looks.items()}
        if _too_large(handed):
            return Failed(f"{self.text!r} looks at more than {INPUT_VALUES_MAX} values, or a list of {INPUT_ITEMS_MAX}")
        try:
            found = self.program.execute(handed)
        except KeyError as error:
            return Failed(f"{self.text!r}: there is no field {error.args[0]}", missing=True)
        except Exception as error:
            return Failed(f"{self.text!r}: {str(error).splitlines()[0][:200]}")
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # a fault of the library, which is no Exception to Python
                raise
            return Failed(f"{self.text!r} cannot be evaluated: a fault of the CEL library")
        return _json(found, self.text)

    def holds(self, scope: Scope) -> bool | Failed:
        """Its value as a condition."""
        found = self.value(scope)
        if isinstance(found, bool | Failed):
            return found
        return Failed(f"{self.text!r} is {_kind(found)}, and a condition is true or false")


def compile_expr(text: object, names: Sequence[str] = NAMES) -> Expr | BadExpr:
    if not isinstance(text, str):
        return BadExpr(f"an expression is a text, not {text!r}")
    if not 0 < len(text.strip()) <= len(text) <= CEL_CHARS_MAX:
        return BadExpr(f"an expression has 1 to {CEL_CHARS_MAX} characters")
    try:
        program = cel.compile(text)
    except ValueError as error:
        return BadExpr(_where(str(error), text))
    bound = _LOOP.findall(text)
    if len(bound) > LOOPS_MAX:
        return BadExpr(f"{len(bound)} of all, exists, exists_one, map, filter in one expression; at most {LOOPS_MAX}")
    for name in program.variables():
        if name not in names and name not in bound:
            return BadExpr(_at(text, name) + f"there is no {name}; an expression looks at {', '.join(names)}")
    for name in program.functions():
        if name[0].isalpha() and name not in FUNCTIONS:
            return BadExpr(_at(text, name) + f"there is no function {name}; there are {', '.join(sorted(FUNCTIONS))}")
    return Expr(text, program, _looks(text))


def _where(said: str, text: str) -> str:
    """The parser's message in one line: it repeats the text and draws an arrow below it."""
    found = _POSITION.search(said)
    if found is None:
        return f"does not parse: {said.splitlines()[0][:200]}"
    line = f"line {found[1]}, " if "\n" in text else ""
    return f"{line}column {found[2]}: {found[3].split(' expecting ')[0][:200]}"


def _at(text: str, name: str) -> str:
    found = re.search(rf"(?<!\w){re.escape(name)}\b", text)
    return f"column {found.start() + 1}: " if found else ""


def _too_large(value: object) -> bool:
    waiting, seen = [value], 0
    while waiting:
        one = waiting.pop()
        seen += 1
        if isinstance(one, dict | list):
            if len(one) > INPUT_ITEMS_MAX or seen + len(waiting) + len(one) > INPUT_VALUES_MAX:
                return True
            waiting.extend(one.values() if isinstance(one, dict) else one)
    return False


def _json(value: Any, text: str) -> Any | Failed:
    """What CEL answered, as JSON; it may answer bytes, numbers beyond 64 bits, types."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if -_INT_MAX <= value < 2 * _INT_MAX else Failed(f"{text!r} is a number beyond 64 bits")
    if isinstance(value, float):
        return value if isfinite(value) else Failed(f"{text!r} is no finite number")
    if isinstance(value, datetime):
        return time_text((value - _EPOCH) // timedelta(milliseconds=1))
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, list):
        items = [_json(item, text) for item in value]
        return next((item for item in items if isinstance(item, Failed)), items)
    if isinstance(value, dict):
        fields = {str(key): _json(item, text) for key, item in value.items()}
        return next((item for item in fields.values() if isinstance(item, Failed)), fields)
    return Failed(f"{text!r} is {type(value).__name__}, which JSON has not")


def _kind(value: object) -> str:
    names = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "null")


def time_text(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return (_EPOCH + timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03}Z"


# Texts and bodies with values in them


@dataclass(frozen=True, slots=True)
class Text:
    """A text with expressions between its parts. One that is a single expression and nothing else keeps its type."""

    parts: tuple[str | Expr, ...]

    def render(self, scope: Scope) -> Any | Failed:
        found: list[Any] = []
        for part in self.parts:
            value = part if isinstance(part, str) else part.value(scope)
            if isinstance(value, Failed):
                return value
            found.append(value)
        if len(found) == 1:
            return found[0]
        return "".join(item if isinstance(item, str) else orjson.dumps(item).decode() for item in found)


Template = Text | dict[str, "Template"] | list["Template"] | bool | int | float | None
"""JSON in which every text may have values in it."""


def render(template: Template, scope: Scope) -> Any | Failed:
    if isinstance(template, Text):
        return template.render(scope)
    if isinstance(template, dict):
        fields = {key: render(item, scope) for key, item in template.items()}
        return next((item for item in fields.values() if isinstance(item, Failed)), fields)
    if isinstance(template, list):
        items = [render(item, scope) for item in template]
        return next((item for item in items if isinstance(item, Failed)), items)
    return template


def exprs_of(template: Template) -> list[Expr]:
    if isinstance(template, Text):
        return [part for part in template.parts if isinstance(part, Expr)]
    if isinstance(template, dict | list):
        items = template.values() if isinstance(template, dict) else template
        return [expr for item in items for expr in exprs_of(item)]
    return []


def compile_text(text: str) -> Text | BadExpr:
    """``${…}`` is an expression, ``$${`` the two signs themselves. Braces within an expression are counted, texts skipped."""
    parts: list[str | Expr] = []
    plain, at = "", 0
    while at < len(text):
        if text.startswith("$${", at):
            plain, at = plain + "${", at + 3
        elif text.startswith("${", at):
            end = _end(text, at + 2)
            if end < 0:
                return BadExpr(f"the ${{ at column {at + 1} has no closing brace; $${{ is the two signs themselves")
            expr = compile_expr(text[at + 2 : end])
            if isinstance(expr, BadExpr):
                return BadExpr(f"in the ${{ at column {at + 1}: {expr.message}")
            parts += [plain, expr] if plain else [expr]
            plain, at = "", end + 1
        else:
            plain, at = plain + text[at], at + 1
    return Text((*parts, plain) if plain or not parts else tuple(parts))


def _end(text: str, at: int) -> int:
    """Where the brace is that closes an expression begun at ``at``; -1 for nowhere."""
    depth, quote = 0, ""
    while at < len(text):
        sign = text[at]
        if quote:
            if sign == "\\":
                at += 1
            elif sign == quote:
                quote = ""
        elif sign in "'\"":
            quote = sign
        elif sign == "{":
            depth += 1
        elif sign == "}":
            if not depth:
                return at
            depth -= 1
        at += 1
    return -1
