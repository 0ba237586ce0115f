"""gateway.serve and gateway.place: ports, names, reloads, the look at the shard; and a node whose Redis is away or no good."""

from __future__ import annotations

import logging
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.lowlevel

from core.model import Epoch
from gateway import serve as serving
from gateway.config import Config, ConfigError, Secrets
from gateway.place import Place, node_name
from gateway.systemd import Inherited
from store.bus import BusRefused
from store.embedded_redis import embedded_redis
from tests.nodes import SECRETS, serving_node, token

EPOCH = Epoch("11111111-2222-4333-8444-555555555555", 4)


def test_names() -> None:
    """The setting, or the machine's name made fit for channels and labels; and the worker's number after it."""
    assert node_name(Config(node="gw")) == "gw"
    assert node_name(Config(node="gw"), "2") == "gw-2"
    assert node_name(Config())
    assert set(node_name(Config())) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def test_ports_are_ours_alone_unless_shared() -> None:
    """Two nodes by themselves cannot have one port; workers do."""
    with serving.bind_websocket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            serving.bind_websocket("127.0.0.1", port, share=True)
    with serving.bind_websocket("127.0.0.1", 0, share=True) as first:
        port = first.getsockname()[1]
        with serving.bind_websocket("127.0.0.1", port, share=True) as second:
            assert second.getsockname() == first.getsockname()
        with pytest.raises(OSError, match="in use"):
            serving.bind_websocket("127.0.0.1", port)
        with serving.bind_http("127.0.0.1", 0, share=True) as http:
            assert http.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)


def test_inherited_sockets_go_before_settings() -> None:
    """The manager has chosen the ports already."""
    with socket.create_server(("127.0.0.1", 0)) as websocket, socket.create_server(("127.0.0.1", 0)) as http:
        found = serving._bind(Config(port=1), Place(inherited=Inherited(websocket, http)))
        assert found == (websocket, http)


async def test_a_shard_that_serves_is_alive() -> None:
    """Idle is alive; with something to read, only turns are."""
    async with serving_node() as node:
        shard = node.node.shard
        alive = serving._turning(shard)
        assert alive()
        assert alive()  # nothing happened, and nothing was to be done
        with socket.create_connection(("127.0.0.1", node.port)):
            # Somebody knocks, and no turn is taken: the loop is in this very task.
            assert not alive()
            while not shard.connections:  # the shard's own turn
                await trio.lowlevel.checkpoint()
            assert alive()


async def test_reloaded_keys_hold_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """Tokens of a key that is gone are refused, of a new one taken; the log level changes too."""
    async with serving_node() as node:
        old = token()
        assert hasattr(node.node.proving.verify(old), "principal")
        anew = Secrets({"k2": b"n" * 32}, {"r2": b"m" * 32})
        before = logging.getLogger().level
        try:
            serving._reload(node.node, Place(), lambda: (Config(log_level="debug"), anew))
            assert logging.getLogger().level == logging.DEBUG
        finally:
            logging.getLogger().setLevel(before)
        assert not hasattr(node.node.proving.verify(old), "principal")
        assert "keys 'k2' and 'r2' sign, log level debug" in caplog.text


async def test_a_reload_goes_from_keys_of_our_own_to_issuers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And back: neither the old issuers with the new keys nor the other way round has to verify anything.

    The keys were taken first, against tenants without an issuer, and the error of that ended the node.
    """
    (tmp_path / "keys.json").write_text('{"keys":[]}')
    (tmp_path / "tenants.toml").write_text(
        '[tenants.demo]\n[[tenants.demo.issuers]]\nissuer = "https://id.example"\njwks_file = "keys.json"\n'
    )
    issuers = Config(tenants_file=tmp_path / "tenants.toml")
    keys = Secrets({}, SECRETS.resume_keys, SECRETS.signing_keys)
    async with serving_node() as node:
        proving = node.node.proving
        proving.hs256 = False
        proving.use(keys)
        serving._reload(node.node, Place(), lambda: (issuers, Secrets({}, SECRETS.resume_keys)))
        assert list(node.node.gatekeeper.tenants.named) == ["demo"]
        assert proving.signer is None
        serving._reload(node.node, Place(), lambda: (Config(), keys))
        assert not node.node.gatekeeper.tenants.named
        assert proving.signer is not None
    assert "keys 's1' and 'r1' sign" in caplog.text


async def test_a_reload_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """What is wrong is said; the old keys hold."""

    def broken() -> tuple[Config, Secrets]:
        raise ConfigError("The file of keys is not JSON.")

    async with serving_node() as node:
        serving._reload(node.node, Place(), broken)
        assert hasattr(node.node.proving.verify(token()), "principal")
    assert "nothing was reloaded: The file of keys is not JSON." in caplog.text
    assert SECRETS.token_secrets


# Redis at the start


async def test_no_redis_no_bus() -> None:
    """A node alone has none to speak to."""
    assert await serving._open_bus(Config(), EPOCH, "n") is None


async def test_a_redis_that_is_away_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """Redis is only speed: said once, and the node starts with a bus that looks for it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # bound, and nobody listens
        url = f"redis://:hunter2@127.0.0.1:{sock.getsockname()[1]}/0"
        bus = await serving._open_bus(Config(redis_url=url), EPOCH, "n")
    assert bus is not None
    assert bus.trouble is not None
    assert "the log is tailed until it does" in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_redis_that_can_never_do_is_an_error() -> None:
    """Nobody would look for it later."""
    with embedded_redis() as server, pytest.raises(BusRefused):
        await serving._open_bus(Config(redis_url=server.url.replace(server.password, "wrong")), EPOCH, "n")


async def test_what_is_doubtful_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """A Redis that may forget a session's number does, with a warning."""
    with embedded_redis(args=("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")) as server:
        config = replace(Config(data=Path("/x")), redis_url=server.url)
        assert await serving._open_bus(config, EPOCH, "n") is not None
    assert "noeviction" in caplog.text
