"""Keys of devices: what a proof says, that its key is told to nobody, and what they go with."""

from __future__ import annotations

import base64
import hashlib
import json
import pickle
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from fake_readback import FakeServer
from trio.testing import MockClock

from readback_client import DeviceKey, connect


def unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def read(proof: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a proof whose signature is its own key's."""
    header, claims, signature = map(unb64url, proof.split("."))
    jwk = json.loads(header)["jwk"]
    Ed25519PublicKey.from_public_bytes(unb64url(jwk["x"])).verify(signature, proof.rpartition(".")[0].encode())
    return json.loads(header), json.loads(claims)


def test_a_proof_is_of_one_request_and_one_token() -> None:
    """RFC 9449, section 4.2; another one each time."""
    key = DeviceKey.generate(clock=lambda: 1_800_000_000.7)
    header, claims = read(key.proof("POST", "https://rt.example/v1/streams?x=1#y", "token"))
    assert header == {"typ": "dpop+jwt", "alg": "EdDSA", "jwk": key.jwk}
    again = read(key.proof("POST", "https://rt.example/v1/streams", "token"))[1]
    assert claims.pop("jti") != again.pop("jti")
    assert (
        claims
        == again
        == {
            "htm": "POST",
            "htu": "https://rt.example/v1/streams",
            "iat": 1_800_000_000,
            "ath": base64.urlsafe_b64encode(hashlib.sha256(b"token").digest()).rstrip(b"=").decode(),
        }
    )
    assert "ath" not in read(key.proof("POST", "https://rt.example/token"))[1]


def test_another_key_did_not_sign_it() -> None:
    """What `read` checks holds for its own key alone."""
    proof, other = DeviceKey.generate().proof("GET", "https://a"), DeviceKey.generate().proof("GET", "https://a")
    with pytest.raises(InvalidSignature):
        read(".".join([*proof.split(".")[:2], other.split(".")[2]]))


def test_a_thumbprint_is_rfc_7638s() -> None:
    """By the example of RFC 8037, appendix A.3."""
    seed = unb64url("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
    pem = b"-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n" % base64.b64encode(
        bytes.fromhex("302e020100300506032b657004220420") + seed
    )
    key = DeviceKey(pem)
    assert key.thumbprint == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert key.jwk["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"


def test_a_key_survives_as_pem() -> None:
    """The form that openssl writes and reads."""
    key = DeviceKey.generate()
    assert key.pem().startswith(b"-----BEGIN PRIVATE KEY-----")
    again = DeviceKey(key.pem())
    assert (again.thumbprint, again.jwk, again.pem()) == (key.thumbprint, key.jwk, key.pem())


def test_what_is_no_such_key_is_refused_and_not_quoted() -> None:
    """Junk, another curve, a locked one."""
    curve = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    private: Any = load_pem_private_key(DeviceKey.generate().pem(), None)
    locked = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2"))
    for bad in (b"", b"junk", curve, locked):
        with pytest.raises(ValueError, match=r"^not an unencrypted Ed25519 private key in PEM$") as refused:
            DeviceKey(bad)
        assert refused.value.__context__ is None


def test_the_private_half_is_told_to_nobody() -> None:
    """Not in a repr, not in a pickle."""
    key = DeviceKey.generate()
    assert repr(key) == f"DeviceKey({key.thumbprint})"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)


def test_without_cryptography_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client itself does not need it."""
    pem = DeviceKey.generate().pem()
    monkeypatch.setattr("readback_client._device.find_spec", lambda name: None)
    for make in (DeviceKey.generate, lambda: DeviceKey(pem)):
        with pytest.raises(ImportError, match=r"pip install 'readback-client\[device\]'"):
            make()


async def test_a_key_given_to_connect_proves_itself(autojump_clock: MockClock, server: FakeServer) -> None:
    """In every opening, for the url of the upgrade as HTTP has it, never with the same proof twice."""
    key = DeviceKey.generate()
    async with connect(server.url, "t", key=key) as rb:
        await rb.ready()
        await server.cut()
        await server.until(lambda: len(server.links) == 1 and server.received("resume"))
        await rb.ready()
    opened = [*server.received("hello"), *server.received("resume")]
    proofs = [read(frame["dpop"]) for frame in opened]
    assert [header["jwk"] for header, _ in proofs] == [key.jwk] * 2
    assert {(claims["htm"], claims["htu"]) for _, claims in proofs} == {
        ("GET", f"http://127.0.0.1:{server.port}/v1/ws")
    }
    assert len({claims["jti"] for _, claims in proofs}) == 2
    tokens = [frame.get("token") or frame["resume"] for frame in opened]
    for (_, claims), token in zip(proofs, tokens, strict=True):
        assert unb64url(claims["ath"]) == hashlib.sha256(token.encode()).digest()
