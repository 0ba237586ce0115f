"""gateway.doctor_keys: keys that can be guessed are found, random ones never, and none is shown."""

from __future__ import annotations

import random
from base64 import urlsafe_b64decode
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config import Config, Secrets
from gateway.doctor import Finding
from gateway.doctor_keys import look_at_trust, weak_keys, weakness
from gateway.keyring import ensure_secrets

RFC_7515_A1 = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
RFC_8032_TEST_1 = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    ensure_secrets(tmp_path / "secrets.json")
    return Config(data=tmp_path)


def test_random_keys_are_well() -> None:
    """Two thousand of them, of two lengths, and one written in hex first."""
    rng = random.Random(7)
    for _ in range(1_000):
        assert weakness(rng.randbytes(32)) is None
        assert weakness(rng.randbytes(64)) is None
        assert weakness(rng.randbytes(32).hex().encode()) is None


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (b"t" * 32, "repeats"),
        (bytes(32), "repeats"),
        (b"0123456789abcdef" * 2, "repeats"),
        (random.Random(1).randbytes(16) * 2, "repeats"),
        (bytes(range(32)), "counts"),
        (bytes(range(255, 223, -1)), "counts"),
        (bytes(range(0, 64, 2)), "counts"),
        (b"abcdefghijklmnopqrstuvwxyz123456", "counts"),
        (b"correct horse battery staple, really", "typed"),
        (b"Sommer2026!Sommer2026?Winter2027", "typed"),
        (b"0" * 32 + b"12345678" * 4, "typed"),
        (bytes((1, 9, 200, 7, 3, 77, 8)) * 4 + bytes((1, 9, 7, 200)), "too few"),
        (urlsafe_b64decode(RFC_7515_A1), "public document"),
        (bytes.fromhex(RFC_8032_TEST_1), "public document"),
    ],
)
def test_keys_that_nobody_took_from_a_random_source(key: bytes, words: str) -> None:
    """Repeated, counted, typed, of few bytes, or copied from a document."""
    assert words in (weakness(key) or "")


def test_findings_name_the_key_and_do_not_show_it() -> None:
    """By ring and id, with what to do."""
    secrets = Secrets({"idp": b"correct horse battery staple, really"}, {"r1": random.Random(2).randbytes(32)})
    (finding,) = weak_keys(secrets)
    assert finding.level == "fail"
    assert "'idp' of token_secrets" in finding.seen
    assert "head -c 32" in finding.advice
    assert "horse" not in str(finding)


def test_one_key_with_two_jobs() -> None:
    """In two rings, or twice in one."""
    rng = random.Random(3)
    shared, other = rng.randbytes(32), rng.randbytes(32)
    secrets = Secrets({"a": shared, "b": other}, {"r1": shared}, {"s1": other, "s2": rng.randbytes(32)})
    seen = [finding.seen for finding in weak_keys(secrets)]
    assert seen == [
        "'a' of token_secrets and 'r1' of resume_keys are the same key",
        "'b' of token_secrets and 's1' of signing_keys are the same key",
    ]


def checks(findings: object) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}  # type: ignore[attr-defined]


PRODUCTION = "postgresql://db/x"


def test_a_development_installation_is_trusted_as_it_is(config: Config) -> None:
    """`dev` has all it needs."""
    assert list(look_at_trust(config, {})) == []


def test_what_production_lacks(config: Config, tmp_path: Path) -> None:
    """No issuers, shared secrets, no anchor: each said, with what to do; and nothing where all is well."""
    served = replace(config, database_url=PRODUCTION)
    found = checks(look_at_trust(served, {}))
    assert set(found) == {"tenants", "anchor"}
    assert "docs/examples/tenants.toml" in found["tenants"].advice
    found = checks(look_at_trust(replace(served, dev_tokens=True), {}))
    assert set(found) == {"dev tokens", "anchor"}
    tenants = tmp_path / "tenants.toml"
    tenants.write_text("")
    found = checks(look_at_trust(replace(served, tenants_file=tenants, anchor=str(tmp_path / "anchor")), {}))
    assert {name: finding.level for name, finding in found.items()} == {"tenants": "ok"}


def test_a_tenants_file_that_does_not_load(config: Config, tmp_path: Path) -> None:
    """Missing, or not as it must be: a failure, in the loader's words."""
    for text in (None, "tenants = 7", "[[["):
        path = tmp_path / f"{text}.toml"
        if text is not None:
            path.write_text(text)
        finding = checks(look_at_trust(replace(config, tenants_file=path), {}))["tenants"]
        assert finding.level == "fail"
        assert str(path) in finding.seen


def test_signing_keys_are_missed(config: Config, tmp_path: Path) -> None:
    """Without any, devices and services get no tokens."""
    (tmp_path / "secrets.json").unlink()
    key = random.Random(4).randbytes(32).hex() + "0000"
    environ = {"READBACK_TOKEN_SECRETS": f"a={key}", "READBACK_RESUME_KEYS": f"r={key}"}
    finding = checks(look_at_trust(config, environ))["signing keys"]
    assert finding.level == "warn"
    assert "signing_keys" in finding.advice
    assert look_at_trust(config, {})  # no keys at all is somebody else's finding
    assert checks(look_at_trust(config, {})) == {}


def test_files_with_secrets_that_others_may_read(config: Config, tmp_path: Path) -> None:
    """Mounted secrets fail; a settings file with a database's URL is to think about, without one it is nobody's secret."""
    mounted, settings = tmp_path / "mounted.json", tmp_path / "readback.toml"
    ensure_secrets(mounted)
    mounted.write_text('{"a": "%s"}' % ("A" * 43))
    settings.write_text('database_url = "postgresql://u:p@db/x"')
    for path in (mounted, settings):
        path.chmod(0o644)
    environ = {"READBACK_TOKEN_SECRETS_FILE": str(mounted), "READBACK_CONFIG": str(settings)}
    found = [finding for finding in look_at_trust(config, environ) if finding.check == "file modes"]
    assert [(finding.level, finding.advice[:14]) for finding in found] == [
        ("fail", "run: chmod 600"),
        ("warn", "run: chmod 600"),
    ]
    settings.write_text("port = 1")
    mounted.chmod(0o600)
    assert "file modes" not in checks(look_at_trust(config, environ))
    mounted.unlink()
    assert checks(look_at_trust(config, environ))["file modes"].level == "fail"
