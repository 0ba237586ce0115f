"""The doctor's look at the edges: is anything said in the clear, does the certificate hold, do the proxy settings agree?

For: `gateway.doctor`. Promises: reads files and settings, opens no socket, shows no key. Does not: ask the network whether
the proxies that are trusted set the headers for which they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from core.addresses import Trusted
from gateway.config import Config, ConfigError
from gateway.doctor import Finding
from gateway.keyring import permission_problem

if TYPE_CHECKING:
    from cryptography import x509

EXPIRES_WARN_DAYS: Final = 30
_DAY_S: Final = 86_400.0


def look_at_tls(config: Config, now_s: float) -> Iterator[Finding]:
    if config.tls_cert is None or config.tls_key is None:
        yield from _without_tls(config)
        return
    from gateway.tls import make_context

    try:
        make_context(config.tls_cert, config.tls_key)
    except ConfigError as error:
        yield Finding(
            "tls", "fail", str(error), "set READBACK_TLS_CERT and READBACK_TLS_KEY to a pair in PEM, unencrypted"
        )
        return
    problem = permission_problem(config.tls_key)
    if problem:
        seen, _, advice = problem.partition("; ")
        yield Finding("tls", "fail", seen, advice)
    yield from _certificate(config, now_s)


def _without_tls(config: Config) -> Iterator[Finding]:
    open_to_all = sorted({host for host in (config.host, config.http_host) if not _is_loopback(host)})
    if open_to_all and not config.trusted_proxies:
        seen = f"no TLS, and {' and '.join(open_to_all)} can be reached from other machines: tokens travel in the clear"
        advice = (
            "set READBACK_TLS_CERT and READBACK_TLS_KEY, or put a TLS proxy in front and name it in trusted_proxies"
        )
        yield Finding("tls", "warn", seen, advice)
    elif config.trusted_proxies:
        yield Finding("tls", "ok", "none here; the trusted proxies are to speak it")
    else:
        yield Finding("tls", "ok", "none, and only this machine can connect")


def _certificate(config: Config, now_s: float) -> Iterator[Finding]:
    from cryptography import x509

    assert config.tls_cert is not None
    leaf = x509.load_pem_x509_certificates(config.tls_cert.read_bytes())[0]
    names = _names(leaf)
    left_days = (leaf.not_valid_after_utc.timestamp() - now_s) / _DAY_S
    ends = f"{leaf.not_valid_after_utc:%Y-%m-%d}"
    renew = "renew it, then reload (SIGHUP): nobody is disconnected"
    if leaf.not_valid_before_utc > datetime.fromtimestamp(now_s, UTC):
        seen = f"the certificate holds only from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on"
        yield Finding("certificate", "fail", seen, "wait, correct the clock, or take another one")
    elif left_days < 0:
        yield Finding("certificate", "fail", f"the certificate ended on {ends}: clients refuse it", renew)
    elif left_days < EXPIRES_WARN_DAYS:
        yield Finding("certificate", "warn", f"the certificate ends on {ends}, in {math.floor(left_days)} days", renew)
    else:
        yield Finding("certificate", "ok", f"of {', '.join(names) or 'nobody'}, until {ends}")
    if leaf.issuer == leaf.subject:
        seen = "the certificate is self-signed: clients trust it only where they were told to"
        yield Finding("certificate", "warn", seen, "for others than your own devices, take one of a public authority")
    host = urlsplit(config.public_url).hostname
    if host and not any(_covers(name, host) for name in names):
        seen = f"the certificate is not of {host}, which public_url sends clients to"
        yield Finding("certificate", "fail", seen, "take one with that name, or correct public_url")


def _names(leaf: x509.Certificate) -> list[str]:
    from cryptography import x509

    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in extension.value]


def _covers(name: str, host: str) -> bool:
    """RFC 6125, section 6.4.3, as browsers do it: a star stands for the whole leftmost label."""
    name, host = name.lower(), host.lower()
    return name == host or (name.startswith("*.") and "." in host and name[2:] == host.partition(".")[2])


def look_at_proxies(config: Config) -> Iterator[Finding]:
    """Only where something is wrong, or where there are any."""
    trusted = config.trusted_proxies
    for text in trusted:
        network = ip_network(text)
        if network.prefixlen < (8 if network.version == 4 else 16):
            seen = f"trusted_proxies holds {text}: nearly anybody may say that he is somebody else"
            yield Finding("proxies", "fail", seen, "name the networks of your own proxies alone")
    if config.proxy_protocol and not trusted:
        seen = "proxy_protocol is on and nobody is trusted to use it"
        yield Finding("proxies", "fail", seen, "set READBACK_TRUSTED_PROXIES, or switch it off")
    if trusted and _is_loopback(config.host) and not any(ip_network(text).is_loopback for text in trusted):
        seen = f"only this machine reaches {config.host}, and trusted_proxies does not hold it"
        yield Finding(
            "proxies", "warn", seen, "add 127.0.0.0/8 (a proxy on this machine), or listen on another address"
        )
    public = urlsplit(config.public_url)
    if public.scheme == "https" and config.tls_cert is None and not trusted:
        seen = "public_url is https and nothing here speaks TLS, so a proxy does: all clients come from its address"
        yield Finding("proxies", "warn", seen, "name it in trusted_proxies, or one bound by address is everybody's")
    if public.scheme == "http" and config.tls_cert is not None:
        yield Finding("proxies", "warn", "public_url is http, and this port speaks TLS", "make it https")
    if trusted and Trusted(trusted):
        how = "the PROXY protocol and Forwarded" if config.proxy_protocol else "Forwarded"
        yield Finding("proxies", "ok", f"{', '.join(trusted)} may say for whom they speak, by {how}")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
