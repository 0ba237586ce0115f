"""Rules that would set each other off for ever, as far as their text shows it.

Only what is obvious is found: an event rule without any condition, acting on what another of them (or itself) surely writes
into the same stream. Whatever else goes round is stopped as it happens, by the chain of rules that each event bears
(`core.rules.engine`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from core.flight.registry import MACHINES
from core.rules.model import OnEvent, Rule


def _facts() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for machine in MACHINES:
        for verb, rule in machine.table.items():
            found[verb] = tuple(dict.fromkeys((*found.get(verb, ()), *rule.facts)))
    return found


FACTS: Final[Mapping[str, Sequence[str]]] = _facts()
"""What a command of each verb may become, by the tables of all machines."""

_MACHINES: Final = frozenset(fact.partition(".")[0] for facts in FACTS.values() for fact in facts) - {"timer"}
"""First words of types: an event of such a type is in a stream of that machine, and so is what its rule does there."""


def chain_of(rules: Sequence[Rule], facts: Mapping[str, Sequence[str]]) -> list[Rule]:
    """Rules of which each sets off the next, and the last the first; empty where there are none.

    ``facts``: types of facts by the verb of the command that may become them.
    """
    free = [rule for rule in rules if _unconditional(rule)]
    after = [[at for at, other in enumerate(free) if _sets_off(rule, other, facts)] for rule in free]
    done: set[int] = set()
    for start in range(len(free)):
        path, rest = [start], [iter(after[start])]
        while path:
            at = next((at for at in rest[-1] if at not in done), None)
            if at is None:
                done.add(path.pop())
                rest.pop()
            elif at in path:
                return [free[one] for one in path[path.index(at) :]]
            else:
                path.append(at)
                rest.append(iter(after[at]))
    return []


def _unconditional(rule: Rule) -> bool:
    when = rule.when
    return (
        isinstance(when, OnEvent)
        and when.pattern.where is None
        and rule.unless is None
        and not rule.once
        and not rule.quiet_ms
    )


def _sets_off(rule: Rule, other: Rule, facts: Mapping[str, Sequence[str]]) -> bool:
    assert isinstance(other.when, OnEvent)
    if rule.streams.patterns != other.streams.patterns or not set(rule.tenants) & set(other.tenants):
        return False
    if rule.until_ms is not None and rule.until_ms <= other.from_ms:
        return False
    for do in rule.do:
        written: Sequence[str] = ()
        if do.stream is None and do.kind == "command":
            written = _there(rule, facts.get(do.type, ()))
        elif do.stream is None and do.kind == "message":
            written = ("message",)
        # Every fact that it may become: which of several it becomes is the machine's decision.
        if written and all(other.when.pattern.types.match(type) for type in written):
            return True
    return False


def _there(rule: Rule, facts: Sequence[str]) -> Sequence[str]:
    """Of facts those that can be in a stream where the rule acts: several machines have a `cancel`, one of them decides it."""
    assert isinstance(rule.when, OnEvent)
    words = {pattern.partition(".")[0] for pattern in rule.when.pattern.types.patterns}
    if not words <= _MACHINES:
        return facts
    return [fact for fact in facts if fact.partition(".")[0] not in _MACHINES - words]
