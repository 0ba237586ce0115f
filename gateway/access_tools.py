"""What the commands of `gateway.cli_access` do: calls of the HTTP API as an admin, and the operator's way to a tenant's switch.

Promises: a refusal of the API is a `CliError` with its own words; nothing secret goes to a log or an argument; a file with a QR
code is its owner's alone. Does not: print.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import orjson
import trio

from core.directory import Directory, Note, Revocation
from core.ports import Refused
from gateway.cli_errors import CliError
from gateway.cli_run import new_key
from gateway.cli_tools import database
from gateway.config import Config
from gateway.tenants import load_tenants
from store.postgres import open_postgres_log

T = TypeVar("T")

OPERATOR: Final = "service:operator"
"""Whom audit events name for what is done by a command at the database."""
TIMEOUT_S: Final = 15.0
PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Api:
    """The HTTP API of a gateway, with a token."""

    url: str
    token: str = field(repr=False)

    def call(self, method: str, path: str, *, body: object = None, params: dict[str, str] | None = None) -> Any:
        """The answer's JSON, ``None`` where it has none. Raises `CliError`."""
        headers = {"authorization": f"Bearer {self.token}"}
        try:
            with httpx.Client(base_url=self.url, timeout=TIMEOUT_S) as client:
                answer = client.request(method, path, json=body, params=params, headers=headers)
        except httpx.InvalidURL:
            raise CliError(f"{self.url!r} is no address of an HTTP API; it looks like http://127.0.0.1:8401") from None
        except httpx.HTTPError as error:
            raise CliError(
                f"the gateway at {self.url} does not answer ({error or type(error).__name__}); give its HTTP API with --url"
            ) from None
        try:
            said = orjson.loads(answer.content) if answer.content else None
        except orjson.JSONDecodeError:
            raise CliError(f"what answers at {self.url} is no Readback (status {answer.status_code})") from None
        if answer.is_success:
            return said
        detail = said.get("detail") if isinstance(said, dict) else None
        raise CliError(f"the gateway says no: {detail or f'status {answer.status_code}'}")


def device_name(text: str) -> str:
    """``truck-7`` is short for its principal."""
    return text if text.startswith("device:") else f"device:{text}"


def write_qr(uri: str, file: Path, kind: str) -> None:
    """``svg`` or ``png``. Whoever reads it can be the device, so that nobody else may."""
    import segno

    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        segno.make(uri, error="m", micro=False).save(out, kind=kind, scale=8)


def qr_text(uri: str) -> str:
    """For a terminal: half a line a row."""
    from io import StringIO

    import segno

    out = StringIO()
    segno.make(uri, error="m", micro=False).terminal(out=out, compact=True)
    return out.getvalue()


# -- the operator's ---------------------------------------------------------------------------------------------------------


def stop_tenant(config: Config, tenant: str, reason: str) -> None:
    async def stop(directory: Directory) -> None:
        note = _note(scope="tenant", value=tenant, reason=reason)
        await directory.revoke(tenant, "tenant", "", at_ms=_now_ms(), until_ms=None, reason=reason, note=note)

    _at_directory(config, stop)


def start_tenant(config: Config, tenant: str, reason: str) -> None:
    async def start(directory: Directory) -> None:
        note = _note(scope="tenant", value=tenant, reason=reason)
        try:
            await directory.lift(tenant, "tenant", "", at_ms=_now_ms(), note=note)
        except Refused as refused:
            if refused.code != "not_found":
                raise
            raise CliError(f"the tenant {tenant} is not stopped") from None

    _at_directory(config, start)


def tenants(config: Config) -> list[tuple[str, Revocation | None]]:
    """By name: those that the tenants file names, and those that are stopped."""
    named = [] if config.tenants_file is None else list(load_tenants(config.tenants_file).named)
    stopped = _at_directory(config, _stopped)
    return [(name, stopped.get(name)) for name in sorted({*named, *stopped})]


async def _stopped(directory: Directory) -> dict[str, Revocation]:
    found: dict[str, Revocation] = {}
    after = 0
    while page := await directory.revocations(after, PAGE):
        found |= {each.tenant: each for each in page if each.scope == "tenant" and not each.lifted}
        after = page[-1].number
    return found


def _at_directory(config: Config, work: Callable[[Directory], Awaitable[T]]) -> T:
    async def main() -> T:
        async with database(config) as url, open_postgres_log(url, new_key=new_key) as log:
            return await work(log.directory)

    return trio.run(main)


def _now_ms() -> int:
    return int(1000 * time.time())


def _note(**facts: str) -> Note:
    return Note(OPERATOR, orjson.dumps(facts))
