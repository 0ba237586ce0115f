"""How far a command is: a bar on a terminal, nothing elsewhere.

For: `gateway.cli_eta`, which loads it when a command runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from gateway.cli_show import open_console


class Bar:
    """Called for each step."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def __call__(self) -> None:
        self._progress.advance(self._task)

    def of(self, total: int) -> Bar:
        """How many steps there are, where that is known later."""
        self._progress.update(self._task, total=total)
        return self


@contextmanager
def bar(name: str, total: int | None) -> Iterator[Bar]:
    console = open_console()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bar(progress, progress.add_task(name, total=total))
