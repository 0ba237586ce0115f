"""gateway.work.make: what a worker says of its rules when it starts."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from core.rules.model import RuleSet
from gateway.work.make import rules_of, say_rules

RULE = """
[[rule]]
id = "diverted"
version = "1"
tenants = ["*"]
when.event = "flight.diverted"
do = [{ webhook.url = "https://hooks.example/in" }]
"""


@pytest.fixture
def rules(tmp_path: Path) -> RuleSet:
    (tmp_path / "one.toml").write_text(RULE)
    return rules_of(tmp_path)


def test_a_worker_says_which_rules_it_obeys(rules: RuleSet, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """How many and from where, so that a folder that was not meant is noticed."""
    with caplog.at_level(logging.INFO, "readback.work"):
        say_rules(rules, tmp_path, {"w1": b"w" * 32})
    assert [record.getMessage() for record in caplog.records] == [f"1 rules are obeyed, from {tmp_path}"]


def test_webhooks_without_a_key_are_told_of(rules: RuleSet, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At the start, not when the first is due."""
    say_rules(rules, tmp_path, {})
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 1
    assert "no webhook_keys" in warned[0]
    assert "the rules diverted will be parked" in warned[0]
