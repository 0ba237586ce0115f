"""The iterations a caller holds: events, signals, status. Each waits on a bell that the machine rings.

Each is its own context manager: leaving the ``with`` (or calling `close`) ends it. One that is dropped unclosed stays
until `connect` ends, at the price of its bounded buffer.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

import trio

from readback_client._feed import Reader
from readback_client._machine import Machine
from readback_client._signals import SignalSet
from readback_client._streams import Streams
from readback_client._values import AnySignal, Ended, Event, Status


class Bell:
    """An event that re-arms itself: a ring before `wait` is remembered, and many rings are one."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = trio.Event()


class _Closing:
    """``with`` for things that close without waiting."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self


class Subscription(_Closing):
    """See `Client.subscribe`."""

    reader: Reader

    def __init__(self, streams: Streams, pump: Callable[[], None]) -> None:
        self.bell = Bell()
        self._streams = streams
        self._pump = pump

    @property
    def stream(self) -> str:
        return self.reader.stream

    @property
    def cursor(self) -> int | None:
        """The seq up to which the loop is done; ``None`` until the start is known."""
        return self.reader.done

    def settle(self) -> None:
        """Count the event in hand as done without asking for the next: before a ``break``, or a risky step.

        >>> reader = Reader("chat:ops")
        >>> reader.given = 7
        >>> reader.settle()
        >>> reader.done
        7
        """
        self.reader.settle()

    async def __anext__(self) -> Event:
        reader = self.reader
        reader.settle()
        # A reader that never runs dry must not keep the connection's own tasks from running.
        await trio.lowlevel.checkpoint()
        while True:
            if reader.closed:
                raise StopAsyncIteration
            event = self._streams.take(reader)
            self._pump()
            if event is not None:
                return event
            await self.bell.wait()

    def close(self) -> None:
        """End the iteration; a task that waits in it stops. What was saved as done stays."""
        if not self.reader.closed:
            self._streams.close_reader(self.reader)
            self.bell.ring()
            self._pump()


class Signals(_Closing):
    """See `Client.signals`."""

    listener: SignalSet

    def __init__(self, streams: Streams, stream: str, pump: Callable[[], None]) -> None:
        self.bell = Bell()
        self.stream = stream
        self._streams = streams
        self._pump = pump

    async def __anext__(self) -> AnySignal:
        await trio.lowlevel.checkpoint()
        while True:
            if self.listener.closed:
                raise StopAsyncIteration
            signal = self.listener.take()
            if signal is not None:
                return signal
            if self.listener.error is not None:
                raise self.listener.error
            await self.bell.wait()

    def close(self) -> None:
        if not self.listener.closed:
            self._streams.close_signals(self.stream, self.listener)
            self.bell.ring()
            self._pump()


class StatusStream(_Closing):
    """See `Client.status`. Ends after `Ended`."""

    def __init__(self, machine: Machine, readers: list[StatusStream]) -> None:
        self.bell = Bell()
        self._machine = machine
        self._readers = readers
        self._seen: Status | None = None

    async def __anext__(self) -> Status:
        await trio.lowlevel.checkpoint()
        while self._machine.status is self._seen:
            if isinstance(self._seen, Ended) or self not in self._readers:
                self.close()
                raise StopAsyncIteration
            await self.bell.wait()
        self._seen = self._machine.status
        return self._seen

    def close(self) -> None:
        if self in self._readers:
            self._readers.remove(self)
            self.bell.ring()
