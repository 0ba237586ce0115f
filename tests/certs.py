"""Certificates for tests: made on the spot, of elliptic curves, and trusted by nobody but the test itself."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Pair:
    """Files in PEM, and what a client needs to trust them."""

    cert: Path
    key: Path
    ca: Path
    serial: int

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))


def make_pair(
    folder: Path,
    name: str = "node",
    *,
    signed: bool = True,
    days: float = 90.0,
    began_days_ago: float = 1.0,
    password: bytes | None = None,
) -> Pair:
    """A certificate for localhost, by an authority of its own unless ``signed`` is False; mode 0600 for the key."""
    now = datetime.now(UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1()) if signed else ca_key
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority of {name}")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) if signed else ca_name
    ca = _certificate(
        ca_name, ca_name, ca_key, ca_key, now - timedelta(days=900), now + timedelta(days=900), is_ca=True
    )
    began, ends = now - timedelta(days=began_days_ago), now + timedelta(days=days)
    leaf = _certificate(subject, ca_name, key, ca_key, began, ends, is_ca=not signed)
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    folder.mkdir(parents=True, exist_ok=True)
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}-ca.pem", leaf.serial_number)
    pair.cert.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    pair.ca.write_bytes((ca if signed else leaf).public_bytes(serialization.Encoding.PEM))
    pair.key.touch(0o600)
    pair.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )  # fmt: skip
    return pair


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    began: datetime,
    ends: datetime,
    *,
    is_ca: bool,
) -> x509.Certificate:
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
