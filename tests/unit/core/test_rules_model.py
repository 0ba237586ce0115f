"""core.rules.model: values of rules, keys of their actions, which apply to what."""

from __future__ import annotations

import pytest

from core.model import KEY_RE
from core.rules import model
from core.rules.model import Action, RuleSet, action_key, globs, timer_name, timer_of
from tests.ruling import one, rules


def test_patterns_match_whole_names() -> None:
    """* is any characters, ? is one, all else is itself."""
    found = globs(["flight.*", "seat.h?ld"])
    assert [found.match(name) for name in ("flight.delayed", "flight.", "seat.held", "xflight.a", "flightx", "seat.heeld")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    assert globs(["*"]).match("a\nb")
    assert globs(["a"]) == globs(["a"])


def test_a_key_is_a_uuid_of_all_that_names_the_action() -> None:
    """The same every time, another where anything differs; no two names run together."""
    base = ("demo", "r", "1", "flight:X", 7, 0)
    key = action_key(*base)
    assert key == action_key(*base) == "0322a920-10ca-8f80-ba8a-bc7abb6b226d"
    others = [
        ("other", "r", "1", "flight:X", 7, 0),
        ("demo", "r1", "", "flight:X", 7, 0),
        ("demo", "r", "2", "flight:X", 7, 0),
        ("demo", "r", "1", "flight:Y", 7, 0),
        ("demo", "r", "1", "flight:X", 8, 0),
        ("demo", "r", "1", "flight:X", 7, 1),
    ]
    keys = {key, *(action_key(*other) for other in others)}
    assert len(keys) == 7
    assert all(KEY_RE.match(one) and one[14] == "8" and one[19] in "89ab" for one in keys)


def test_names_of_timers_go_there_and_back() -> None:
    """Timers of others are nobody's."""
    assert timer_of(timer_name("r", 0)) == ("r", 0)
    assert timer_of(timer_name("r-1", 12)) == ("r-1", 12)
    assert timer_of("rule:r:later") == ("r", 0)
    assert timer_of("rule:r:123") == ("r", 0)
    assert timer_of("hold:12A") is None
    assert timer_of(None) is None


def test_an_action_is_json() -> None:
    """As it is kept of a firing."""
    action = Action("webhook", "flight:X", "", {"a": 1}, "k", ("a", "b"), "https://x.example")
    assert action.json() == {
        "kind": "webhook", "stream": "flight:X", "type": "", "body": {"a": 1}, "key": "k", "via": ["a", "b"],
        "url": "https://x.example",
    }  # fmt: skip
    assert "url" not in Action("command", "flight:X", "delay", {}, "k", ()).json()


def test_rules_apply_by_tenant_stream_and_time() -> None:
    """Those that wait only where streams have timers."""
    plain = one('event = "x"', head='streams = "*:QX*"').replace('"*"]', '"acme"]')
    waiting = one('relative = { milestone = "ON" }', head='streams = "*"').replace('"r"', '"w"')
    found = rules(plain, waiting)
    assert list(found.of("acme", "flight:QX1", timed=True)) == ["r", "w"]
    assert list(found.of("acme", "chat:QX1", timed=False)) == ["r"]
    assert list(found.of("demo", "flight:QX1", timed=True)) == ["w"]
    assert list(found.of("acme", "flight:ZZ1", timed=True)) == ["w"]
    assert found.of("acme", "flight:QX1", timed=True) is found.of("acme", "flight:QX1", timed=True)
    rule = found.rules[0]
    assert rule.effective(0)
    assert RuleSet().of("acme", "flight:QX1", timed=True) == {}


def test_streams_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then they are found anew."""
    monkeypatch.setattr(model, "_STREAMS_MAX", 2)
    found = rules(one('event = "x"'))
    for name in ("flight:A", "flight:B", "flight:C"):
        assert list(found.of("demo", name, timed=True)) == ["r"]
    assert len(found._of) == 1


def test_a_version_is_in_force_from_its_time_until_before_its_end() -> None:
    """And the newest is taken where it is asked what would have been."""
    old = one('event = "x"', head="effective_until = 1970-01-02T00:00:00Z")
    new = one('event = "x"', head="effective_from = 1970-01-02T00:00:00Z").replace('version = "1"', 'version = "2"')
    found = rules(new, old)
    day = 86_400_000
    assert [[rule.effective(at) for at in (0, day - 1, day)] for rule in found.rules] == [
        [False, False, True],
        [True, True, False],
    ]
    newest = found.newest().rules
    assert [(rule.version, rule.effective(0), rule.effective(9 * day)) for rule in newest] == [("2", True, True)]
