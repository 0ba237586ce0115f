"""The key of Google's routes: in the secrets file, replaced by a variable, and in nothing that is printed."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config import Config, ConfigError
from gateway.keyring import load_secrets

RING = {"k1": b64encode(b"k" * 32).decode()}


def at(folder: Path, **more: object) -> Config:
    """With these beside the rings in the secrets file."""
    (folder / "secrets.json").write_text(json.dumps({"token_secrets": RING, "resume_keys": RING, **more}))
    return replace(Config(), data=folder)


def test_the_file_has_it_and_a_variable_replaces_it(tmp_path: Path) -> None:
    """An empty variable counts as not set, as everywhere; without any there is no key."""
    config = at(tmp_path, google_routes_key="AIzaFile")
    found = load_secrets(config, {"READBACK_GOOGLE_ROUTES_KEY": "AIzaVariable"})
    assert found.google_routes_key == "AIzaVariable"
    assert "AIza" not in repr(found)
    assert load_secrets(config, {}).google_routes_key == "AIzaFile"
    assert load_secrets(config, {"READBACK_GOOGLE_ROUTES_KEY": ""}).google_routes_key == "AIzaFile"
    assert load_secrets(at(tmp_path), {}).google_routes_key == ""


@pytest.mark.parametrize("value", [7, None, {"key": "AIzaSecret"}])
def test_what_is_no_text(tmp_path: Path, value: object) -> None:
    """One sentence that names the secret, and never says it."""
    with pytest.raises(ConfigError, match=r"google_routes_key in .* is no text") as raised:
        load_secrets(at(tmp_path, google_routes_key=value), {})
    assert "AIza" not in str(raised.value)
