"""gateway.doctor_edges: what is said in the clear, certificates that do not hold, proxies of whom too much is believed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway import doctor_edges
from gateway.config import Config
from gateway.doctor import Finding
from gateway.doctor_edges import look_at_proxies, look_at_tls
from tests.certs import Pair, make_pair

NOW = time.time()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data=tmp_path)


def tls(config: Config, **changes: Any) -> list[Finding]:
    findings = list(look_at_tls(replace(config, **changes), NOW))
    assert all(finding.level == "ok" or finding.advice for finding in findings), (
        "what is not well comes with what to do"
    )
    return findings


def with_pair(config: Config, pair: Pair, **changes: Any) -> list[Finding]:
    return tls(config, tls_cert=pair.cert, tls_key=pair.key, **changes)


def test_in_the_clear(config: Config) -> None:
    """On this machine alone it is well, behind proxies too; towards other machines it is to think about."""
    assert [finding.level for finding in tls(config)] == ["ok"]
    (finding,) = tls(config, host="0.0.0.0", http_host="::")
    assert finding.level == "warn"
    assert "0.0.0.0 and ::" in finding.seen
    assert [finding.level for finding in tls(config, host="0.0.0.0", trusted_proxies=("10.0.0.0/8",))] == ["ok"]
    assert [finding.level for finding in tls(config, host="localhost", http_host="127.0.0.1")] == ["ok"]
    assert [finding.level for finding in tls(config, host="gateway.internal")] == ["warn"]


@pytest.mark.parametrize(
    ("days", "began_days_ago", "level", "words"),
    [
        (90.5, 1.0, "ok", "of localhost, 127.0.0.1, until"),
        (29.5, 1.0, "warn", "in 29 days"),
        (-1.0, 5.0, "fail", "ended on"),
        (90.0, -1.0, "fail", "holds only from"),
    ],
)
def test_a_certificate_has_its_time(
    config: Config, tmp_path: Path, days: float, began_days_ago: float, level: str, words: str
) -> None:
    """Well, soon over, over, not begun."""
    (finding,) = with_pair(config, make_pair(tmp_path, days=days, began_days_ago=began_days_ago))
    assert (finding.check, finding.level) == ("certificate", level)
    assert words in finding.seen


def test_a_certificate_that_nobody_signed(config: Config, tmp_path: Path) -> None:
    """Self-signed is to think about."""
    findings = with_pair(config, make_pair(tmp_path, signed=False))
    assert [finding.level for finding in findings] == ["ok", "warn"]
    assert "self-signed" in findings[1].seen


def test_a_pair_that_cannot_be_used(config: Config, tmp_path: Path) -> None:
    """Missing, or not a pair."""
    one, other = make_pair(tmp_path / "a"), make_pair(tmp_path / "b")
    (finding,) = tls(config, tls_cert=one.cert, tls_key=other.key)
    assert finding.level == "fail"
    assert "does not belong" in finding.seen
    one.key.unlink()
    assert [finding.level for finding in with_pair(config, one)] == ["fail"]


def test_a_key_that_others_may_read(config: Config, tmp_path: Path) -> None:
    """The private key of TLS is a secret like the others."""
    pair = make_pair(tmp_path)
    pair.key.chmod(0o640)
    findings = with_pair(config, pair)
    assert [finding.level for finding in findings] == ["fail", "ok"]
    assert findings[0].advice.startswith("run: chmod 600")


@pytest.mark.parametrize(
    ("url", "levels"),
    [("https://localhost:8401", ["ok"]), ("https://LOCALHOST", ["ok"]), ("https://gateway.example", ["ok", "fail"])],
)
def test_a_certificate_of_another_name(config: Config, tmp_path: Path, url: str, levels: list[str]) -> None:
    """Where clients are sent to is in the certificate."""
    assert [finding.level for finding in with_pair(config, make_pair(tmp_path), public_url=url)] == levels


def proxies(config: Config, **changes: Any) -> list[tuple[str, str]]:
    findings = list(look_at_proxies(replace(config, **changes)))
    assert all(finding.level == "ok" or finding.advice for finding in findings)
    return [(finding.level, finding.seen) for finding in findings]


def test_proxies_that_agree(config: Config) -> None:
    """None are nothing to say; some are named."""
    assert proxies(config) == []
    ((level, seen),) = proxies(config, host="0.0.0.0", trusted_proxies=("10.0.0.0/8",), proxy_protocol=True)
    assert level == "ok"
    assert "the PROXY protocol and Forwarded" in seen


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"trusted_proxies": ("0.0.0.0/0",), "host": "0.0.0.0"}, "fail", "nearly anybody"),
        ({"trusted_proxies": ("::/0",), "host": "::"}, "fail", "nearly anybody"),
        ({"proxy_protocol": True}, "fail", "nobody is trusted"),
        ({"trusted_proxies": ("10.0.0.0/8",)}, "warn", "only this machine reaches"),
        ({"public_url": "https://gateway.example"}, "warn", "so a proxy does"),
        ({"public_url": "http://gateway.example", "tls_cert": Path("c"), "tls_key": Path("k")}, "warn", "speaks TLS"),
    ],
)
def test_proxy_settings_that_contradict(config: Config, changes: dict[str, Any], level: str, words: str) -> None:
    """Each is named with what to do."""
    found = proxies(config, **changes)
    assert [seen for found_level, seen in found if found_level == level and words in seen], found


@pytest.mark.parametrize(
    ("name", "host", "covered"),
    [
        ("*.example.org", "rt.example.org", True),
        ("*.example.org", "a.rt.example.org", False),
        ("*.example.org", "example.org", False),
        ("*", "localhost", False),
    ],
)
def test_a_star_is_one_label(name: str, host: str, covered: bool) -> None:
    """As browsers read it."""
    assert doctor_edges._covers(name, host) is covered
