"""TLS on the node's own ports: the certificate in use, and a socket that speaks TLS by a non-blocking socket's contract.

A shard moves bytes with ``recv`` and ``send`` that never wait, and asks epoll what is ready. A `TlsSocket` has the same
methods over OpenSSL's engine with its two buffers in memory, and makes these differences invisible to the hub:

* **The handshake runs inside recv.** Until it is done, recv has nothing and send takes nothing.
* **recv leaves nothing decrypted behind**, for epoll would not tell of it. It reads ``size`` bytes of the kernel's and returns
  all that they complete, which may be one record (16 KB) more than ``size``.
* **send takes what it has encrypted**, though the kernel may not have: up to one piece (`PIECE_BYTES`) of ciphertext waits
  here. While it does, send raises BlockingIOError, and epoll is asked for EPOLLOUT whether or not the hub has more.
* **Half-close is close_notify**, then the end of the TCP direction; what comes in afterwards is thrown away undecrypted.

Promises: whatever a peer sends, at most `WAITING_BYTES_MAX` of ciphertext are kept for it and one record of its own; one that
cannot be served is told so in a way that it can read (`Unwelcome`). TLS 1.2 or 1.3, AEAD ciphers with forward secrecy, no
renegotiation, no compression. Does not: ask for client certificates, or offer HTTP/2.
"""

from __future__ import annotations

import logging
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

from core.handshake import tls_wanted
from gateway.config import Config, ConfigError

if TYPE_CHECKING:
    from gateway.connection import Connection

log = logging.getLogger("readback.tls")

PIECE_BYTES: Final = 16_384
"""Encrypted at once: one full record. More would wait here, encrypted, where the kernel takes no more."""
WAITING_BYTES_MAX: Final = 65_536
"""Beyond one piece, only what a peer makes OpenSSL answer by itself waits (key updates): more of that is an attack."""
SHAKES_A_TURN: Final = 8
"""Steps of handshakes in one turn of a shard, 0.2 to 1 ms each. A crowd that comes at once then delays nobody's messages by
more than that; who was not served is ready again in the next turn."""
BUSY_ALERT: Final = b"\x15\x03\x03\x00\x02\x02\x50"
"""A fatal internal_error (RFC 8446, section 6), for newcomers who are not even worth a handshake now."""
HANDSHAKE_RECORD: Final = b"\x16"
"""The first byte of every connection that speaks TLS."""
NO_TLS_ALERT: Final = b"\x15\x03\x03\x00\x02\x02\x0a"
"""A fatal unexpected_message, where OpenSSL has nothing to say to what is no TLS at all."""
_CAPITALS: Final = (0x41, 0x5A)
"""What a request of HTTP begins with (`core.handshake`), and TLS never."""
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of 1.3 are all good. No DHE: it makes a client's byte cost us a large exponentiation."""


class Unwelcome(OSError):
    """The peer cannot be served. ``words`` are to be sent as they are, outside of any TLS, before the end."""

    def __init__(self, words: bytes = b"") -> None:
        super().__init__("the peer cannot be served")
        self.words = words


class Tls:
    """The certificate in use. `reload` replaces the context whole, so that there is never half of a new pair in it."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Raises `ConfigError`."""
        self._cert = cert
        self._key = key
        self.context = make_context(cert, key)
        self.shakes_left = SHAKES_A_TURN

    def reload(self) -> bool:
        """Take the files anew for handshakes from now on; who is connected stays. A pair that cannot be used is said in
        the log and changes nothing."""
        try:
            self.context = make_context(self._cert, self._key)
        except ConfigError as error:
            log.error("the certificate was not reloaded: %s", error)
            return False
        return True


def load_tls(config: Config) -> Tls | None:
    """As the settings say; ``None`` where no certificate is named. Raises `ConfigError`."""
    if config.tls_cert is None or config.tls_key is None:
        return None
    return Tls(config.tls_cert, config.tls_key)


def make_context(cert: Path, key: Path) -> ssl.SSLContext:
    """Raises `ConfigError` for files that cannot be read, are not PEM, or do not belong together."""
    for path in (cert, key):
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise ConfigError(f"The file {path} of TLS cannot be read: {error.strerror}.") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])

    def no_password() -> str:
        raise ConfigError(f"The key {key} is encrypted: nobody is there to type its password when a node starts.")

    try:
        context.load_cert_chain(cert, key, no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"The key {key} does not belong to the certificate {cert}.") from None
        raise ConfigError(f"{cert} and {key} are not a certificate and its key in PEM.") from None
    return context


class TlsSocket:
    """Around a connected, non-blocking socket. ``connection`` is set before any of it is used."""

    __slots__ = (
        "_ending",
        "_engine",
        "_incoming",
        "_outgoing",
        "_over",
        "_shaken",
        "_tls",
        "_waiting",
        "connection",
        "raw",
    )

    def __init__(self, raw: socket.socket, tls: Tls) -> None:
        self.raw = raw
        self.connection: Connection | None = None
        self._tls = tls
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._engine = tls.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._waiting = b""
        """Ciphertext that the kernel has not taken."""
        self._shaken = False
        self._over = False
        """Nothing is encrypted or decrypted any more: what comes in is thrown away."""
        self._ending = False
        """We have said our last."""

    def fileno(self) -> int:
        return self.raw.fileno()

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As a socket's. Raises `Unwelcome` for one that does not speak TLS as it must."""
        if not self._shaken and not self._over:
            if self._tls.shakes_left <= 0:
                raise BlockingIOError
            self._tls.shakes_left -= 1
        data = self.raw.recv(size)
        if not data:
            return b""
        if self._over:
            raise BlockingIOError
        self._incoming.write(data)
        try:
            if not self._shaken:
                self._shake()
            parts, ended = self._decrypt()
        except ssl.SSLWantReadError:
            self._push()
            raise BlockingIOError from None
        except ssl.SSLError:
            raise Unwelcome(self._last_words(data)) from None
        self._push()
        if len(self._waiting) > WAITING_BYTES_MAX:
            self._over = True
            raise Unwelcome
        if not parts:
            if ended:
                return b""
            raise BlockingIOError
        if ended:
            self.raw.shutdown(socket.SHUT_RD)  # epoll then tells of the end, which was in these bytes
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _shake(self) -> None:
        self._engine.do_handshake()
        self._shaken = True
        connection = self.connection
        if connection is not None and connection.blocked:
            connection.shard.watch(connection)

    def _last_words(self, data: bytes) -> bytes:
        """A browser on the wrong port is told in its own language; everybody else hears an alert, OpenSSL's where it has
        one."""
        self._over = True
        if self._outgoing.pending:
            self._push()
            return b""
        if self._shaken:
            return b""
        return tls_wanted() if _CAPITALS[0] <= data[0] <= _CAPITALS[1] else NO_TLS_ALERT

    def _decrypt(self) -> tuple[list[bytes], bool]:
        """All that is there, and whether it is the peer's last."""
        parts: list[bytes] = []
        read = self._engine.read
        while True:
            try:
                part = read(PIECE_BYTES)
            except ssl.SSLWantReadError:
                return parts, False
            except ssl.SSLZeroReturnError:
                return parts, True
            if not part:
                return parts, True
            parts.append(part)

    def send(self, data: bytes) -> int:
        """As a socket's. After the end it takes everything and sends nothing."""
        if self._waiting and not self.flush():
            raise BlockingIOError
        if self._over:
            return len(data)
        if not self._shaken:
            raise BlockingIOError
        size = len(data)
        if size <= PIECE_BYTES:
            if size:
                self._engine.write(data)
                self._push()
            return size
        view, taken = memoryview(data), 0
        while taken < size:
            taken += self._engine.write(view[taken : taken + PIECE_BYTES])
            if not self._push():
                break
        return taken

    def _push(self) -> bool:
        """What OpenSSL has for the peer goes to the kernel; False where some of it waits."""
        if self._outgoing.pending:
            self._waiting += self._outgoing.read()
        return not self._waiting or self.flush()

    def flush(self) -> bool:
        """Ciphertext that waits goes to the kernel; False where it takes no more. Raises OSError for one that is gone."""
        if not self._waiting:
            return True
        try:
            sent = self.raw.send(self._waiting)
        except BlockingIOError:
            sent = 0
        if sent == len(self._waiting):
            self._waiting = b""
            if self._ending:
                self.raw.shutdown(socket.SHUT_WR)
            return True
        self._waiting = self._waiting[sent:]
        if self.connection is not None:
            self.connection.shard.wants_out(self.connection)
        return False

    def wants_out(self, blocked: bool) -> bool:
        """Whether epoll is to say when the socket can be written; ``blocked``: the hub waits for it. During a handshake it
        waits for the peer's bytes."""
        return bool(self._waiting) or (blocked and (self._shaken or self._over))

    def give_up(self, words: bytes) -> None:
        """Last words, outside of TLS; then only the end."""
        self._over = True
        self._waiting += words
        self.flush()

    def shutdown(self, how: int) -> None:
        """Half-close: as a socket's with SHUT_WR, whatever ``how`` is. Raises OSError for one that is gone."""
        if self._ending:
            return
        self._ending = True
        if self._shaken and not self._over:
            try:
                self._engine.unwrap()
            except ssl.SSLError:
                pass  # it is out; that the peer's has not come yet is what OpenSSL calls an error here
        self._over = True
        if self._outgoing.pending:
            self._waiting += self._outgoing.read()
        if self._waiting:
            self.flush()
        else:
            self.raw.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """At once; a close_notify is put on the way where the kernel takes it."""
        self.connection = None
        try:
            self.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        self.raw.close()
