"""One installation's settings: defaults < TOML file < environment < arguments.

For: turning four sources into one frozen `Config`, and a secrets file into `Secrets`. Promises: a bad value is a
`ConfigError` of one sentence naming the source, the value and what is allowed; a name nobody knows in the file is an
error too, because a misspelt setting that silently does nothing costs an evening. Does not: open sockets or databases
(`gateway.doctor` looks at the outside world), nor take a secret from the command line, where every user of the machine
could read it.

The settings are one table (`SETTINGS`); the TOML key, the variable and the documentation all come from it. Limits are
the fields of `core.limits.Limits`: ``[limits]`` in the file, ``READBACK_LIMIT_<NAME>`` in the environment.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_network
from math import isfinite
from pathlib import Path
from urllib.parse import urlsplit

from core.limits import Limits

PORT = 8400
HTTP_PORT = 8401
LIMIT_PREFIX = "READBACK_LIMIT_"
REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster")
WORKERS_MAX = 64  # a worker is a core's worth; more on one machine is a typing error
CLAIM_TTL_MAX_S = 600.0
FILES_SPARE = 512  # open files beside WebSockets: HTTP connections, the store's links, the loop's own


class ConfigError(Exception):
    """A setting that cannot be used. ``str()`` is one sentence for the operator: source, value, what is allowed."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a node is told. Build it with `load_config`; tests may build it directly.

    ``origins`` are the web origins whose pages may connect: ``None`` means any, an empty set none (requests without an
    Origin header, which is everything but browsers, always pass). Port 0 asks the kernel for a free one. ``node`` is
    this process' name in what it tells others and people; empty: the machine's name.
    """

    host: str = "127.0.0.1"
    port: int = PORT
    http_host: str = "127.0.0.1"
    http_port: int = HTTP_PORT
    data: Path = field(default_factory=lambda: default_data_dir(os.environ))
    database_url: str | None = field(default=None, repr=False)  # it may hold a password
    redis_url: str | None = field(default=None, repr=False)  # likewise
    workers: int = 1
    node: str = ""
    origins: frozenset[str] | None = frozenset()
    audience: str = "readback"
    tenants_file: Path | None = None
    dev_tokens: bool = False
    public_url: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()
    proxy_protocol: bool = False
    anchor: str | None = field(default=None, repr=False)  # a database's URL may hold a password
    log_level: str = "info"
    secrets_file: Path | None = None
    capture: Path | None = None
    work: bool = False
    rules: Path | None = None
    webhooks_private: bool = False
    eta_model: Path | None = None
    routes: str = ""
    apns_team: str = ""
    apns_key_id: str = ""
    apns_sandbox: bool = False
    limits: Limits = field(default_factory=Limits)

    @property
    def ws_scheme(self) -> str:
        """Of the WebSocket's address; `http_scheme` of the HTTP API's."""
        return "ws" if self.tls_cert is None else "wss"

    @property
    def http_scheme(self) -> str:
        return "http" if self.tls_cert is None else "https"

    @property
    def secrets_path(self) -> Path:
        return self.secrets_file or self.data / "secrets.json"

    @property
    def postgres_dir(self) -> Path:
        """Where ``readback dev`` keeps its own Postgres."""
        return self.data / "postgres"


@dataclass(frozen=True, slots=True)
class Secrets:
    """Keys by id, newest first: the first one signs, all verify. Never printed: neither field is in the repr."""

    token_secrets: Mapping[str, bytes] = field(repr=False)
    resume_keys: Mapping[str, bytes] = field(repr=False)
    signing_keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """Ed25519 seeds, 32 bytes each: what the gateway's own tokens (services, devices) and anchors are signed with. Without
    any it issues none."""
    webhook_keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """What calls to others' webhooks are signed with (HMAC-SHA256), as a sign whose they are. Without any, none go out."""
    fcm_service_account: bytes = field(default=b"", repr=False)
    """Google's JSON of the service account that pushes to Android phones go out by. Empty: none do."""
    apns_key: bytes = field(default=b"", repr=False)
    """Apple's .p8 file, with which pushes to iPhones are signed. Empty: none go out."""
    google_routes_key: str = field(default="", repr=False)
    """Of Google's Routes API, where `routes` names google."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What a node says once it serves. ``database`` is fit for a screen (no password).

    The rest is what signals do, and returns at once. ``drain`` starts the orderly end; ``retire`` likewise, for one whose
    siblings go on serving the same ports; ``reload`` takes keys and log level anew; ``roll`` replaces the workers one by
    one.
    """

    port: int
    http_port: int
    database: str
    drain: Callable[[], None] | None = None
    retire: Callable[[], None] | None = None
    reload: Callable[[], None] | None = None
    roll: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: its TOML key and field name, its variable, what it may be, and what it is for."""

    name: str
    variable: str
    parse: Callable[[object], object]
    allowed: str
    purpose: str


def files_needed(config: Config) -> int:
    """How many files a node may have open at most: each connection is one."""
    return config.limits.connections_max + FILES_SPARE


def without_password(url: str) -> str:
    """A database's URL, fit for a screen."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Per user, by the XDG base directory rules; for root, where a service keeps its state."""
    if os.geteuid() == 0:
        return Path("/var/lib/readback")
    base = environ.get("XDG_DATA_HOME", "")
    # XDG: a relative path in the variable is invalid and must be ignored.
    root = Path(base) if base.startswith("/") else Path.home() / ".local" / "share"
    return root / "readback"


# Parsers raise ValueError; the message a person sees is made from the table's `allowed`, the same for every source.


def _port(value: object) -> int:
    number = _int(value)
    if not 0 <= number <= 65_535:
        raise ValueError
    return number


def _int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    return int(value)


def _float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    number = float(value)
    if not isfinite(number):
        raise ValueError
    return number


def _line(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError
    return value.strip()


def _word(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or any(c.isspace() for c in value.strip()):
        raise ValueError
    return value.strip()


def _path(value: object) -> Path:
    if isinstance(value, Path):
        return value.expanduser().absolute()
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError
    return Path(value).expanduser().absolute()


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.strip().lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError
    return value.strip().lower() in ("true", "1", "yes")


def _public_url(value: object) -> str:
    url = _word(value).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query or parts.fragment:
        raise ValueError
    return url


def _networks(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError
    return tuple(str(ip_network(_word(network))) for network in value)


def _anchor(value: object) -> str:
    text = _word(value)
    if "://" in text:
        return _database_url(text)
    return str(_path(text))


def _log_level(value: object) -> str:
    if value not in ("debug", "info", "warning", "error"):
        raise ValueError
    return str(value)


def _database_url(value: object) -> str:
    url = _word(value)
    if urlsplit(url).scheme not in ("postgres", "postgresql"):
        raise ValueError
    return url


def _redis_url(value: object) -> str:
    url = _word(value)
    parts = urlsplit(url)
    if parts.scheme not in REDIS_SCHEMES or not (parts.path if parts.scheme == "unix" else parts.netloc):
        raise ValueError
    return url


def _workers(value: object) -> int:
    number = _int(value)
    if not 1 <= number <= WORKERS_MAX:
        raise ValueError
    return number


def _node(value: object) -> str:
    name = _word(value)
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,48}", name):
        raise ValueError
    return name


def _ten(value: object) -> str:
    text = _word(value)
    if not re.fullmatch(r"[A-Z0-9]{10}", text):
        raise ValueError
    return text


def _origins(value: object) -> frozenset[str] | None:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple | set | frozenset):
        raise ValueError
    if list(value) == ["*"]:
        return None
    origins = set()
    for origin in value:
        parts = urlsplit(origin) if isinstance(origin, str) else None
        if (
            parts is None
            or parts.scheme not in ("http", "https")
            or not parts.netloc
            or parts.path + parts.query + parts.fragment
        ):
            raise ValueError
        origins.add(f"{parts.scheme}://{parts.netloc.lower()}")
    return frozenset(origins)


_TEN = "ten capital letters and digits, as Apple's developer account shows it"
_A_PORT = "a number from 0 to 65535 (0: any free port)"
_A_HOST = "an address to listen on, such as 127.0.0.1 or 0.0.0.0"
_A_FOLDER = "the path of a folder"

SETTINGS: tuple[Setting, ...] = (
    Setting("host", "READBACK_HOST", _word, _A_HOST, "where the WebSocket listens"),
    Setting("port", "READBACK_PORT", _port, _A_PORT, "the WebSocket's port"),
    Setting("http_host", "READBACK_HTTP_HOST", _word, _A_HOST, "where the HTTP API listens"),
    Setting("http_port", "READBACK_HTTP_PORT", _port, _A_PORT, "the HTTP API's port"),
    Setting("data", "READBACK_DATA", _path, _A_FOLDER, "what `dev` keeps: its Postgres, its secrets"),
    Setting(
        "database_url",
        "READBACK_DATABASE_URL",
        _database_url,
        "a URL such as postgresql://readback_gateway@db.internal/readback",
        "the Postgres that holds the log",
    ),
    Setting(
        "redis_url",
        "READBACK_REDIS_URL",
        _redis_url,
        "a URL such as redis://redis.internal:6379/0, rediss://…, unix:///run/redis.sock, "
        "redis+sentinel://HOST:26379,HOST:26379/SERVICE or redis+cluster://HOST:6379,HOST:6379",
        "the Redis through which nodes hear each other at once",
    ),
    Setting("workers", "READBACK_WORKERS", _workers, f"a number from 1 to {WORKERS_MAX}", "node processes on one port"),
    Setting(
        "node", "READBACK_NODE", _node, "up to 48 letters, digits, dots, dashes or underscores", "this node's name"
    ),
    Setting(
        "origins",
        "READBACK_ORIGINS",
        _origins,
        'web origins separated by commas, such as https://ops.example, or "*" for any',
        "whose web pages may connect",
    ),
    Setting("audience", "READBACK_AUDIENCE", _word, "a word", "the `aud` that access tokens must name"),
    Setting(
        "tenants_file",
        "READBACK_TENANTS_FILE",
        _path,
        "the path of a TOML file",
        "who the tenants are: issuers, quotas",
    ),
    Setting(
        "dev_tokens",
        "READBACK_DEV_TOKENS",
        _flag,
        "true or false",
        "whether `serve` takes tokens signed with the shared secrets (HS256), as `dev` does",
    ),
    Setting(
        "public_url",
        "READBACK_PUBLIC_URL",
        _public_url,
        "a URL without a path, such as https://gateway.example",
        "where clients reach the HTTP API: in the QR codes of devices, and in what their keys sign",
    ),
    Setting(
        "tls_cert",
        "READBACK_TLS_CERT",
        _path,
        "the path of a PEM file",
        "the certificate chain; with it both ports speak TLS",
    ),
    Setting("tls_key", "READBACK_TLS_KEY", _path, "the path of a PEM file", "its private key"),
    Setting(
        "trusted_proxies",
        "READBACK_TRUSTED_PROXIES",
        _networks,
        "networks separated by commas, such as 10.0.0.0/8, ::1/128",
        "who may say for whom it speaks: `Forwarded`, the PROXY protocol",
    ),
    Setting(
        "proxy_protocol",
        "READBACK_PROXY_PROTOCOL",
        _flag,
        "true or false",
        "whether trusted proxies begin each connection of the WebSocket's port with a PROXY protocol v2 header",
    ),
    Setting(
        "anchor",
        "READBACK_ANCHOR",
        _anchor,
        "the path of a file, or the URL of another Postgres",
        "where the log's hashes are written down, out of reach of who can change the log",
    ),
    Setting("log_level", "READBACK_LOG_LEVEL", _log_level, "debug, info, warning or error", "how much is logged"),
    Setting("secrets_file", "READBACK_SECRETS_FILE", _path, "the path of a file", "where the keys are"),
    Setting(
        "capture",
        "READBACK_CAPTURE",
        _path,
        _A_FOLDER,
        "where what clients send and are sent is written down, without bodies and tokens; off where it is not set",
    ),
    Setting(
        "work",
        "READBACK_WORK",
        _flag,
        "true or false",
        "whether `serve` also works: read models, timers, rules, sagas; as `dev` does, and `readback work` alone",
    ),
    Setting("rules", "READBACK_RULES", _path, _A_FOLDER, "where the rules are: its *.toml files (docs/rules.md)"),
    Setting(
        "webhooks_private",
        "READBACK_WEBHOOKS_PRIVATE",
        _flag,
        "true or false",
        "whether rules may call webhooks at private and local addresses",
    ),
    Setting(
        "eta_model",
        "READBACK_ETA_MODEL",
        _path,
        "the path of a model that `readback eta train` made",
        "what was learned of arrival times (docs/eta.md)",
    ),
    Setting(
        "routes",
        "READBACK_ROUTES",
        _line,
        "osrm=URL, valhalla=URL, google, separated by commas; osrm:bike=URL names the modes an address serves",
        "who is asked for routes, in this order (docs/arrivals.md)",
    ),
    Setting("apns_team", "READBACK_APNS_TEAM", _ten, _TEN, "the Apple team whose apps get pushes (docs/push.md)"),
    Setting("apns_key_id", "READBACK_APNS_KEY_ID", _ten, _TEN, "the id of the secret `apns_key`"),
    Setting(
        "apns_sandbox",
        "READBACK_APNS_SANDBOX",
        _flag,
        "true or false",
        "whether pushes go to Apple's development service, which apps from Xcode are registered with",
    ),
)

_BY_NAME = {setting.name: setting for setting in SETTINGS}

OTHER_VARIABLES = frozenset(
    {
        "READBACK_CONFIG",
        "READBACK_TOKEN",
        "READBACK_TOKEN_SECRETS",
        "READBACK_TOKEN_SECRETS_FILE",
        "READBACK_RESUME_KEYS",
        "READBACK_SIGNING_KEYS",
        "READBACK_WEBHOOK_KEYS",
        "READBACK_FCM_SERVICE_ACCOUNT",
        "READBACK_APNS_KEY",
        "READBACK_GOOGLE_ROUTES_KEY",
        "READBACK_URL",
    }
)
"""Variables that are no setting: the file's own place, the keys (`gateway.keyring`), what `readback chat` takes."""

_MAY_BE_ZERO = frozenset(
    {"presence_grace_s", "presence_idle_s", "drain_window_s", "stream_idle_s", "marker_flush_s", "signal_flush_s"}
)
_ZERO_IS_OFF = frozenset(
    {
        "handshakes_per_address_per_s",
        "handshakes_per_address_burst",
        "guesses_per_address_per_s",
        "guesses_per_address_burst",
    }
)


def load_config(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    arguments: Mapping[str, object] | None = None,
) -> Config:
    """Read all sources in order. ``arguments`` holds what the command line gave, ``None`` for what it did not.

    ``file`` falls back to ``READBACK_CONFIG``; a file that was named and is missing is an error. An empty variable
    counts as not set, as in most tools. Raises `ConfigError`.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {"data": default_data_dir(environ)}
    limits: dict[str, int | float] = {}
    if file is None and environ.get("READBACK_CONFIG"):
        file = Path(environ["READBACK_CONFIG"])
    if file is not None:
        _take_file(file, values, limits)
    for setting in SETTINGS:
        if text := environ.get(setting.variable):
            values[setting.name] = _parsed(setting, text, f"the variable {setting.variable}")
    for variable, text in environ.items():
        if variable.startswith(LIMIT_PREFIX) and text:
            name = variable.removeprefix(LIMIT_PREFIX).lower()
            limits[name] = _limit(name, text, f"the variable {variable}")
    for name, value in (arguments or {}).items():
        if value is not None:
            option = "--" + name.replace("_", "-")
            values[name] = _parsed(_BY_NAME[name], value, f"the argument {option}")
    if "http_host" not in values and "host" in values:
        values["http_host"] = values["host"]
    result = Limits(**limits)  # type: ignore[arg-type]  # each value was parsed by its own field's type
    _check_relations(result)
    config = replace(Config(data=Path()), **values, limits=result)  # type: ignore[arg-type]  # likewise
    if (config.tls_cert is None) != (config.tls_key is None):
        raise ConfigError("tls_cert and tls_key belong together: set both or neither.")
    if config.proxy_protocol and not config.trusted_proxies:
        raise ConfigError("proxy_protocol needs trusted_proxies: from whom else would the header be believed?")
    if config.port == config.http_port != 0:
        raise ConfigError(f"port and http_port are both {config.port}: the WebSocket and the HTTP API need one each.")
    return config


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Variables that begin like ours and are none of ours: most likely misspelt. For `readback doctor`."""
    known = OTHER_VARIABLES | {setting.variable for setting in SETTINGS}
    return sorted(
        name
        for name in environ
        if name.startswith("READBACK_") and name not in known and not name.startswith(LIMIT_PREFIX)
    )


def _take_file(file: Path, values: dict[str, object], limits: dict[str, int | float]) -> None:
    try:
        document = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration file {file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"The configuration file {file} is not UTF-8 text.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The configuration file {file} is not TOML: {error}.") from None
    for name, value in document.items():
        if name == "limits":
            if not isinstance(value, dict):
                raise ConfigError(f"limits in {file} must be a table: [limits], then one line a limit.")
            for limit, number in value.items():
                limits[limit] = _limit(limit, number, f"[limits] {limit} in {file}")
        elif name in _BY_NAME:
            values[name] = _parsed(_BY_NAME[name], value, f"{name} in {file}")
        else:
            known = ", ".join(sorted(_BY_NAME)) + ", [limits]"
            raise ConfigError(f"{file} sets {name!r}, which is no setting; there are: {known}.")


def _parsed(setting: Setting, value: object, source: str) -> object:
    try:
        return setting.parse(value)
    except (ValueError, OverflowError, RuntimeError):  # RuntimeError: ~user of nobody in a path
        # A store's URL may hold a password, and error messages end up in logs.
        shown = "(not shown)" if setting.name in ("database_url", "redis_url", "anchor") else repr(value)
        raise ConfigError(f"{source[0].upper()}{source[1:]} is {shown}; allowed: {setting.allowed}.") from None


def _limit(name: str, value: object, source: str) -> int | float:
    defaults = {item.name: item.default for item in fields(Limits)}
    if name not in defaults:
        raise ConfigError(f"{source[0].upper()}{source[1:]} names no limit; there are: {', '.join(sorted(defaults))}.")
    whole = isinstance(defaults[name], int)
    try:
        number = _int(value) if whole else _float(value)
        if number < 0 or (number == 0 and name not in _MAY_BE_ZERO | _ZERO_IS_OFF):
            raise ValueError
    except (ValueError, OverflowError):
        kind = "a whole number of 1 or more" if whole else "a number of seconds above 0"
        if name in _MAY_BE_ZERO:
            kind = "a number of seconds, 0 or more"
        if name in _ZERO_IS_OFF:
            kind = "a whole number, 0 (no bound) or more" if whole else "a number, 0 (no bound) or more"
        raise ConfigError(f"{source[0].upper()}{source[1:]} is {value!r}; allowed: {kind}.") from None
    return number


def _check_relations(limits: Limits) -> None:
    """Limits that only make sense together."""
    if limits.body_bytes_max + 1_024 > limits.frame_bytes_max:
        raise ConfigError(
            f"The limit body_bytes_max ({limits.body_bytes_max}) must be at least 1024 below frame_bytes_max "
            f"({limits.frame_bytes_max}), or an event would not fit into a frame."
        )
    if limits.batch_entries_max > limits.lane_entries_max:
        raise ConfigError(
            f"The limit batch_entries_max ({limits.batch_entries_max}) must not be above lane_entries_max "
            f"({limits.lane_entries_max}): a batch is taken from a lane."
        )
    if limits.claim_ttl_s > CLAIM_TTL_MAX_S:
        raise ConfigError(
            f"The limit claim_ttl_s ({limits.claim_ttl_s:g}) must not be above {CLAIM_TTL_MAX_S:g}: who photographs a QR "
            "code should not have long."
        )
