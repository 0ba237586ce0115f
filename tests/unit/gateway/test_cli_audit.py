"""`readback audit`: what each command says and ends with, on a real log that was tampered with, and without any."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import trio
from typer.testing import CliRunner

from core.keys import SigningKey
from gateway import cli
from gateway.cli_errors import CANNOT, DONE, FINDINGS, USAGE
from gateway.config import Config
from gateway.keyring import ensure_secrets, load_secrets
from tests.servers import Database, database, fresh_database, postgres_server  # noqa: F401
from tests.tampering import REWRITE, Filled, fill


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the developer's, and a data folder of the test's own."""
    for name in list(os.environ):
        if name.startswith("READBACK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("READBACK_DATA", str(tmp_path / "data"))


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    """This installation's."""
    config = Config(data=tmp_path / "data")
    ensure_secrets(config.secrets_path)
    kid, seed = next(iter(load_secrets(config, {}).signing_keys.items()))
    return SigningKey(kid, seed)


@pytest.fixture
def filled(database: Database, monkeypatch: pytest.MonkeyPatch) -> Filled:  # noqa: F811
    monkeypatch.setenv("READBACK_DATABASE_URL", database.admin_url)
    return trio.run(fill, database)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["audit", *arguments])


@pytest.mark.parametrize("command", ["verify", "anchor", "prove", "check-proof", "key"])
def test_help_has_examples(command: str) -> None:
    """Every command explains itself, with something to paste."""
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"readback audit {command}" in result.output


def test_from_an_anchor_to_a_proof_that_is_checked_elsewhere(
    filled: Filled, key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: anchor, verify, prove; then, without log or keys, the proof by the file of anchors and the fingerprint."""
    place, proof = str(tmp_path / "anchors.jsonl"), str(tmp_path / "proof.json")
    result = run("anchor", "--to", place)
    assert result.exit_code == DONE, result.output
    assert "anchor 1 of 20" in result.stdout
    assert f"14 events in 4 partitions, signed by the key {key.thumbprint}" in result.stdout
    monkeypatch.setenv("READBACK_ANCHOR", place)
    assert run("anchor").exit_code == DONE
    result = run("verify")
    assert (result.exit_code, result.stdout) == (DONE, "all is well: 14 events verified, 2 anchors agree\n")
    assert result.stderr == ""
    result = run("prove", "--tenant", "demo", "--stream", filled.two.stream, "--seq", "2", "--out", proof)
    assert result.exit_code == DONE, result.output
    assert Path(proof).stat().st_mode & 0o777 == 0o600
    monkeypatch.delenv("READBACK_DATABASE_URL")
    monkeypatch.setenv("READBACK_DATA", str(tmp_path / "auditor"))
    result = run("check-proof", proof, "--anchors", place, "--key", key.thumbprint)
    assert result.exit_code == DONE, result.output
    proven, unproven = result.stdout.split("Not proven:")
    assert f"signed by the key {key.thumbprint}" in proven
    assert unproven.strip().startswith("- that what was written is true")
    assert unproven.count("\n") == 2
    document = json.loads(run("check-proof", proof, "--json").stdout)
    assert document["event"]["body"] == '{"n":7}'
    assert document["anchor"] == 1
    assert any("whose key" in line for line in document["unproven"])


def test_a_proof_that_was_changed_proves_nothing(filled: Filled, key: SigningKey, tmp_path: Path) -> None:
    """One sentence, and exit code 1; so does one that a stranger signed."""
    proof = tmp_path / "proof.json"
    proof.write_bytes(run("prove", "--tenant", "demo", "--stream", filled.two.stream, "--seq", "2").stdout_bytes)
    assert run("check-proof", str(proof)).exit_code == DONE
    stranger = SigningKey("x", b"x" * 32)
    result = run("check-proof", str(proof), "--key", stranger.thumbprint)
    assert (result.exit_code, "not one that was given" in result.stderr) == (FINDINGS, True)
    proof.write_text(proof.read_text().replace('\\"n\\":7', '\\"n\\":8'))
    result = run("check-proof", str(proof))
    assert result.exit_code == FINDINGS
    assert result.stderr.startswith("readback: This proves nothing: ")
    assert result.stdout == ""


def test_a_body_that_was_left_out_is_brought(filled: Filled, key: SigningKey, tmp_path: Path) -> None:
    """`--without-body`, then `--body`."""
    proof, body = tmp_path / "proof.json", tmp_path / "body"
    body.write_text('{"n":7}')
    where = ("--tenant", "demo", "--stream", filled.two.stream, "--seq", "2")
    assert run("prove", *where, "--without-body", "--out", str(proof)).exit_code == DONE
    assert b"n\\" not in proof.read_bytes()
    assert "its body is not here" in run("check-proof", str(proof)).stdout
    assert "these facts and this body" in run("check-proof", str(proof), "--body", str(body)).stdout


def test_tampering_ends_with_one_and_names_the_row(
    filled: Filled,
    key: SigningKey,
    database: Database,  # noqa: F811
    tmp_path: Path,
) -> None:
    """For people line by line, for scripts as one document."""
    place = str(tmp_path / "anchors.jsonl")
    assert run("anchor", "--to", place).exit_code == DONE
    database.sql("update readback.events set body = '{}' where pos = 12")
    result = run("verify", "--anchors", place)
    assert result.exit_code == FINDINGS
    assert f"partition {filled.partition}, pos 11 to 13: altered: one of these 3 rows" in result.stderr
    assert "1 findings in 14 events and 1 anchors" in result.stderr
    database.sql(REWRITE.replace("{p}", str(filled.partition)))
    result = run("verify")
    assert result.exit_code == DONE
    assert "Mind that no anchors were given" in result.stderr
    result = run("verify", "--anchors", place, "--json")
    assert result.exit_code == FINDINGS
    document = json.loads(result.stdout)
    (finding,) = document["findings"]
    assert (document["holds"], document["events"], document["anchors"]) == (False, 14, 1)
    assert (finding["kind"], finding["partition"], finding["last_pos"]) == ("rewritten", filled.partition, 13)


def _edit(lines: list[bytes]) -> list[bytes]:
    return [lines[0].replace(b'"n":1', b'"n":7'), *lines[1:]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_edit, "line 1: its signature does not hold"),
        (lambda lines: [lines[0], lines[2]], "line 2: record 3 stands here, and record 2 is missing before it"),
        (
            lambda lines: [lines[1], lines[0], lines[2]],
            "line 1: record 2 stands here, and record 1 is missing before it",
        ),
        (lambda lines: [*lines[:2], lines[2][:90]], "line 3: the last line is no whole record"),
    ],
)
def test_a_file_of_anchors_that_was_changed_is_named(
    filled: Filled, key: SigningKey, tmp_path: Path, change: Any, said: str
) -> None:
    """Edited, a line dropped, lines swapped, the last one cut off."""
    place = tmp_path / "anchors.jsonl"
    for _ in range(3):
        assert run("anchor", "--to", str(place)).exit_code == DONE
    assert run("verify", "--anchors", str(place)).exit_code == DONE
    place.write_bytes(b"\n".join(change(place.read_bytes().splitlines())) + (b"\n" if "whole" not in said else b""))
    result = run("verify", "--anchors", str(place))
    assert result.exit_code == FINDINGS
    assert said in result.stderr


def test_anchors_signed_by_a_stranger_are_not_believed(filled: Filled, key: SigningKey, tmp_path: Path) -> None:
    """A whole new file by somebody with another key: named, and not compared."""
    place = str(tmp_path / "anchors.jsonl")
    assert run("anchor", "--to", place).exit_code == DONE
    stranger = SigningKey("x", b"x" * 32)
    result = run("verify", "--anchors", place, "--key", stranger.thumbprint)
    assert result.exit_code == FINDINGS
    assert f"signed by the key {key.thumbprint}, which is not one of those known" in result.stderr


def test_anchors_in_another_database(filled: Filled, key: SigningKey, database: Database) -> None:  # noqa: F811
    """Written, verified and proven against in the same way; no password on any screen."""
    with fresh_database(database.server) as elsewhere:
        url = elsewhere.admin_url.replace("postgres@", "postgres:secret@")
        result = run("anchor", "--to", url)
        assert result.exit_code == DONE, result.output
        assert "secret" not in result.output
        assert run("verify", "--anchors", url).stdout == "all is well: 14 events verified, 1 anchors agree\n"
        result = run("prove", "--tenant", "demo", "--stream", filled.one.stream, "--seq", "3", "--anchors", url)
        assert json.loads(result.stdout)["anchor"]["n"] == 1


def test_the_key_can_be_shown_and_given_as_a_file(filled: Filled, key: SigningKey, tmp_path: Path) -> None:
    """Its fingerprint, and the JWK that `--key` takes."""
    assert run("key").stdout.strip() == key.thumbprint
    jwk, place = tmp_path / "gateway.jwk", str(tmp_path / "anchors.jsonl")
    jwk.write_text(run("key", "--json").stdout)
    assert run("anchor", "--to", place).exit_code == DONE
    assert run("verify", "--anchors", place, "--key", str(jwk)).exit_code == DONE


def test_what_cannot_be_done_is_a_sentence(
    filled: Filled,
    database: Database,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No key, no place, no such file or event, a login without the right, a key that is none."""
    monkeypatch.setenv("READBACK_TOKEN_SECRETS", "k=" + "A" * 43)
    monkeypatch.setenv("READBACK_RESUME_KEYS", "k=" + "A" * 43)
    nothing = str(tmp_path / "nothing")
    bad = tmp_path / "bad"
    bad.write_text("{}")
    not_json = tmp_path / "text"
    not_json.write_text("text")
    folder = str(tmp_path)
    for arguments, code, said in (
        (["anchor", "--to", nothing], CANNOT, "There is no signing key"),
        (["anchor"], USAGE, "Where to?"),
        (["verify", "--anchors", nothing], CANNOT, "There is no file of anchors"),
        (["prove", "--tenant", "demo", "--stream", "chat:none", "--seq", "1"], CANNOT, "There is no event 1"),
        (
            ["prove", "--tenant", "demo", "--stream", filled.one.stream, "--seq", "1", "--out", folder],
            CANNOT,
            "written",
        ),
        (["verify", "--key", "short"], USAGE, "neither a key's fingerprint"),
        (["verify", "--key", str(bad)], USAGE, "holds no usable key"),
        (["verify", "--key", str(not_json)], USAGE, "cannot be read as a JWK"),
        (["check-proof", nothing], USAGE, "cannot be read"),
        (["check-proof", str(bad)], FINDINGS, "This proves nothing"),
        (["verify", "--database-url", database.url], CANNOT, "member of readback_log"),
    ):
        result = run(*arguments)
        assert (result.exit_code, said in result.stderr) == (code, True), (arguments, result.output)
        assert "Traceback" not in result.output
    assert run("prove", "--tenant", "demo", "--stream", filled.one.stream, "--seq", "2").exit_code == DONE
