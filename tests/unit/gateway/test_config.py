"""gateway.config and gateway.keyring: four sources in order, and bad values named with their source."""

from __future__ import annotations

import json
import os
import re
import stat
from base64 import b64encode, urlsafe_b64encode
from dataclasses import fields
from pathlib import Path

import pytest

from core.limits import Limits
from gateway.config import (
    OTHER_VARIABLES,
    SETTINGS,
    Config,
    ConfigError,
    Secrets,
    default_data_dir,
    files_needed,
    load_config,
    unknown_variables,
)
from gateway.keyring import ensure_secrets, load_secrets, permission_problem

KEY = bytes(range(32))


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


# The order of the sources


def test_defaults() -> None:
    """Without any source: the wire contract's ports on loopback, no web origins, default limits."""
    config = load_config(environ={})
    assert (config.host, config.port, config.http_host, config.http_port) == ("127.0.0.1", 8400, "127.0.0.1", 8401)
    assert config.origins == frozenset()
    assert config.database_url is None
    assert config.limits == Limits()


def test_later_sources_win(tmp_path: Path) -> None:
    """Defaults < file < environment < arguments, value by value."""
    file = write(tmp_path / "r.toml", 'port = 1001\nhttp_port = 1002\naudience = "a"\nlog_level = "error"\n')
    environ = {"READBACK_HTTP_PORT": "2002", "READBACK_AUDIENCE": "b"}
    config = load_config(file=file, environ=environ, arguments={"audience": "c", "port": None})
    assert (config.port, config.http_port, config.audience, config.log_level) == (1001, 2002, "c", "error")


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    """READBACK_CONFIG names the file where no argument does."""
    file = write(tmp_path / "r.toml", "port = 1001\n")
    other = write(tmp_path / "other.toml", "port = 1002\n")
    assert load_config(environ={"READBACK_CONFIG": str(file)}).port == 1001
    assert load_config(file=other, environ={"READBACK_CONFIG": str(file)}).port == 1002


def test_empty_variables_are_not_set() -> None:
    """`READBACK_PORT=` means the default, as in most tools."""
    assert load_config(environ={"READBACK_PORT": "", "READBACK_LIMIT_FRAME_BYTES_MAX": ""}) == load_config(environ={})


def test_the_http_api_listens_where_the_websocket_does() -> None:
    """One --host is enough; --http-host parts them."""
    assert load_config(environ={}, arguments={"host": "0.0.0.0"}).http_host == "0.0.0.0"
    config = load_config(environ={"READBACK_HTTP_HOST": "127.0.0.1"}, arguments={"host": "0.0.0.0"})
    assert (config.host, config.http_host) == ("0.0.0.0", "127.0.0.1")


def test_limits_from_file_and_environment(tmp_path: Path) -> None:
    """Every limit can be set in [limits] and by its variable, in its own type."""
    file = write(tmp_path / "r.toml", "[limits]\nframe_bytes_max = 100000\nhello_timeout_s = 2\n")
    limits = load_config(file=file, environ={"READBACK_LIMIT_HELLO_TIMEOUT_S": "2.5"}).limits
    assert (limits.frame_bytes_max, limits.hello_timeout_s) == (100_000, 2.5)


def test_every_limit_has_a_variable() -> None:
    """Each field of Limits is taken from its variable and gives itself back."""
    for item in fields(Limits):
        environ = {f"READBACK_LIMIT_{item.name.upper()}": str(item.default)}
        assert load_config(environ=environ).limits == Limits()


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("*", None),
        ("https://ops.example", {"https://ops.example"}),
        ("https://OPS.example:8443, http://localhost:3000", {"https://ops.example:8443", "http://localhost:3000"}),
    ],
)
def test_origins(text: str, origins: set[str] | None) -> None:
    """A list of origins, or * for any."""
    assert load_config(environ={"READBACK_ORIGINS": text}).origins == origins


def test_origins_in_a_file(tmp_path: Path) -> None:
    """TOML's own list does as well."""
    file = write(tmp_path / "r.toml", 'origins = ["https://a.example"]\n')
    assert load_config(file=file, environ={}).origins == {"https://a.example"}


# Bad values


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("READBACK_PORT", "http"),
        ("READBACK_PORT", "65536"),
        ("READBACK_PORT", "-1"),
        ("READBACK_PORT", "80.5"),
        ("READBACK_PORT", "9" * 5000),
        ("READBACK_HOST", " "),
        ("READBACK_HOST", "a b"),
        ("READBACK_LOG_LEVEL", "loud"),
        ("READBACK_DATABASE_URL", "mysql://db/readback"),
        ("READBACK_REDIS_URL", "http://redis/0"),
        ("READBACK_REDIS_URL", "redis:///0"),
        ("READBACK_REDIS_URL", "unix://"),
        ("READBACK_WORKERS", "0"),
        ("READBACK_WORKERS", "65"),
        ("READBACK_NODE", "a/b"),
        ("READBACK_ORIGINS", "ops.example"),
        ("READBACK_ORIGINS", "https://ops.example/path"),
        ("READBACK_ORIGINS", "https://ops.example,*"),
        ("READBACK_ORIGINS", "https://["),
        ("READBACK_DATA", "a\0b"),
        ("READBACK_DATA", "~nobody-of-this-name/x"),
        ("READBACK_LIMIT_FRAME_BYTES_MAX", "many"),
        ("READBACK_LIMIT_FRAME_BYTES_MAX", "0"),
        ("READBACK_LIMIT_FRAME_BYTES_MAX", "1.5"),
        ("READBACK_LIMIT_HELLO_TIMEOUT_S", "0"),
        ("READBACK_LIMIT_HELLO_TIMEOUT_S", "inf"),
        ("READBACK_LIMIT_HELLO_TIMEOUT_S", "nan"),
        ("READBACK_LIMIT_DRAIN_WINDOW_S", "-1"),
    ],
)
def test_bad_variables_are_named(variable: str, value: str) -> None:
    """The error says which variable and what is allowed."""
    with pytest.raises(ConfigError, match=f"variable {variable} is .*allowed: "):
        load_config(environ={variable: value})


def test_bad_arguments_are_named_as_typed() -> None:
    """The error names the option as a person types it."""
    with pytest.raises(ConfigError, match="argument --http-port is 'x'; allowed: a number from 0 to 65535"):
        load_config(environ={}, arguments={"http_port": "x"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = ", "is not TOML"),
        ('port = "x"', "Port in .* is 'x'; allowed"),
        ("port = true", "Port in .* is True; allowed"),
        ("prot = 1", "'prot', which is no setting; there are: .*port"),
        ("limits = 1", "must be a table"),
        ("[limits]\nframe_max = 1", "names no limit; there are: .*frame_bytes_max"),
        ("[limits]\nframe_bytes_max = 1.5", "allowed: a whole number"),
        ("[limits]\nframe_bytes_max = true", "allowed: a whole number"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, said: str) -> None:
    """A file's mistake is named with the file and the key; unknown keys are mistakes."""
    with pytest.raises(ConfigError, match=said):
        load_config(file=write(tmp_path / "r.toml", text), environ={})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A named file that is missing or no text is an error, not a default."""
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_config(file=tmp_path / "none.toml", environ={})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(file=tmp_path / "binary.toml", environ={})


def test_a_password_is_never_shown() -> None:
    """Neither an error nor the repr of a Config holds the database's URL."""
    with pytest.raises(ConfigError) as caught:
        load_config(environ={"READBACK_DATABASE_URL": "mysql://u:hunter2@db/x"})
    assert "hunter2" not in str(caught.value)
    config = load_config(environ={"READBACK_DATABASE_URL": "postgresql://u:hunter2@db/x"})
    assert "hunter2" not in repr(config)
    with pytest.raises(ConfigError) as caught:
        load_config(environ={"READBACK_REDIS_URL": "reddis://:hunter2@bus/0"})
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(load_config(environ={"READBACK_REDIS_URL": "redis://:hunter2@bus/0"}))


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@bus.internal:6379/0",
        "rediss://bus.internal",
        "unix:///run/redis/redis.sock",
        "redis+sentinel://a:26379,b:26379/readback",
        "redis+cluster://a:6379,b:6379",
    ],
)
def test_ways_to_a_redis(url: str) -> None:
    """One server, TLS, a socket of this machine, Sentinel and Cluster all have a URL."""
    assert load_config(environ={"READBACK_REDIS_URL": url}).redis_url == url


def test_nodes_and_workers() -> None:
    """One worker without Redis is the default; both come from any source."""
    assert (load_config(environ={}).workers, load_config(environ={}).redis_url) == (1, None)
    config = load_config(environ={"READBACK_NODE": "gw-1"}, arguments={"workers": "4"})
    assert (config.workers, config.node) == (4, "gw-1")


def test_values_that_contradict_each_other() -> None:
    """One port for two servers, and limits that cannot both hold, are refused."""
    with pytest.raises(ConfigError, match="both 9000"):
        load_config(environ={}, arguments={"port": "9000", "http_port": "9000"})
    with pytest.raises(ConfigError, match="would not fit into a frame"):
        load_config(environ={"READBACK_LIMIT_FRAME_BYTES_MAX": "1000"})
    with pytest.raises(ConfigError, match="batch is taken from a lane"):
        load_config(environ={"READBACK_LIMIT_LANE_ENTRIES_MAX": "10"})
    with pytest.raises(ConfigError, match="who photographs a QR"):
        load_config(environ={"READBACK_LIMIT_CLAIM_TTL_S": "601"})
    assert load_config(environ={}, arguments={"port": "0", "http_port": "0"}).port == 0


def test_unknown_variables_are_found() -> None:
    """A misspelt variable is named; ours and others' are not."""
    environ = {"READBACK_PROT": "1", "READBACK_PORT": "1", "READBACK_LIMIT_X": "1", "HOME": "/", "READBACK_TOKEN": "x"}
    assert unknown_variables(environ) == ["READBACK_PROT"]


def test_no_setting_is_a_secret() -> None:
    """Keys come from files and variables of their own; no argument takes one."""
    assert not {setting.variable for setting in SETTINGS} & OTHER_VARIABLES
    assert all("secret" not in setting.name or setting.name == "secrets_file" for setting in SETTINGS)


def test_settings_and_fields_agree() -> None:
    """The table has a row for every field of Config, under its name, in one spelling of the variable."""
    assert {setting.name for setting in SETTINGS} | {"limits"} == {item.name for item in fields(Config)}
    assert all(setting.variable == f"READBACK_{setting.name.upper()}" for setting in SETTINGS)


def test_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Root's is a service's; a user's follows XDG, whose relative values are ignored."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir({}) == Path("/var/lib/readback")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_data_dir({}) == tmp_path / ".local" / "share" / "readback"
    assert default_data_dir({"XDG_DATA_HOME": "/x"}) == Path("/x/readback")
    assert default_data_dir({"XDG_DATA_HOME": "x"}) == tmp_path / ".local" / "share" / "readback"


def test_relative_paths_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder named on the command line does not move when the process does."""
    monkeypatch.chdir(tmp_path)
    config = load_config(environ={}, arguments={"data": "scratch"})
    assert config.data == tmp_path / "scratch"
    assert config.secrets_path == tmp_path / "scratch" / "secrets.json"
    assert config.postgres_dir == tmp_path / "scratch" / "postgres"


def test_files_needed() -> None:
    """Each connection is an open file, and there are others."""
    assert files_needed(load_config(environ={})) > Limits().connections_max


# Keys


def at(path: Path) -> Config:
    return Config(data=path)


def test_keys_are_made_once_and_privately(tmp_path: Path) -> None:
    """The first start makes random keys that only their owner may read; the next keeps them."""
    path = tmp_path / "new" / "secrets.json"
    ensure_secrets(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert permission_problem(path) is None
    first = load_secrets(at(path.parent), {})
    ensure_secrets(path)
    assert load_secrets(at(path.parent), {}) == first
    assert len(next(iter(first.token_secrets.values()))) == 32
    assert first.token_secrets != first.resume_keys
    assert [len(key) for key in first.webhook_keys.values()] == [32], "or no webhook of a rule would go out"
    assert [entry.name for entry in path.parent.iterdir()] == ["secrets.json"]


def test_the_umask_does_not_open_keys(tmp_path: Path) -> None:
    """Mode 0600 even where the user's files are open to all by default."""
    before = os.umask(0)
    try:
        ensure_secrets(tmp_path / "secrets.json")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600


def test_open_permissions_are_noticed(tmp_path: Path) -> None:
    """Keys that others may read are a problem, with the command that mends it."""
    path = tmp_path / "secrets.json"
    ensure_secrets(path)
    path.chmod(0o640)
    assert "chmod 600" in (permission_problem(path) or "")


def test_a_folder_that_takes_no_keys(tmp_path: Path) -> None:
    """An error names the place and the way out."""
    write(tmp_path / "file", "")
    with pytest.raises(ConfigError, match="READBACK_DATA"):
        ensure_secrets(tmp_path / "file" / "secrets.json")


def test_missing_keys_say_where_to_get_them(tmp_path: Path) -> None:
    """`serve` without keys says how to make some."""
    with pytest.raises(ConfigError, match=r"readback dev.*READBACK_TOKEN_SECRETS"):
        load_secrets(at(tmp_path), {})


def test_variables_replace_their_half(tmp_path: Path) -> None:
    """Each variable stands for its half of the file; with both, no file is needed; order is kept, newest first."""
    url, plain = urlsafe_b64encode(KEY).rstrip(b"=").decode(), b64encode(KEY).decode()
    environ = {"READBACK_TOKEN_SECRETS": f"n={url}, o={plain}", "READBACK_RESUME_KEYS": f"r={plain}"}
    secrets = load_secrets(at(tmp_path), environ)
    assert list(secrets.token_secrets.items()) == [("n", KEY), ("o", KEY)]
    assert secrets.resume_keys == {"r": KEY}
    ensure_secrets(tmp_path / "secrets.json")
    half = load_secrets(at(tmp_path), {"READBACK_RESUME_KEYS": f"r={plain}"})
    assert half.resume_keys == {"r": KEY}
    assert list(half.token_secrets) == ["dev-1"]


def test_an_issuers_file(tmp_path: Path) -> None:
    """READBACK_TOKEN_SECRETS_FILE holds the token secrets alone, as an issuer mounts them."""
    ensure_secrets(tmp_path / "secrets.json")
    file = write(tmp_path / "issuer.json", json.dumps({"idp": b64encode(KEY).decode()}))
    assert load_secrets(at(tmp_path), {"READBACK_TOKEN_SECRETS_FILE": str(file)}).token_secrets == {"idp": KEY}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "There is no key in resume_keys"),
        ('{"token_secrets": {}}', "There is no key in token_secrets"),
        ('{"token_secrets": {"a": 1}}', "'a' in token_secrets in .* is not base64"),
        ('{"token_secrets": {"a": "h\\u00e4"}}', "is not base64"),
        ('{"token_secrets": {"a": "a b"}}', "is not base64"),
        ('{"token_secrets": {"a": "c2hvcnQ"}, "resume_keys": {"r": "c2hvcnQ"}}', "5 bytes; at least 32"),
    ],
)
def test_bad_files_of_keys(tmp_path: Path, content: str, said: str) -> None:
    """Each mistake is named with its place, and no key is shown."""
    write(tmp_path / "secrets.json", content)
    with pytest.raises(ConfigError, match=said) as caught:
        load_secrets(at(tmp_path), {})
    assert "c2hvcnQ" not in str(caught.value)


def test_bad_pairs(tmp_path: Path) -> None:
    """A variable that is no list of pairs is refused without showing what may be a key."""
    with pytest.raises(ConfigError, match="Entry 1 of the variable READBACK_RESUME_KEYS") as caught:
        load_secrets(at(tmp_path), {"READBACK_RESUME_KEYS": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_secrets_have_no_repr() -> None:
    """Keys cannot slip into a log through repr."""
    assert "AAAA" not in repr(Secrets({"a": b"AAAA"}, {"b": b"AAAA"}))


# The documentation

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


def test_every_setting_is_documented() -> None:
    """docs/operations.md has a row for every setting, with its variable."""
    text = OPERATIONS.read_text("utf-8")
    for setting in SETTINGS:
        assert f"| `{setting.name}` | `{setting.variable}` |" in text
    for variable in OTHER_VARIABLES:
        assert f"`{variable}`" in text


def test_documented_limits_are_the_limits() -> None:
    """Every limit named there exists, with the default that it says."""
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", OPERATIONS.read_text("utf-8"), re.MULTILINE)
    defaults = {item.name: str(item.default) for item in fields(Limits)}
    assert len(rows) >= 10
    assert dict(rows).items() <= defaults.items()


@pytest.mark.parametrize("name", ["handshakes_per_address_per_s", "guesses_per_address_burst"])
def test_bounds_by_address_can_be_switched_off(name: str) -> None:
    """By 0, which most limits may not be; less is refused, in words that say so."""
    variable = f"READBACK_LIMIT_{name.upper()}"
    assert getattr(load_config(environ={variable: "0"}).limits, name) == 0
    with pytest.raises(ConfigError, match=r"0 \(no bound\) or more"):
        load_config(environ={variable: "-1"})
