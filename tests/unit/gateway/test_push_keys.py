"""The keys of push services: Google's and Apple's own files, given as they are or by their paths; and whose they are."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config, ConfigError, load_config
from gateway.keyring import load_secrets

RING = {"k1": b64encode(b"k" * 32).decode()}
ACCOUNT = {"type": "service_account", "project_id": "buses"}
PEM = "-----BEGIN PRIVATE KEY-----\nMIG\n-----END PRIVATE KEY-----\n"


def at(folder: Path, **more: Any) -> Config:
    """With these beside the rings in the secrets file."""
    (folder / "secrets.json").write_text(json.dumps({"token_secrets": RING, "resume_keys": RING, **more}))
    return replace(Config(), data=folder)


def test_given_as_they_are(tmp_path: Path) -> None:
    """An object, its text, a PEM; and without any, nothing."""
    found = load_secrets(at(tmp_path, fcm_service_account=ACCOUNT, apns_key=PEM), {})
    assert (json.loads(found.fcm_service_account), found.apns_key) == (ACCOUNT, PEM.encode())
    found = load_secrets(at(tmp_path, fcm_service_account=json.dumps(ACCOUNT)), {})
    assert (json.loads(found.fcm_service_account), found.apns_key) == (ACCOUNT, b"")
    assert load_secrets(at(tmp_path), {}).fcm_service_account == b""


def test_given_by_paths(tmp_path: Path) -> None:
    """As both companies hand them out: files."""
    (tmp_path / "google.json").write_text(json.dumps(ACCOUNT))
    (tmp_path / "apple.p8").write_text(PEM)
    config = at(tmp_path, fcm_service_account=str(tmp_path / "google.json"), apns_key=str(tmp_path / "apple.p8"))
    found = load_secrets(config, {})
    assert (json.loads(found.fcm_service_account), found.apns_key) == (ACCOUNT, PEM.encode())


def test_variables_replace_them(tmp_path: Path) -> None:
    """For containers, the key or its path; with both rings in variables no file is needed at all."""
    (tmp_path / "apple.p8").write_text(PEM)
    environ = {
        "READBACK_TOKEN_SECRETS": f"k1={RING['k1']}",
        "READBACK_RESUME_KEYS": f"k1={RING['k1']}",
        "READBACK_FCM_SERVICE_ACCOUNT": json.dumps(ACCOUNT),
        "READBACK_APNS_KEY": str(tmp_path / "apple.p8"),
    }
    found = load_secrets(replace(Config(), data=tmp_path / "none"), environ)
    assert (json.loads(found.fcm_service_account), found.apns_key) == (ACCOUNT, PEM.encode())
    assert "MIG" not in repr(found)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"apns_key": 7}, "neither a key nor the path of one"),
        ({"apns_key": "a\0b"}, "neither a key nor the path of one"),
        ({"fcm_service_account": "/nowhere/google.json"}, "fcm_service_account in .* cannot be read"),
    ],
)
def test_what_is_neither(tmp_path: Path, more: dict[str, Any], says: str) -> None:
    """One sentence that names the secret."""
    with pytest.raises(ConfigError, match=says):
        load_secrets(at(tmp_path, **more), {})


def test_whose_key_it_is() -> None:
    """Team and key have ten capitals and digits each; anything else is a slip that Apple would answer to every push."""
    config = load_config(
        environ={
            "READBACK_APNS_TEAM": "TEAM123456",
            "READBACK_APNS_KEY_ID": "KEY1234567",
            "READBACK_APNS_SANDBOX": "yes",
        }
    )
    assert (config.apns_team, config.apns_key_id, config.apns_sandbox) == ("TEAM123456", "KEY1234567", True)
    with pytest.raises(ConfigError, match="ten capital letters and digits"):
        load_config(environ={"READBACK_APNS_TEAM": "team123456"})
