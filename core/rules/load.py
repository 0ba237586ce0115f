"""Files of rules, read and checked: TOML in, rules out, or everything that is wrong with them.

Promises: a set is taken whole or not at all. Each problem names the file, the line as far as that can be known, the rule and
the field, and says what is allowed; what nobody knows is refused, since a condition that is misspelt would guard nothing.
All problems of all files are told at once. Does not: read files, or know the present time.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from core.rules.limits import FILE_BYTES_MAX, RULES_MAX
from core.rules.loops import chain_of
from core.rules.model import Rule, RuleSet
from core.rules.read import Reader

_HEADER: Final = re.compile(r"\s*\[\[\s*\"?rule\"?\s*\]\]")
_ACTION: Final = re.compile(r"\s*\[\[\s*rule\s*\.\s*do\s*\]\]")
_MANY_MAX: Final = 100


class Problem(NamedTuple):
    """``line`` is 0, ``rule`` and ``field`` are empty where there is none to name."""

    file: str
    line: int
    rule: str
    field: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        names = [f"rule {self.rule}"] if self.rule else []
        names += [self.field] if self.field else []
        return ": ".join((where, *names, self.message))


def load(files: Sequence[tuple[str, str]], facts: Mapping[str, Sequence[str]] | None = None) -> RuleSet | list[Problem]:
    """Rules of (name, text) pairs. ``facts`` are the types of facts that a command of each verb may become, where known
    (`core.rules.loops.FACTS`): with them, verbs that no machine has are refused, and rules that set each other off for ever."""
    rules: list[Rule] = []
    problems: list[Problem] = []
    for name, text in files:
        found, wrong = _file(name, text)
        rules += found
        problems += wrong
    problems = problems or _together(rules, facts or {})
    return problems[:_MANY_MAX] if problems else RuleSet(rules)


def _file(name: str, text: str) -> tuple[list[Rule], list[Problem]]:
    if len(text.encode()) > FILE_BYTES_MAX:
        return [], [Problem(name, 0, "", "", f"a file of rules has at most {FILE_BYTES_MAX} bytes")]
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found = re.search(r"\(at line (\d+), (column \d+)\)", str(error))
        said = str(error).partition(" (at ")[0] or "it is nested too deeply"
        line, column = (int(found[1]), f"{found[2]}: ") if found else (0, "")
        return [], [Problem(name, line, "", "", f"{column}this is not TOML: {said}")]
    problems = [
        Problem(
            name,
            _line(text.splitlines(), 0, key),
            "",
            str(key),
            "unknown; a file of rules has [[rule]] tables and no more",
        )
        for key in document
        if key != "rule"
    ]
    listed = document.get("rule", [])
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        return [], [*problems, Problem(name, 0, "", "rule", "each rule is a table headed [[rule]]")]
    if not listed and not problems:
        problems.append(Problem(name, 0, "", "", "there is no rule in this file; each begins with [[rule]]"))
    lines = text.splitlines()
    starts = [at for at, line in enumerate(lines) if _HEADER.match(line)]
    if len(starts) != len(
        listed
    ):  # rule = [{…}], or a text that looks like a header: no line is better than a wrong one
        starts = []
    rules: list[Rule] = []
    for at, table in enumerate(listed):
        start = starts[at] if starts else -1
        part = lines[start : starts[at + 1] if at + 1 < len(starts) else len(lines)] if starts else []
        reader = Reader(table)
        rule = reader.rule(name, start + 1)
        given = table.get("id")
        called = given if isinstance(given, str) and given else f"number {at + 1}"
        for field, message in reader.problems:
            problems.append(Problem(name, _line(part, start, field) if starts else 0, called, field, message))
        if rule is not None:
            rules.append(rule)
    return rules, problems


def _line(lines: Sequence[str], start: int, field: str) -> int:
    """The first line that sets the field's last name, or heads its table; else where the rule, or the action, begins."""
    action = re.match(r"do\[(\d+)\]", field)
    heads = [at for at, line in enumerate(lines) if _ACTION.match(line)]
    if action and int(action[1]) <= len(heads):
        first, *rest = heads[int(action[1]) - 1 :]
        lines, start = lines[first : rest[0] if rest else len(lines)], start + first
    for name in reversed(re.sub(r"\[\d+\]", "", field).split(".")):
        sought = re.compile(rf"(?:[^#]*[\s{{,.])?\"?{re.escape(name)}\"?\s*=|\s*\[+[^#]*\b{re.escape(name)}\s*\]")
        for at, line in enumerate(lines):
            if sought.match(line):
                return start + at + 1
    return start + 1


def _together(rules: Sequence[Rule], facts: Mapping[str, Sequence[str]]) -> list[Problem]:
    """What is wrong with rules that are well each by itself."""
    problems = [
        Problem(
            rule.file,
            rule.line,
            rule.id,
            "do",
            f"no machine takes the command {do.type}; there are {', '.join(sorted(facts))}",
        )
        for rule in rules
        for do in rule.do
        if facts and do.kind == "command" and do.type not in facts
    ]
    by_id: dict[str, list[Rule]] = {}
    for rule in rules:
        for other in by_id.setdefault(rule.id, []):
            if not _share(rule.tenants, other.tenants):
                continue
            place = f"{other.file}:{other.line}" if other.line else other.file
            if rule.version == other.version:
                says = f"the version {rule.version} of this rule is at {place} already; give each version its own name"
                problems.append(Problem(rule.file, rule.line, rule.id, "version", says))
            elif _overlap(rule, other):
                says = f"in force at the same time as the version {other.version} at {place}; end that with effective_until"
                problems.append(Problem(rule.file, rule.line, rule.id, "effective_from", says))
        by_id[rule.id].append(rule)
    for tenant in sorted({name for rule in rules for name in rule.tenants}):
        count = sum(rule.for_tenant(tenant) for rule in rules)
        if count > RULES_MAX:
            whose = "all tenants" if tenant == "*" else f"the tenant {tenant}"
            problems.append(Problem(rules[0].file, 0, "", "", f"{count} rules for {whose}; at most {RULES_MAX}"))
    chain = chain_of(rules, facts)
    if chain:
        first = chain[0]
        names = " -> ".join(rule.id for rule in (*chain, first))
        says = f"sets itself off for ever: {names}; give one of them a where, an unless, a quiet time or once = true"
        problems.append(Problem(first.file, first.line, first.id, "do", says))
    return problems


def _share(some: Iterable[str], others: Iterable[str]) -> bool:
    one, other = set(some), set(others)
    return "*" in one or "*" in other or bool(one & other)


def _overlap(one: Rule, other: Rule) -> bool:
    first, second = sorted((one, other), key=lambda rule: rule.from_ms)
    return first.until_ms is None or second.from_ms < first.until_ms
