"""The keys of an installation: read from a file or the environment, made once for `readback dev`.

For: `Secrets`, from ``secrets.json`` (its place is ``secrets_file``, by default in the data folder), overridden by
variables for containers that mount or inject keys. Promises: the file is created whole or not at all, readable by its
owner alone, and never overwritten; errors name the place and the rule, never a key. Does not: take keys from the
command line, rotate by itself (docs/operations.md says how).

The file: ``{"token_secrets": {"<kid>": "<base64url>"}, "resume_keys": {…}, "signing_keys": {…},
"webhook_keys": {…}, "fcm_service_account": "<path>" or {…}, "apns_key": "<path>" or "<PEM>", "google_routes_key": "<key>"}``,
rings newest first; all but the first two may be missing.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

from core.tokens import SECRET_BYTES_MIN, ResumeKeys, TokenVerifier
from gateway.config import Config, ConfigError, Secrets

SIGNING_BYTES = 32
"""Of an Ed25519 seed (RFC 8032, section 5.1.5)."""

HOW_TO_GET_KEYS = (
    "`readback dev` makes a set; for `serve`, write one as docs/operations.md shows, or set READBACK_TOKEN_SECRETS "
    "and READBACK_RESUME_KEYS"
)


def load_secrets(config: Config, environ: Mapping[str, str] | None = None) -> Secrets:
    """The keys of this installation. Raises `ConfigError`.

    ``signing_keys`` (Ed25519 seeds) and ``webhook_keys`` may be missing; ``READBACK_SIGNING_KEYS`` and
    ``READBACK_WEBHOOK_KEYS`` replace them. So may ``fcm_service_account`` (Google's JSON) and ``apns_key`` (Apple's PEM), each
    itself or its file's path, which ``READBACK_FCM_SERVICE_ACCOUNT`` and ``READBACK_APNS_KEY`` replace; and
    ``google_routes_key``, which ``READBACK_GOOGLE_ROUTES_KEY`` replaces.
    ``READBACK_TOKEN_SECRETS_FILE`` (a JSON object of kid to key, as an issuer would mount it),
    ``READBACK_TOKEN_SECRETS`` and ``READBACK_RESUME_KEYS`` (``kid=key`` pairs, joined by commas) each replace that half
    of the file.
    """
    environ = os.environ if environ is None else environ
    token_secrets: Mapping[str, bytes] | None = None
    resume_keys: Mapping[str, bytes] | None = None
    signing_keys: Mapping[str, bytes] = {}
    webhook_keys: Mapping[str, bytes] = {}
    fcm_service_account = apns_key = b""
    google_routes_key = ""
    if named := environ.get("READBACK_TOKEN_SECRETS_FILE"):
        token_secrets = _ring(_read_json(Path(named)), f"the file {named}")
    if text := environ.get("READBACK_TOKEN_SECRETS"):
        token_secrets = _ring(_pairs(text, "READBACK_TOKEN_SECRETS"), "READBACK_TOKEN_SECRETS")
    if text := environ.get("READBACK_RESUME_KEYS"):
        resume_keys = _ring(_pairs(text, "READBACK_RESUME_KEYS"), "READBACK_RESUME_KEYS")
    if token_secrets is None or resume_keys is None:
        path = config.secrets_path
        if not path.exists():
            raise ConfigError(f"There are no keys: {path} does not exist; {HOW_TO_GET_KEYS}.")
        document = _read_json(path)
        if token_secrets is None:
            # Optional: who verifies tokens of issuers, or of its own, shares no secret with anybody.
            ring = document.get("token_secrets")
            token_secrets = {} if "token_secrets" not in document else _ring(ring, f"token_secrets in {path}")
        if resume_keys is None:
            resume_keys = _ring(document.get("resume_keys"), f"resume_keys in {path}")
        if "signing_keys" in document:
            signing_keys = _ring(document["signing_keys"], f"signing_keys in {path}")
        if "webhook_keys" in document:
            webhook_keys = _ring(document["webhook_keys"], f"webhook_keys in {path}")
        fcm_service_account = _given(document.get("fcm_service_account", ""), "{", f"fcm_service_account in {path}")
        apns_key = _given(document.get("apns_key", ""), "-----BEGIN", f"apns_key in {path}")
        google_routes_key = _text(document.get("google_routes_key", ""), f"google_routes_key in {path}")
    if text := environ.get("READBACK_SIGNING_KEYS"):
        signing_keys = _ring(_pairs(text, "READBACK_SIGNING_KEYS"), "READBACK_SIGNING_KEYS")
    if text := environ.get("READBACK_WEBHOOK_KEYS"):
        webhook_keys = _ring(_pairs(text, "READBACK_WEBHOOK_KEYS"), "READBACK_WEBHOOK_KEYS")
    if text := environ.get("READBACK_FCM_SERVICE_ACCOUNT"):
        fcm_service_account = _given(text, "{", "READBACK_FCM_SERVICE_ACCOUNT")
    if text := environ.get("READBACK_APNS_KEY"):
        apns_key = _given(text, "-----BEGIN", "READBACK_APNS_KEY")
    google_routes_key = environ.get("READBACK_GOOGLE_ROUTES_KEY") or google_routes_key
    if any(len(seed) != SIGNING_BYTES for seed in signing_keys.values()):
        raise ConfigError(f"The keys cannot be used: a signing key is an Ed25519 seed of {SIGNING_BYTES} bytes.")
    result = Secrets(
        token_secrets, resume_keys, signing_keys, webhook_keys, fcm_service_account, apns_key, google_routes_key
    )
    try:
        if token_secrets or not (signing_keys or config.tenants_file):
            TokenVerifier(result.token_secrets)
        ResumeKeys(result.resume_keys)
    except ValueError as error:
        raise ConfigError(f"The keys cannot be used: {error}.") from None
    return result


def ensure_secrets(path: Path) -> None:
    """Make ``secrets.json`` with fresh random keys unless it exists. Of two callers at once, one wins and both agree.

    Written to a temporary name with mode 0600, flushed to disk, then linked to its place: `os.link` fails where the
    name is taken, so nothing is ever overwritten, and a crash leaves no half file. Raises `ConfigError`.
    """
    if path.exists():
        return
    document = {
        "token_secrets": {"dev-1": _encode(secrets.token_bytes(SECRET_BYTES_MIN))},
        "resume_keys": {"r1": _encode(secrets.token_bytes(SECRET_BYTES_MIN))},
        "signing_keys": {"s1": _encode(secrets.token_bytes(SIGNING_BYTES))},
        "webhook_keys": {"w1": _encode(secrets.token_bytes(SECRET_BYTES_MIN))},
    }
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, path)
            except FileExistsError:
                pass  # another starter was first; its keys are as good
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The keys cannot be written to {path}: {error.strerror}; choose another folder with READBACK_DATA."
        ) from None


def permission_problem(path: Path) -> str | None:
    """What is wrong with who may read the keys, or ``None``. For `readback doctor` and a warning at start."""
    mode = path.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"{path} may be read or changed by others (mode {stat.S_IMODE(mode):04o}); run: chmod 600 {path}"
    return None


def _encode(key: bytes) -> str:
    return urlsafe_b64encode(key).rstrip(b"=").decode()


def _read_json(path: Path) -> dict[str, object]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"The file of keys {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"The file of keys {path} is not JSON.") from None
    if not isinstance(document, dict):
        raise ConfigError(f"The file of keys {path} must hold a JSON object.")
    return document


def _text(given: object, what: str) -> str:
    if not isinstance(given, str):
        raise ConfigError(f"The keys cannot be used: {what} is no text.")
    return given


def _given(value: object, begins: str, source: str) -> bytes:
    """Somebody else's key: as it is, where it begins so (or is an object), else as the file of this path has it."""
    if isinstance(value, dict):
        return json.dumps(value).encode()
    if not isinstance(value, str) or "\0" in value:
        raise ConfigError(f"The value of {source} is neither a key nor the path of one.")
    if not value or value.lstrip().startswith(begins):
        return value.encode()
    try:
        return Path(value).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"The file that {source} names cannot be read: {error.strerror}.") from None


def _pairs(text: str, source: str) -> dict[str, object]:
    pairs: dict[str, object] = {}
    for number, part in enumerate(filter(None, (part.strip() for part in text.split(","))), 1):
        # Only the first "=": base64 may end in more of them.
        kid, separator, key = part.partition("=")
        if not separator or not kid:
            raise ConfigError(f"Entry {number} of the variable {source} is not of the form kid=key.")
        pairs[kid.strip()] = key.strip()
    return pairs


def _ring(value: object, source: str) -> dict[str, bytes]:
    if not isinstance(value, dict) or not value:
        raise ConfigError(f"There is no key in {source}: it must name at least one, as kid and base64url key.")
    ring: dict[str, bytes] = {}
    for kid, text in value.items():
        try:
            if not isinstance(text, str):
                raise ValueError
            # Both base64 alphabets are taken, because tools differ; anything else is refused rather than skipped.
            plain = text.replace("+", "-").replace("/", "_").rstrip("=")
            key = urlsafe_b64decode(plain + "=" * (-len(plain) % 4))
            if _encode(key) != plain:
                raise ValueError
        except ValueError:
            raise ConfigError(f"The key {kid!r} in {source} is not base64.") from None
        ring[kid] = key
    return ring
