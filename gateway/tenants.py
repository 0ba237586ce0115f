"""The tenants file: who the tenants of an installation are, read from TOML and checked.

For: ``tenants_file`` (`gateway.config`), at start and at every reload. Promises: a file is taken whole or not at all; a bad
value is a `ConfigError` of one sentence naming the file, the place, the value and what is allowed, and a name nobody knows
is an error too: a quota that is misspelt would bound nothing. Does not: fetch keys (`gateway.jwks`), or hold a secret; there
is none in such a file. docs/examples/tenants.toml shows all of it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from ipaddress import ip_address
from math import isfinite
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from core.identity import OWN_ISSUER
from core.model import PRINCIPAL_RE, TENANT_RE
from core.tenants import ALGORITHMS, Arrivals, Issuer, Quotas, Tenant, Tenants
from core.trip.quiet import SAYS, known_zone, read_quiet
from core.trip.verbs import THRESHOLD_S_MAX, THRESHOLD_S_MIN, THRESHOLDS_MAX
from gateway.config import ConfigError

FILE_BYTES_MAX: Final = 4_194_304
TENANTS_MAX: Final = 10_000
ISSUERS_MAX: Final = 8
"""Of one tenant; two are a change of providers."""

WEIGHT_MAX: Final = 100
SPACING_S_MAX: Final = 3_600
STALE_S_MAX: Final = 86_400
RETENTION_DAYS_MAX: Final = 1_460
"""Four years, which with the days to come is less than what the store has tables for (`store.postgres_tracks.DAYS_MAX`): what
is longer is for an archive."""
_WORD_CHARS_MAX: Final = 512
_WORD_RE = re.compile(r"[!-~]+\Z")
_COUNT_MAX: Final = 2**53


def load_tenants(path: Path) -> Tenants:
    """What the file says. Raises `ConfigError`."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise ConfigError(f"The tenants file {path} is larger than {FILE_BYTES_MAX} bytes.")
        document = tomllib.loads(data.decode())
    except OSError as error:
        raise ConfigError(f"The tenants file {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"The tenants file {path} is not UTF-8 text.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"The tenants file {path} is not TOML: {error}.") from None
    return _Reader(path).tenants(document)


def jwks_url_allowed(url: str) -> bool:
    """Whether keys may be fetched from there: https, or http from this machine; no name or password in it, no fragment.

    Keys that came over a wire that others can write on would be anybody's.
    """
    if not _WORD_RE.match(url) or len(url) > 2_048:
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if not parts.hostname or "@" in parts.netloc or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Reader:
    """Reads one file; every error names it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def tenants(self, document: dict[str, Any]) -> Tenants:
        self._known(document, ("only_named", "quotas", "arrivals", "tenants"), "")
        only_named = document.get("only_named", False)
        if not isinstance(only_named, bool):
            self._bad("only_named", only_named, "true or false")
        quotas = self._quotas(document.get("quotas", {}), Quotas(), "[quotas]")
        arrivals = self._arrivals(document.get("arrivals", {}), Arrivals(), "[arrivals]")
        listed = self._table(document.get("tenants", {}), "[tenants]")
        if len(listed) > TENANTS_MAX:
            self._bad("[tenants]", f"a table of {len(listed)}", f"at most {TENANTS_MAX} tenants")
        named = {name: self._tenant(name, told, quotas, arrivals) for name, told in listed.items()}
        return Tenants(named, quotas, only_named, arrivals)

    def _tenant(self, name: str, told: object, defaults: Quotas, arrivals: Arrivals) -> Tenant:
        if not TENANT_RE.match(name):
            self._bad("[tenants]", name, "names of lower-case letters, digits and . _ -, at most 63, such as acme")
        place = f"[tenants.{name}]"
        table = self._table(told, place)
        self._known(table, ("issuers", "quotas", "arrivals"), place)
        quotas = self._quotas(table.get("quotas", {}), defaults, f"[tenants.{name}.quotas]")
        arrivals = self._arrivals(table.get("arrivals", {}), arrivals, f"[tenants.{name}.arrivals]")
        listed = table.get("issuers", [])
        if not isinstance(listed, list) or len(listed) > ISSUERS_MAX:
            self._bad(f"issuers in {place}", listed, f"at most {ISSUERS_MAX} tables, each [[tenants.{name}.issuers]]")
        issuers: list[Issuer] = []
        for at, one in enumerate(listed, 1):
            place = f"[[tenants.{name}.issuers]] ({at})"
            issuer = self._issuer(self._table(one, place), place)
            if any(other.issuer == issuer.issuer for other in issuers):
                self._bad(f"issuer in {place}", issuer.issuer, "each issuer once for a tenant")
            issuers.append(issuer)
        return Tenant(name, tuple(issuers), quotas, arrivals)

    def _quotas(self, told: object, defaults: Quotas, place: str) -> Quotas:
        table = self._table(told, place)
        known = {item.name: getattr(defaults, item.name) for item in fields(Quotas)}
        self._known(table, known, place)
        for name, value in table.items():
            where = f"{name} in {place}"
            whole = isinstance(known[name], int)
            number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if name == "weight":
                if not number or not 1 <= value <= WEIGHT_MAX:
                    self._bad(where, value, f"a whole number from 1 to {WEIGHT_MAX}")
            elif not number or not isfinite(value) or not 0 <= value <= _COUNT_MAX or (name == "burst_s" and not value):
                kind = "a whole number" if whole else "a number"
                self._bad(where, value, "a number above 0" if name == "burst_s" else f"{kind}, 0 (no bound) or more")
            known[name] = value if whole else float(value)
        return Quotas(**known)

    def _arrivals(self, told: object, defaults: Arrivals, place: str) -> Arrivals:
        table = self._table(told, place)
        known = {item.name: getattr(defaults, item.name) for item in fields(Arrivals)}
        self._known(table, known, place)
        for name, value in table.items():
            fits, allowed = _ARRIVALS[name]
            if not fits(value):
                self._bad(f"{name} in {place}", value, allowed)
            known[name] = value
        known["thresholds_s"] = tuple(sorted(known["thresholds_s"], reverse=True))
        known["stale_s"] = float(known["stale_s"])
        return Arrivals(**known)

    def _issuer(self, table: dict[str, Any], place: str) -> Issuer:
        self._known(table, [item.name for item in fields(Issuer)], place)
        for name in ("issuer", "jwks_url", "jwks_file", "audience", "subject_prefix", "roles_claim"):
            value = table.get(name, "-")
            # A file's name may have spaces; none of these may have what ends or hides a line.
            fits = isinstance(value, str) and (value.isprintable() if name == "jwks_file" else _WORD_RE.match(value))
            if not fits or not value or len(value) > (2_048 if name.startswith("jwks") else _WORD_CHARS_MAX):
                self._bad(f"{name} in {place}", value, _ALLOWED[name])
        if "issuer" not in table or table["issuer"] == OWN_ISSUER:
            self._bad(f"issuer in {place}", table.get("issuer", "not set"), _ALLOWED["issuer"])
        if ("jwks_url" in table) == ("jwks_file" in table):
            many = "both are set" if "jwks_url" in table else "not set"
            self._bad(f"jwks_url or jwks_file in {place}", many, "one of the two")
        if not jwks_url_allowed(table.get("jwks_url", "https://-")):
            self._bad(f"jwks_url in {place}", table["jwks_url"], _ALLOWED["jwks_url"])
        # Whatever the name, it must make a principal of one.
        if not PRINCIPAL_RE.match(table.get("subject_prefix", "user:") + "x"):
            self._bad(f"subject_prefix in {place}", table["subject_prefix"], _ALLOWED["subject_prefix"])
        algorithms = table.get("algorithms", list(ALGORITHMS))
        if (
            not isinstance(algorithms, list)
            or not algorithms
            or any(one not in ALGORITHMS or algorithms.count(one) > 1 for one in algorithms)
        ):
            self._bad(f"algorithms in {place}", algorithms, f"a list of some of {', '.join(ALGORITHMS)}")
        values = {**table, "algorithms": tuple(algorithms)}
        if "jwks_file" in table:
            values["jwks_file"] = str(self._beside(table["jwks_file"], place))
        return Issuer(**values)

    def _beside(self, name: str, place: str) -> Path:
        """A file's path; one that is relative counts from the tenants file's folder."""
        try:
            return self._path.absolute().parent / Path(name).expanduser()
        except RuntimeError:  # ~user of nobody
            self._bad(f"jwks_file in {place}", name, _ALLOWED["jwks_file"])

    def _table(self, value: object, place: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._bad(place, value, "a table")
        return value

    def _known(self, table: Mapping[str, object], known: Iterable[str], place: str) -> None:
        for name in table:
            if name not in known:
                where = f" in {place}" if place else ""
                raise ConfigError(
                    f"The tenants file {self._path} sets {name!r}{where}, which is nothing here; "
                    f"there are: {', '.join(known)}."
                )

    def _bad(self, place: str, value: object, allowed: str) -> NoReturn:
        # Somebody's password may stand in a URL, where it does not belong and is refused; it need not be in a log as well.
        shown = "(not shown)" if isinstance(value, str) and "@" in value and "://" in value else repr(value)
        if len(shown) > 200:
            shown = shown[:200] + "…"
        raise ConfigError(f"In the tenants file {self._path} {place} is {shown}; allowed: {allowed}.")


def _whole(low: int, high: int) -> tuple[Callable[[Any], bool], str]:
    def fits(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    return fits, f"a whole number from {low} to {high}"


_THRESHOLD: Final = _whole(THRESHOLD_S_MIN, THRESHOLD_S_MAX)


def _thresholds(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= THRESHOLDS_MAX
        and all(_THRESHOLD[0](one) for one in value)
        and len(set(value)) == len(value)
    )


def _stale(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= STALE_S_MAX


_ARRIVALS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "thresholds_s": (_thresholds, f"a list of 1 to {THRESHOLDS_MAX} seconds, each once, each {_THRESHOLD[1]}"),
    "spacing_s": _whole(0, SPACING_S_MAX),
    "quiet": (
        lambda value: isinstance(value, str) and (not value or read_quiet(value) is not None),
        f"{SAYS}, or empty for none",
    ),
    "zone": (lambda value: isinstance(value, str) and known_zone(value), "a time zone such as Australia/Sydney"),
    "stale_s": (_stale, f"a number from 1 to {STALE_S_MAX}"),
    "retention_days": _whole(0, RETENTION_DAYS_MAX),
    "provider_calls_per_day": _whole(0, 10**9),
    "signed_only": (lambda value: isinstance(value, bool), "true or false"),
    "mock_allowed": (lambda value: isinstance(value, bool), "true or false"),
}
"""By setting, what fits and how that is said."""
_ALLOWED: Final[Mapping[str, str]] = {
    "issuer": f"the exact `iss` of its tokens, a word of at most {_WORD_CHARS_MAX} characters other than {OWN_ISSUER}",
    "jwks_url": "an https URL, or http on localhost, without a name or password in it",
    "jwks_file": "the path of a file",
    "audience": "a word",
    "subject_prefix": "user:, device: or service: and, if wanted, how its names begin",
    "roles_claim": "the name of a claim, or a path such as realm_access.roles",
}
