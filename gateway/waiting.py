"""For those who can wait for what is told by a call: give `answered` to whoever will call it, then await `answer`."""

from __future__ import annotations

from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Waiting(Generic[T]):
    """One answer. An exception given as the answer is raised to who waits."""

    def __init__(self) -> None:
        self._done = trio.Event()
        self._answer: list[T | Exception] = []

    def answered(self, answer: T | Exception) -> None:
        self._answer.append(answer)
        self._done.set()

    async def answer(self) -> T:
        await self._done.wait()
        answer = self._answer[0]
        if isinstance(answer, Exception):
            raise answer
        return answer
