"""Processes that share a port answer for each other: a scrape or a probe reaches any of them, and is about all.

For: `GET /metrics` and `GET /readyz` of a node with siblings (`serve --workers`, instances of systemd's template). Each
listens on a Unix socket in a folder that only its user may enter, named after it; whoever is asked asks the others there.
Promises: one that does not answer within `ASK_TIMEOUT_S` is told as such and holds nothing up; every series carries
``worker="…"``; each family is told once. Does not: remember anything between questions, or trust a sibling's size.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson
import trio

from gateway.service import Health

SUFFIX = ".sock"
ASK_TIMEOUT_S = 1.0
QUESTION_BYTES = 16
ANSWER_BYTES_MAX = 4 * 1_048_576
METRICS, HEALTH = b"metrics\n", b"health\n"

_UP = "# HELP readback_worker_up 1 where the worker answered this scrape.\n# TYPE readback_worker_up gauge"


class Gather:
    """One node's place among its siblings. ``name`` is unique among them: letters, digits, dots, dashes."""

    def __init__(self, folder: Path, name: str, *, metrics: Callable[[], bytes], health: Callable[[], Health]) -> None:
        self.name = name
        self._folder = folder
        self._own: Mapping[bytes, Callable[[], bytes]] = {METRICS: metrics, HEALTH: lambda: _health(health())}

    async def run(self, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer siblings until the scope that is told at the start is cancelled."""
        path = self._folder / (self.name + SUFFIX)
        draft = self._folder / f".{self.name}.{os.getpid()}"
        draft.unlink(missing_ok=True)
        sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            await sock.bind(str(draft))
            draft.chmod(0o600)
            sock.listen(16)
            # Renamed into place: it takes over from one of the same name, who may still be on its way out.
            draft.replace(path)
            mine = path.stat().st_ino
        except OSError:
            sock.close()
            draft.unlink(missing_ok=True)
            raise
        try:
            with trio.CancelScope() as scope:
                task_status.started(scope)
                await trio.serve_listeners(self._answer, [trio.SocketListener(sock)])
        finally:
            try:
                if path.stat().st_ino == mine:
                    path.unlink()
            except OSError:
                pass

    async def _answer(self, stream: trio.SocketStream) -> None:
        with trio.move_on_after(ASK_TIMEOUT_S):
            try:
                question = b""
                while not question.endswith(b"\n") and len(question) < QUESTION_BYTES:
                    chunk = await stream.receive_some(QUESTION_BYTES)
                    if not chunk:
                        return
                    question += chunk
                own = self._own.get(question)
                if own is not None:
                    await stream.send_all(own())
            except trio.BrokenResourceError:
                pass  # it has given up on us
            finally:
                await trio.aclose_forcefully(stream)

    async def metrics(self) -> bytes:
        """The text of all, and who of them did not answer."""
        return merge(await self._ask_all(METRICS))

    async def facts(self) -> dict[str, int | float | str]:
        """How many workers there are, how many take new clients, and who does not, why."""
        answers = await self._ask_all(HEALTH)
        reasons = {}
        for name, answer in answers.items():
            try:
                found = orjson.loads(answer) if answer is not None else ["does not answer"]
            except orjson.JSONDecodeError:
                found = ["answers nonsense"]
            if found:
                reasons[name] = ", ".join(map(str, found))
        facts: dict[str, int | float | str] = {
            "worker": self.name,
            "workers": len(answers),
            "workers_ready": len(answers) - len(reasons),
        }
        if reasons:
            facts["workers_not_ready"] = "; ".join(f"{name}: {why}" for name, why in sorted(reasons.items()))
        return facts

    async def _ask_all(self, question: bytes) -> dict[str, bytes | None]:
        """Everybody's answer by name, in the order of names; ``None`` where there was none."""
        names = {path.name.removesuffix(SUFFIX) for path in self._folder.glob("*" + SUFFIX)} | {self.name}
        answers: dict[str, bytes | None] = dict.fromkeys(sorted(names, key=_in_order))

        async def ask(name: str) -> None:
            with trio.move_on_after(ASK_TIMEOUT_S):
                answers[name] = await _ask(self._folder / (name + SUFFIX), question)

        async with trio.open_nursery() as nursery:
            for name in answers:
                if name == self.name:
                    answers[name] = self._own[question]()
                else:
                    nursery.start_soon(ask, name)
        return answers


async def _ask(path: Path, question: bytes) -> bytes | None:
    try:
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(question)
            answer = b""
            async for chunk in stream:
                answer += chunk
                if len(answer) > ANSWER_BYTES_MAX:
                    return None
            return answer or None
    except (OSError, trio.BrokenResourceError):
        return None


def _health(health: Health) -> bytes:
    return orjson.dumps([] if health.ready else health.reasons)


def _in_order(name: str) -> tuple[int, str]:
    """2 before 10."""
    return (int(name), "") if name.isascii() and name.isdigit() else (1 << 31, name)


def merge(texts: Mapping[str, bytes | None]) -> bytes:
    """One exposition of many, each sample labelled with whose it is. A family's HELP and TYPE are those met first."""
    families: dict[str, tuple[list[str], list[str]]] = {}
    for worker, text in texts.items():
        label = f'worker="{worker}"'
        samples: list[str] = []
        for line in (text or b"").decode().splitlines():
            if line.startswith("# "):
                _, what, name, _rest = line.split(" ", 3)
                heads, samples = families.setdefault(name, ([], []))
                if not any(head.startswith(f"# {what} ") for head in heads):
                    heads.append(line)
            elif line:
                samples.append(_labelled(line, label))
    lines = [line for heads, samples in families.values() for line in (*heads, *samples)]
    lines.append(_UP)
    lines += [f'readback_worker_up{{worker="{worker}"}} {int(text is not None)}' for worker, text in texts.items()]
    return ("\n".join(lines) + "\n").encode()


def _labelled(sample: str, label: str) -> str:
    name, brace, rest = sample.partition("{")
    if brace and " " not in name:
        return f"{name}{{{label},{rest}"
    name, _, value = sample.partition(" ")
    return f"{name}{{{label}}} {value}"


def gather_in(environ: Mapping[str, str]) -> Path | None:
    """The folder that systemd made for the unit (``RuntimeDirectory=``), the first of them."""
    first = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(first) if first.startswith("/") else None
