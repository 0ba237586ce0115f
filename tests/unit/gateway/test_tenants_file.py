"""gateway.tenants: the tenants file is taken whole or refused in one sentence that says where and why."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from core.tenants import ALGORITHMS, Arrivals, Issuer, Quotas, Tenant
from gateway import tenants as module
from gateway.config import ConfigError
from gateway.tenants import jwks_url_allowed, load_tenants
from store.postgres_tracks import DAYS_MAX
from store.tracks_input import DAYS_AHEAD

ROOT = Path(__file__).parents[3]
ISSUER = '[[tenants.acme.issuers]]\nissuer = "https://id.example"\njwks_url = "https://id.example/k"\n'


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "tenants.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(folder: Path, text: str | bytes) -> str:
    path = written(folder, text)
    with pytest.raises(ConfigError) as caught:
        load_tenants(path)
    said = str(caught.value)
    assert str(path) in said
    assert "\n" not in said
    assert said.endswith(".")
    return said


def test_the_example() -> None:
    """docs/examples/tenants.toml says what its comments say, and names every quota and every setting of an issuer."""
    path = ROOT / "docs/examples/tenants.toml"
    tenants = load_tenants(path)
    assert tenants.only_named
    assert list(tenants.named) == ["acme", "globex", "initech"]
    acme, globex = tenants.named["acme"], tenants.named["globex"]
    assert acme.issuers == (
        Issuer(
            "https://id.acme.example/",
            jwks_url="https://id.acme.example/jwks.json",
            algorithms=("ES256", "RS256"),
            audience="acme-realtime",
            subject_prefix="user:",
            roles_claim="realm_access.roles",
        ),
    )
    assert (acme.quotas.connections, acme.quotas.weight, acme.quotas.streams) == (20_000, 4, 5_000)
    assert globex.issuers[0].jwks_file == str(path.parent / "globex.jwks.json")
    assert globex.quotas == tenants.quotas == tenants.quotas_of("initech") == tenants.quotas_of("unknown")
    text = path.read_text()
    assert (tenants.arrivals.quiet, tenants.arrivals_of("unknown").zone) == ("22:00-06:30", "UTC")
    assert tenants.arrivals_of("acme") == Arrivals((900, 300), quiet="22:00-06:30", zone="Australia/Sydney")
    for item in (*fields(Quotas), *fields(Issuer), *fields(Arrivals)):
        assert f"\n{item.name} = " in text


def test_an_empty_file(tmp_path: Path) -> None:
    """Nobody is named and nothing bounded."""
    tenants = load_tenants(written(tmp_path, ""))
    assert (dict(tenants.named), tenants.quotas, tenants.only_named) == ({}, Quotas(), False)


def test_what_is_not_said_is_the_default(tmp_path: Path) -> None:
    """A tenant's table alone, an issuer with what it needs alone, whole numbers for rates."""
    tenants = load_tenants(written(tmp_path, "[quotas]\nsends_per_s = 5\n[tenants.acme]\n" + ISSUER))
    issuer = Issuer("https://id.example", jwks_url="https://id.example/k", algorithms=ALGORITHMS)
    assert tenants.named["acme"] == Tenant("acme", (issuer,), Quotas(sends_per_s=5.0))
    assert isinstance(tenants.quotas.sends_per_s, float)


def test_arrivals_of_a_tenant_are_those_of_all_but_for_what_it_says(tmp_path: Path) -> None:
    """In the order that alerts have; whole seconds may be said for parts of them."""
    text = "[arrivals]\nthresholds_s = [60, 300]\nstale_s = 90\nquiet = ''\n[tenants.acme.arrivals]\nspacing_s = 5\n"
    tenants = load_tenants(written(tmp_path, text))
    assert tenants.arrivals == tenants.arrivals_of("other") == Arrivals((300, 60), stale_s=90.0)
    assert tenants.arrivals_of("acme") == Arrivals((300, 60), spacing_s=5, stale_s=90.0)
    assert isinstance(tenants.arrivals.stale_s, float)


def test_a_file_of_keys_counts_from_the_tenants_file(tmp_path: Path) -> None:
    """Wherever the process was started; an absolute path stays, and a name may have a space."""
    text = ISSUER.replace('jwks_url = "https://id.example/k"', 'jwks_file = "{}"')
    for name, path in (("a b.json", tmp_path / "a b.json"), ("/etc/keys.json", Path("/etc/keys.json"))):
        tenants = load_tenants(written(tmp_path, text.replace("{}", name)))
        assert tenants.named["acme"].issuers[0].jwks_file == str(path)
    home = load_tenants(written(tmp_path, text.replace("{}", "~/k.json"))).named["acme"].issuers[0]
    assert home.jwks_file == str(Path.home() / "k.json")
    assert "jwks_file" in refused(tmp_path, text.replace("{}", "~nobody-of-that-name/k.json"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "not TOML"),
        ("a = " + "[" * 5_000, "not TOML"),
        (b"a = '\xff'", "not UTF-8"),
        ("limits = 1", "sets 'limits', which is nothing here"),
        ("only_named = 1", "only_named is 1; allowed: true or false"),
        ("quotas = 1", "[quotas] is 1; allowed: a table"),
        ("[quotas]\nsends = 1", "sets 'sends' in [quotas]"),
        ("[quotas]\nconnections = 1.5", "connections in [quotas] is 1.5; allowed: a whole number"),
        ("[quotas]\nconnections = true", "connections in [quotas] is True"),
        ("[quotas]\nconnections = -1", "connections in [quotas] is -1"),
        ("[quotas]\nconnections = 99999999999999999999", "connections in [quotas]"),
        ("[quotas]\nsends_per_s = inf", "sends_per_s in [quotas] is inf"),
        ("[quotas]\nsends_per_s = nan", "sends_per_s in [quotas] is nan"),
        ("[quotas]\nsends_per_s = -0.1", "allowed: a number, 0 (no bound) or more"),
        ("[quotas]\nsends_per_s = '5'", "sends_per_s in [quotas] is '5'"),
        ("[quotas]\nburst_s = 0", "burst_s in [quotas] is 0; allowed: a number above 0"),
        ("[quotas]\nweight = 0", "weight in [quotas] is 0; allowed: a whole number from 1 to 100"),
        ("[quotas]\nweight = 101", "weight"),
        ("[quotas]\nweight = 1.0", "weight"),
        ("arrivals = 1", "[arrivals] is 1; allowed: a table"),
        ("[arrivals]\nspeed = 1", "sets 'speed' in [arrivals]"),
        ("[arrivals]\nthresholds_s = []", "thresholds_s in [arrivals] is []; allowed: a list of 1 to 8 seconds"),
        ("[arrivals]\nthresholds_s = 600", "thresholds_s in [arrivals]"),
        ("[arrivals]\nthresholds_s = [29]", "thresholds_s in [arrivals]"),
        ("[arrivals]\nthresholds_s = [600, 600]", "thresholds_s in [arrivals]"),
        ("[arrivals]\nthresholds_s = [60,61,62,63,64,65,66,67,68]", "thresholds_s in [arrivals]"),
        ("[arrivals]\nspacing_s = -1", "spacing_s in [arrivals] is -1; allowed: a whole number from 0 to 3600"),
        ("[arrivals]\nspacing_s = true", "spacing_s in [arrivals]"),
        ("[arrivals]\nquiet = 'night'", "quiet in [arrivals] is 'night'; allowed: two local times such as 22:00-06:30"),
        ("[arrivals]\nquiet = 7", "quiet in [arrivals]"),
        ("[arrivals]\nzone = 'Sydney'", "zone in [arrivals] is 'Sydney'; allowed: a time zone"),
        ("[arrivals]\nzone = 10", "zone in [arrivals]"),
        ("[arrivals]\nstale_s = 0", "stale_s in [arrivals] is 0; allowed: a number from 1"),
        ("[arrivals]\nstale_s = nan", "stale_s in [arrivals]"),
        ("[arrivals]\nretention_days = 0.5", "retention_days in [arrivals]"),
        (
            "[arrivals]\nretention_days = 1461",
            "retention_days in [arrivals] is 1461; allowed: a whole number from 0 to 1460",
        ),
        ("[arrivals]\nprovider_calls_per_day = -1", "provider_calls_per_day in [arrivals]"),
        (
            "[tenants.acme.arrivals]\nsigned_only = 1",
            "signed_only in [tenants.acme.arrivals] is 1; allowed: true or false",
        ),
        ("tenants = []", "[tenants] is []; allowed: a table"),
        ("tenants.acme = 1", "[tenants.acme] is 1; allowed: a table"),
        ("[tenants.Acme]", "[tenants] is 'Acme'; allowed: names"),
        ('[tenants."a b"]', "[tenants] is 'a b'"),
        ("[tenants.acme]\nquota = 1", "sets 'quota' in [tenants.acme]"),
        ("[tenants.acme.quotas]\nweight = -1", "weight in [tenants.acme.quotas]"),
        ("[tenants.acme]\nissuers = 1", "issuers in [tenants.acme] is 1"),
        ("[tenants.acme]\nissuers = [1]", "[[tenants.acme.issuers]] (1) is 1; allowed: a table"),
        (ISSUER * 9, "issuers in [tenants.acme]"),
        (ISSUER * 2, "issuer in [[tenants.acme.issuers]] (2) is 'https://id.example'; allowed: each issuer once"),
        (ISSUER + "key = 1", "sets 'key' in [[tenants.acme.issuers]] (1)"),
        (ISSUER + "jwks_file = 'x'", "both are set"),
        ("[[tenants.acme.issuers]]\nissuer = 'x'", "jwks_url or jwks_file in [[tenants.acme.issuers]] (1)"),
        ("[[tenants.acme.issuers]]\njwks_file = 'x'", "issuer in [[tenants.acme.issuers]] (1) is 'not set'"),
        (ISSUER.replace("https://id.example", "readback", 1), "is 'readback'; allowed: the exact `iss`"),
        (ISSUER.replace("https://id.example", "", 1), "issuer in"),
        (ISSUER.replace("https://id.example", "a b", 1), "issuer in"),
        (ISSUER.replace("https://id.example", "i" * 513, 1), "…; allowed"),
        (ISSUER.replace('"https://id.example"', "7", 1), "issuer in"),
        (ISSUER + "audience = ''", "audience in"),
        (ISSUER + "audience = ['a']", "audience in"),
        (ISSUER + "roles_claim = ''", "roles_claim in"),
        (ISSUER + "subject_prefix = 'user'", "subject_prefix in"),
        (ISSUER + "subject_prefix = 'group:'", "allowed: user:, device: or service:"),
        (ISSUER + "subject_prefix = 'user:a/'", "subject_prefix in"),
        (ISSUER + "algorithms = []", "algorithms in"),
        (ISSUER + "algorithms = 'ES256'", "algorithms in"),
        (ISSUER + "algorithms = ['HS256']", "allowed: a list of some of EdDSA, ES256, RS256"),
        (ISSUER + "algorithms = ['none']", "algorithms in"),
        (ISSUER + "algorithms = ['ES256', 'ES256']", "algorithms in"),
        (ISSUER + "algorithms = [['ES256']]", "algorithms in"),
        (ISSUER.replace("https://id.example/k", "http://id.example/k"), "jwks_url in"),
        (ISSUER.replace("https://id.example/k", "file:///etc/passwd"), "jwks_url in"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    """One sentence: the file, the place, the value, what is allowed."""
    assert said in refused(tmp_path, text)


def test_a_password_in_a_url_is_refused_and_not_repeated(tmp_path: Path) -> None:
    """The sentence ends up in a log."""
    said = refused(tmp_path, ISSUER.replace("https://id.example/k", "https://u:hunter2@id.example/k"))
    assert "hunter2" not in said
    assert "(not shown)" in said


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, or a folder."""
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_tenants(path)


def test_bounds_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes and its tenants are counted."""
    monkeypatch.setattr(module, "TENANTS_MAX", 2)
    load_tenants(written(tmp_path, "[tenants.a]\n[tenants.b]\n"))
    assert "at most 2 tenants" in refused(tmp_path, "[tenants.a]\n[tenants.b]\n[tenants.c]\n")
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 20)
    assert "larger than 20 bytes" in refused(tmp_path, "#" * 21)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://id.example/keys?v=1", True),
        ("https://id.example:8443", True),
        ("http://localhost:9/keys", True),
        ("http://127.0.0.1/keys", True),
        ("http://127.8.8.8/keys", True),
        ("http://[::1]:9/keys", True),
        ("http://id.example/keys", False),
        ("http://10.0.0.1/keys", False),
        ("http://localhost.example/keys", False),
        ("http://127.0.0.1.example/keys", False),
        ("http://0.0.0.0/keys", False),
        ("https:///keys", False),
        ("https://u@id.example/keys", False),
        ("https://id.example/keys#x", False),
        ("https://id.example:x/keys", False),
        ("https://[::1/keys", False),
        ("https://id.example/a b", False),
        ("https://id.example/\n", False),
        ("https://id.example/" + "k" * 2_048, False),
        ("ftp://id.example/", False),
        ("file:///keys", False),
        ("", False),
    ],
)
def test_where_keys_may_come_from(url: str, allowed: bool) -> None:
    """https from anywhere, http from this machine."""
    assert jwks_url_allowed(url) is allowed


def test_what_a_tenant_may_keep_the_store_has_room_for() -> None:
    """With the days to come, and a few on which no worker looked.

    Ten years could be asked for. Four years later the store had as many days as it takes, and no tenant's positions were kept
    any more.
    """
    assert module.RETENTION_DAYS_MAX + DAYS_AHEAD + 30 < DAYS_MAX
