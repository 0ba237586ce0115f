"""From a URL to the servers of the bus: one Redis, the primary that Sentinels know, or the primaries of a cluster.

    redis://[user:password@]host[:port][/db]        rediss:// for TLS        unix://[user:password@]/path?db=0
    redis+sentinel://[user:password@]host:port,host:port/service[/db]        ?sentinel_username=&sentinel_password=
    redis+cluster://[user:password@]host:port,host:port                      rediss+…:// for TLS to all of them

TLS options, as redis-py calls them: ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``, ``ssl_cert_reqs=none``,
``ssl_check_hostname=false``.

Sentinels and clusters are asked by redis-py, in a thread and within a time; it is imported only then, since it takes
10 MB. A cluster's answer is the slot map; sharded pub/sub is used where every primary has it (7.0).
"""

from __future__ import annotations

import binascii
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import trio

from store.bus_limits import BusLimits, BusRefused
from store.redis_wire import LinkLost, Login, Server, read_version

if TYPE_CHECKING:
    import redis

PORT, SENTINEL_PORT = 6379, 26379
SLOTS = 16_384
SHARDED_SINCE = (7, 0)
KINDS = {"redis": "one", "unix": "one", "redis+sentinel": "sentinel", "redis+cluster": "cluster"}
OPTIONS = {"db", "sentinel_username", "sentinel_password"}
TLS_OPTIONS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}


@dataclass(frozen=True, slots=True)
class RedisUrl:
    kind: str
    """one, sentinel or cluster"""
    servers: tuple[Server, ...]
    """Redis servers to begin with, or Sentinels."""
    login: Login
    service: str = ""
    options: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def may_move(self) -> bool:
        """Whether the servers may become others while the URL stays."""
        return self.kind != "one"


@dataclass(frozen=True, slots=True)
class Topology:
    servers: tuple[Server, ...]
    slots: tuple[tuple[int, int, Server], ...] = ()
    """First and last slot, and whose they are; empty where one server has everything."""
    sharded: bool = False

    def server_of(self, name: bytes) -> Server | None:
        if not self.slots:
            return self.servers[0]
        slot = slot_of(name)
        return next((server for first, last, server in self.slots if first <= slot <= last), None)


def slot_of(name: bytes) -> int:
    """A cluster's slot of a key or sharded channel: of what is between the first braces, where something is."""
    _, opened, rest = name.partition(b"{")
    tag, closed, _ = rest.partition(b"}")
    return binascii.crc_hqx(tag if opened and closed and tag else name, 0) % SLOTS


def name_of(cell: str, word: str) -> bytes:
    """A channel's or key's name on Redis: this cell's own, each in a slot of its own."""
    return b"readback:{%b:%b}" % (cell.encode("ascii"), word.encode("ascii"))


def name_on(topology: Topology, server: Server, cell: str, word: str) -> bytes:
    """The first of ``word``, ``word:1``, … that belongs to this server."""
    owned = sum(last - first + 1 for first, last, owner in topology.slots if owner == server)
    for number in range(1_000_000 if owned else 0):
        name = name_of(cell, f"{word}:{number}" if number else word)
        if topology.server_of(name) == server:
            return name
    return name_of(cell, word)


# The URL


def parse_url(url: str, client_name: str = "readback") -> RedisUrl:
    """Raises `BusRefused`, in words that repeat nothing of the URL but its scheme."""
    scheme, found, _ = url.partition("://")
    secure = scheme.startswith("rediss")
    kind = KINDS.get("redis" + scheme[6:] if secure else scheme)
    if kind is None or not found:
        raise BusRefused(
            "the Redis URL must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
        )
    try:
        parts = urlsplit(url)
        userinfo, _, hosts = parts.netloc.rpartition("@")
        username, _, password = userinfo.partition(":")
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        if unknown := sorted(options.keys() - OPTIONS - TLS_OPTIONS):
            raise BusRefused(f"the Redis URL has options that mean nothing here: {', '.join(unknown)}")
        path = [unquote(part) for part in parts.path.split("/") if part]
        service = ""
        if scheme == "unix":
            servers: tuple[Server, ...] = (Server("", 0, unquote(parts.path)),)
            path = []
        else:
            default = SENTINEL_PORT if kind == "sentinel" else PORT
            servers = tuple(_server(text, default) for text in hosts.split(","))
        if kind == "sentinel":
            if not path:
                raise BusRefused("the Redis URL must name the service that the Sentinels watch: …/service")
            service = path.pop(0)
        db = int(path[0] if path else options.get("db", 0))
        if len(path) > 1 or db < 0 or (kind == "one" and len(servers) != 1):
            raise ValueError
    except ValueError:
        raise BusRefused(
            f"the Redis URL is not of the form {scheme}://[user:password@]host[:port][/database]; a password's own "
            "/, @, : and % are written as %2F, %40, %3A and %25"
        ) from None
    if kind == "cluster" and db:
        raise BusRefused("the Redis URL names a database, and a cluster has only the first: leave it out")
    tls = _tls_context(options) if secure else None
    login = Login(unquote(username), unquote(password), db, tls, client_name)
    return RedisUrl(kind, servers, login, service, options)


def _server(text: str, default_port: int) -> Server:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default_port)
    number = int(port)
    if not 0 < number < 65_536:
        raise ValueError
    return Server(host.strip("[]") or "localhost", number)


def _tls_context(options: dict[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if options.get("ssl_cert_reqs") == "none" or options.get("ssl_check_hostname", "").lower() in ("false", "0"):
            context.check_hostname = False
        if options.get("ssl_cert_reqs") == "none":
            context.verify_mode = ssl.CERT_NONE
        if "ssl_certfile" in options:
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    except OSError as error:
        raise BusRefused(
            f"a certificate or key that the Redis URL names cannot be read: {error.strerror or error}"
        ) from None
    return context


# Asking


async def find(url: RedisUrl, limits: BusLimits, known: tuple[Server, ...] = ()) -> Topology:
    """The servers as of now; ``known`` ones are asked as well. Raises `LinkLost`."""
    if url.kind == "one":
        return Topology(url.servers)
    ask: Callable[[], Topology] = (
        (lambda: _ask_sentinels(url, limits)) if url.kind == "sentinel" else lambda: _ask_cluster(url, limits, known)
    )
    return await trio.to_thread.run_sync(ask, abandon_on_cancel=True)


def _ask_sentinels(url: RedisUrl, limits: BusLimits) -> Topology:
    from redis.exceptions import AuthenticationError, RedisError
    from redis.sentinel import MasterNotFoundError, Sentinel

    names = ", ".join(map(str, url.servers))
    asked = _arguments(url, limits)
    asked["username"] = url.options.get("sentinel_username")
    asked["password"] = url.options.get("sentinel_password")
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        [(server.host, server.port) for server in url.servers], sentinel_kwargs=asked
    )
    try:
        host, port = sentinel.discover_master(url.service)  # type: ignore[no-untyped-call]
    except MasterNotFoundError:
        heard = any(map(_answers, sentinel.sentinels))
        why = f"they know no working primary of {url.service!r}" if heard else "none of them answers"
        raise LinkLost(f"the Sentinels {names} do not help: {why}") from None
    except AuthenticationError:
        raise LinkLost(
            f"the Sentinels {names} refuse the login: see ?sentinel_username= and ?sentinel_password=", refused=True
        ) from None
    except (RedisError, OSError) as error:
        raise LinkLost(f"the Sentinels {names} do not help: {error}") from None
    finally:
        for client in sentinel.sentinels:
            client.close()
    return Topology((Server(str(host), int(port)),))


def _ask_cluster(url: RedisUrl, limits: BusLimits, known: tuple[Server, ...]) -> Topology:
    from redis.exceptions import AuthenticationError, RedisError, ResponseError

    why, refused = "", False
    for server in dict.fromkeys((*known, *url.servers)):
        try:
            with _client(url, limits, server) as client:
                rows = client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
            slots = tuple(
                (int(row[0]), int(row[1]), Server(_text(row[2][0]) or server.host, int(row[2][1]))) for row in rows
            )
            if not slots:
                raise ValueError
            primaries = tuple(dict.fromkeys(owner for _, _, owner in slots))
            versions = [_version(url, limits, primary) for primary in primaries]
            told = [version for version in versions if version]
            return Topology(primaries, slots, sharded=bool(told) and min(told) >= SHARDED_SINCE)
        except AuthenticationError:
            why, refused = f"Redis {server} refuses the user name or password of the URL", True
        except ResponseError as error:
            if "cluster support disabled" in str(error):
                why, refused = f"Redis {server} is not part of a cluster: the URL must begin with redis://", True
            else:
                why, refused = f"Redis {server} answered with an error: {error}", str(error).startswith("NOPERM")
        except (RedisError, OSError):
            why, refused = f"no Redis of the cluster is reachable, {server} last", False
        except (ValueError, TypeError, IndexError):
            why, refused = f"Redis {server} is part of a cluster without slots", False
    raise LinkLost(why, refused=refused)


def _version(url: RedisUrl, limits: BusLimits, server: Server) -> tuple[int, ...]:
    """Empty where it does not say, or is away: the others then decide."""
    from redis.exceptions import RedisError

    try:
        with _client(url, limits, server) as client:
            hello = client.execute_command("HELLO", 2)  # type: ignore[no-untyped-call]
    except (RedisError, OSError):
        return ()
    facts = dict(zip(hello[::2], hello[1::2], strict=False)) if isinstance(hello, list) else hello
    return read_version(facts.get(b"version"))


def _answers(client: redis.Redis) -> bool:
    from redis.exceptions import RedisError

    try:
        return bool(client.ping())
    except (RedisError, OSError):
        return False


@contextmanager
def _client(url: RedisUrl, limits: BusLimits, server: Server) -> Iterator[redis.Redis]:
    import redis

    client = redis.Redis(server.host, server.port, **_arguments(url, limits))
    try:
        yield client
    finally:
        client.close()


def _arguments(url: RedisUrl, limits: BusLimits) -> dict[str, Any]:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    arguments: dict[str, Any] = {
        "username": url.login.username or None,
        "password": url.login.password or None,
        "socket_timeout": limits.find_timeout_s,
        "socket_connect_timeout": limits.find_timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if url.login.tls is not None:
        arguments["ssl"] = True
        arguments |= {name: value for name, value in url.options.items() if name in TLS_OPTIONS}
        if url.options.get("ssl_cert_reqs") == "none" or not url.login.tls.check_hostname:
            arguments["ssl_check_hostname"] = False
    return arguments


def _text(value: object) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
