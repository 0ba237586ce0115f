"""What ``readback audit …`` does: the log held against its hashes and its anchors, anchors written, proofs made and checked.

For: `gateway.cli_audit`. Promises: nothing in a log, a file of anchors or a proof can say anything to the terminal that shows
it; without a database's password on any screen. Does not: change the log.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from core.anchors import Anchor, read_chain
from core.keys import PublicKey, SigningKey, parse_jwk
from core.ports import Refused
from gateway.anchoring import signing_key, write_anchor
from gateway.cli_errors import CANNOT, FINDINGS, USAGE, CliError
from gateway.cli_show import FINDINGS_SHOWN
from gateway.cli_tools import database
from gateway.config import Config, ConfigError
from gateway.keyring import load_secrets
from gateway.log_lines import one_line
from store.anchor_places import AnchorPlace, FilePlace, open_place
from store.proofs import PROOF_BYTES_MAX, ProofError, Proven, check
from store.proving import make_proof, open_links, open_prover
from store.verifier import PATIENT, Verified, verify_log
from store.verify import Finding

NO_KEY = (
    "there is no signing key: add signing_keys to the keys (docs/operations.md), or set READBACK_SIGNING_KEYS; "
    "`readback dev` makes one"
)
NOTHING_ELSEWHERE = (
    "no anchors were given: whoever rewrote everything from some row to the end, hashes and all, is not found by this"
)


def own_key(config: Config) -> SigningKey:
    """The newest signing key of this installation. `CliError` without one."""
    key = signing_key(load_secrets(config))
    if key is None:
        raise CliError(NO_KEY)
    return key


def trusted_keys(config: Config, given: Sequence[str]) -> list[str]:
    """Thumbprints: those given, by themselves or as files of a JWK; else of this installation's own keys, if it has any."""
    if given:
        return [_thumbprint(text) for text in given]
    try:
        secrets = load_secrets(config)
    except ConfigError:
        return []
    return [SigningKey(kid, seed).thumbprint for kid, seed in secrets.signing_keys.items()]


def _thumbprint(text: str) -> str:
    path = Path(text)
    if not path.exists():
        if len(text) == 43 and "/" not in text:
            return text
        raise CliError(f"--key: {text!r} is neither a key's fingerprint of 43 characters nor a file with a JWK", USAGE)
    try:
        key = parse_jwk(orjson.loads(path.read_bytes()))
    except (OSError, ValueError):
        raise CliError(f"--key: the file {text} cannot be read as a JWK", USAGE) from None
    if not isinstance(key, PublicKey):
        raise CliError(f"--key: the file {text} holds no usable key: {key.reason}", USAGE)
    return key.thumbprint


def places(config: Config, given: Sequence[str]) -> list[AnchorPlace]:
    """Where anchors are: those given, else the setting. `CliError` for a file that is not there."""
    found = [open_place(where) for where in given or ([config.anchor] if config.anchor else [])]
    for place in found:
        if isinstance(place, FilePlace) and not place.path.exists():
            raise CliError(f"there is no file of anchors at {place.name}: `readback audit anchor --to` makes one")
    return found


# -- verify -------------------------------------------------------------------------------------------------------------------


class Report:
    """What was found, and what must be known to read it."""

    def __init__(self) -> None:
        self.seen = Verified()
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.keys: list[str] = []

    def json(self) -> bytes:
        seen = self.seen
        document = {
            "holds": not self.findings,
            "epoch": seen.epoch,
            "partitions": seen.partitions,
            "events": seen.events,
            "anchors": seen.anchors,
            "anchored_heads_agreeing": seen.agreed,
            "anchors_of_other_logs": seen.foreign,
            "keys": self.keys,
            "notes": self.notes,
            "findings": [asdict(finding) for finding in self.findings],
        }
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def summary(self) -> str:
        seen = self.seen
        if self.findings:
            return f"{len(self.findings)} findings in {seen.events} events and {seen.anchors} anchors"
        return f"all is well: {seen.events} events verified, {seen.anchors} anchors agree"


def verify(config: Config, console: Console, given: Sequence[str], keys: Sequence[str], *, quiet: bool) -> Report:
    """Everything, with a progress bar. Findings are printed as they come unless ``quiet``, the first hundred of them."""
    return trio.run(partial(_verify, config, console, places(config, given), trusted_keys(config, keys), quiet))


async def _verify(config: Config, console: Console, kept: list[AnchorPlace], trusted: list[str], quiet: bool) -> Report:
    report = Report()
    columns = (TextColumn("verifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("verifying", total=None)

        def found(finding: Finding) -> None:
            report.findings.append(finding)
            if not quiet and len(report.findings) <= FINDINGS_SHOWN:
                progress.console.print(one_line(str(finding)), markup=False, highlight=False, soft_wrap=True)

        anchors: list[Anchor] = []
        for place in kept:  # before the log: what is committed meanwhile only ever lies beyond them
            anchors += await _anchors(place, trusted, report, found)
        async with database(config) as url, open_links(url, PATIENT) as links:
            async for step in verify_log(links, anchors, report.seen):
                progress.update(bar, completed=step.done, total=step.total)
                if step.finding is not None:
                    found(step.finding)
    if len(report.findings) > FINDINGS_SHOWN and not quiet:
        console.print(f"… and {len(report.findings) - FINDINGS_SHOWN} more", highlight=False)
    if not kept:
        report.notes.append(NOTHING_ELSEWHERE)
    elif report.seen.foreign:
        report.notes.append(f"{report.seen.foreign} anchors are of other logs (another epoch) and were not compared")
    if report.keys and not trusted:
        report.notes.append(f"whose keys signed the anchors was not compared (--key): {', '.join(report.keys)}")
    return report


async def _anchors(place: AnchorPlace, trusted: list[str], report: Report, found: Any) -> list[Anchor]:
    """The records of one place; what is wrong with them are findings."""
    anchors, problems = read_chain(await place.lines())
    for problem in problems:
        found(Finding("anchor", f"{place.name} line {problem.number}: {problem.what}"))
    for anchor in anchors:
        if anchor.thumbprint in report.keys:
            continue
        report.keys.append(anchor.thumbprint)
        if trusted and anchor.thumbprint not in trusted:
            what = f"record {anchor.number} is signed by the key {anchor.thumbprint}, which is not one of those known"
            found(Finding("anchor", f"{place.name}: {what}"))
    return [anchor for anchor in anchors if not trusted or anchor.thumbprint in trusted]


# -- anchor, prove, check-proof -----------------------------------------------------------------------------------------------


def anchor(config: Config, to: str | None) -> tuple[str, Anchor]:
    """One record now: where, and what."""
    where = to or config.anchor
    if where is None:
        raise CliError("where to? Give --to FILE or a Postgres' URL, or set READBACK_ANCHOR", USAGE)
    place, key = open_place(where), own_key(config)

    async def main() -> Anchor:
        async with database(config) as url, open_prover(url) as prover:
            written = await write_anchor(prover, place, key, wall=time.time)
            assert written is not None
            return written

    return place.name, trio.run(main)


def prove(config: Config, tenant: str, stream: str, seq: int, given: str | None, *, with_body: bool) -> bytes:
    """The document. Signed where this installation has a key."""
    kept = places(config, [given] if given else [])
    try:
        key = signing_key(load_secrets(config))
    except ConfigError:
        key = None

    async def main() -> bytes:
        async with database(config) as url, open_prover(url) as prover:
            return await make_proof(
                prover,
                tenant,
                stream,
                seq,
                place=kept[0] if kept else None,
                made_ms=int(1000 * time.time()),
                with_body=with_body,
                key=key,
            )

    try:
        return trio.run(main)
    except Refused as error:
        raise CliError(error.message, CANNOT) from None


def check_proof(
    config: Config, file: Path, given: str | None, keys: Sequence[str], body: Path | None
) -> tuple[Proven, list[str]]:
    """What a document proves, and by which keys it was held. `CliError` with `FINDINGS` where it proves nothing."""
    trusted = trusted_keys(config, keys)
    try:
        with file.open("rb") as opened:
            data = opened.read(PROOF_BYTES_MAX + 1)
        text = None if body is None else body.read_bytes()
    except OSError as error:
        raise CliError(f"{error.filename} cannot be read: {error.strerror}", USAGE) from None
    anchors = None
    if given is not None:
        (place,) = places(config, [given])
        anchors = trio.run(place.lines)
    try:
        return check(data, trusted=trusted, anchors=anchors, body=text), trusted
    except ProofError as error:
        raise CliError(f"this proves nothing: {one_line(str(error))}", FINDINGS) from None
