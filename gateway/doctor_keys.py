"""The doctor's look at keys: could somebody guess one, does one do two jobs, who may read them, and is one missing?

For: `gateway.doctor`. Promises: no key is shown, nor a part of one; only its id. What is found are keys that nobody who took
them from a random source could have: the chance that 32 random bytes are found wanting is below 1 in 10^12.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Final

from gateway.config import Config, ConfigError, Secrets
from gateway.doctor import Finding
from gateway.keyring import permission_problem

DISTINCT_MIN: Final = 16
"""32 random bytes hold about 30 distinct values."""
HEX_DISTINCT_MIN: Final = 10
STEPS_SHARE_MAX: Final = 0.5
"""So many of the steps from byte to byte are never the same by chance."""
HOW: Final = "replace it by random bytes: head -c 32 /dev/urandom | base64"
_HEX: Final = re.compile(rb"[0-9a-fA-F]{64,}")
_KNOWN: Final = frozenset(
    # SHA-256 of keys that stand in documents and are copied from there: RFC 7515, A.1; RFC 8032, 7.1 (the first three).
    bytes.fromhex(digest)
    for digest in (
        "c8ecc9361a05e285f04c26f9572131a6deab07e9e2b865053c6f75a4d8bd2b32",
        "644d50ab64864c20a12b3c4656d46b4a48f69ef7c47ecdc8415cd28316b22ef5",
        "3d2d9682cdba529682a152f678e25c6c29847bf2588ca4e1b3023c1579f9958d",
        "d8eca0cca720d33bf6d9a3e8057053ff6a4d19a62a9874fa7f7004ea662fb2f9",
    )
)  # fmt: skip


def weakness(key: bytes) -> str | None:
    """Why the key can be guessed, in words; ``None`` for one that looks random."""
    if sha256(key).digest() in _KNOWN:
        return "stands in a public document"
    if (key + key).find(key, 1) < len(key):
        return "repeats itself"
    steps = Counter((after - before) % 256 for before, after in pairwise(key))
    if max(steps.values(), default=0) > STEPS_SHARE_MAX * len(key):
        return "counts up or down, or stays the same"
    if _HEX.fullmatch(key) and len(set(key.lower())) > HEX_DISTINCT_MIN:
        return None  # 32 random bytes, written as text first
    if all(0x20 <= byte <= 0x7E for byte in key):
        return "is text that was typed, not random bytes"
    if len(set(key)) < DISTINCT_MIN:
        return "is not random: too few different bytes"
    return None


def weak_keys(secrets: Secrets) -> Iterator[Finding]:
    """Each key by itself, then all of them beside each other."""
    rings: dict[str, Mapping[str, bytes]] = {
        "token_secrets": secrets.token_secrets,
        "resume_keys": secrets.resume_keys,
        "signing_keys": secrets.signing_keys,
    }
    places: dict[bytes, list[str]] = {}
    for ring, keys in rings.items():
        for kid, key in keys.items():
            places.setdefault(key, []).append(f"{kid!r} of {ring}")
            why = weakness(key)
            if why is not None:
                yield Finding("keys", "fail", f"the key {kid!r} of {ring} {why}", HOW)
    for same in places.values():
        if len(same) > 1:
            advice = "give each its own: who learns one, or is handed one to verify with, has both"
            yield Finding("keys", "fail", f"{' and '.join(same)} are the same key", advice)


def look_at_trust(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Who is let in, by which keys, who may read those, and where the log's hashes are out of reach."""
    from gateway.keyring import load_secrets

    try:
        secrets = load_secrets(config, environ)
    except ConfigError:
        secrets = None  # said already
    production = config.database_url is not None
    if secrets is not None and not secrets.signing_keys:
        seen = "there are no signing_keys: devices and services get no tokens, anchors are not signed"
        yield Finding("signing keys", "warn", seen, 'add {"signing_keys": {"s1": …}} to the keys: 32 random bytes each')
    if production and config.dev_tokens:
        seen = "dev_tokens is on: who verifies tokens (a secret shared with your issuer) can also make them, for any tenant"
        yield Finding("dev tokens", "warn", seen, "name issuers in tenants_file, then set READBACK_DEV_TOKENS=false")
    yield from _tenants(config, production)
    for variable in ("READBACK_TOKEN_SECRETS_FILE", "READBACK_CONFIG"):
        if named := environ.get(variable):
            yield from _readable_by_others(variable, Path(named))
    if production and config.anchor is None:
        seen = "no anchor is set: who can change the database can make up a log of which nobody can tell"
        yield Finding("anchor", "warn", seen, "set READBACK_ANCHOR to a file, or a Postgres, that those cannot change")


def _tenants(config: Config, production: bool) -> Iterator[Finding]:
    if config.tenants_file is None:
        if production and not config.dev_tokens:
            seen = "no tenants_file: only tokens that this gateway made itself let anybody in"
            yield Finding("tenants", "warn", seen, "name the tenants and their issuers (docs/examples/tenants.toml)")
        return
    from gateway.tenants import load_tenants

    try:
        tenants = load_tenants(config.tenants_file)
    except ConfigError as error:
        yield Finding(
            "tenants", "fail", str(error), "mend it; a node does not start with it, and a reload changes nothing"
        )
    else:
        issuers = sum(len(tenant.issuers) for tenant in tenants.named.values())
        yield Finding("tenants", "ok", f"{len(tenants.named)} named, with {issuers} issuers")


def _readable_by_others(variable: str, path: Path) -> Iterator[Finding]:
    try:
        problem = permission_problem(path)
        secret = variable != "READBACK_CONFIG" or b"_url" in path.read_bytes()
    except OSError as error:
        yield Finding("file modes", "fail", f"{variable} names {path}: {error.strerror}", "correct the path")
        return
    if problem and secret:
        seen, _, advice = problem.partition("; ")
        level = "warn" if variable == "READBACK_CONFIG" else "fail"
        yield Finding("file modes", level, seen, advice)  # type: ignore[arg-type]  # a Level, either way
