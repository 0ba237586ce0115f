"""The terminal chat behind `readback chat`: one stream, one person, at a terminal or in a pipe.

Promises: what was typed is shown as pending until the server has numbered it, is kept and repeated while the server is
away, in the order in which it was typed; the terminal is as it was afterwards, whichever way the chat ends (a command,
Ctrl-C or Ctrl-D, a signal, an error). When stdin or stdout is no terminal, each line of input is sent and each event is
one line of output; end of input waits until all of it is acknowledged.

It is a client like any other: it imports `readback_client` and nothing of the gateway but its own three modules
(`chat_room` what is so, `chat_line` what is typed, `chat_view` how it looks).
"""

from __future__ import annotations

import math
import os
import signal
import sys
import termios
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

import trio
from rich.console import Console

from gateway.chat_line import LineEditor
from gateway.chat_room import HELP, Command, Line, Room, command_of, short
from gateway.chat_view import Screen, plain_line
from readback_client import Client, Ended, Limits, Online, ReadbackError, StreamReset, Token, connect

HISTORY_EVENTS = 20
UNSENT_MAX = 1_000  # typed or piped lines that wait for the server; a pipe then waits, a person is told
READ_BYTES = 65_536
FRAME_S = 0.03  # a burst of events is one drawing
LAST_WORDS_S = 2.0  # after the last acknowledgement of a pipe, for its event to be shown
TOKEN_WARNING_S = 60.0  # before a fixed token's end, which is the chat's
PATIENCE = Limits(backoff_cap_s=5.0)  # a person watches, so the longest wait is short


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One thing to send. ``shown``: it stands in the room as a pending message."""

    key: str
    type: str
    body: dict[str, object]
    shown: bool


class Left(Exception):
    """The person leaves; ends the chat's tasks."""


class Chat:
    """One run. `TerminalChat` and `PipeChat` differ in what they read and how they show."""

    def __init__(self, rb: Client, room: Room) -> None:
        self.rb = rb
        self.room = room
        self.outgoing, self._queue = trio.open_memory_channel[Outgoing](UNSENT_MAX)
        self.unsent = 0
        self.last_seq = 0  # shown
        self.last_sent = 0  # acknowledged
        self._welcomed = trio.Event()

    # -- what the two do differently ----------------------------------------------------------------------------------

    async def read(self) -> None:
        raise NotImplementedError

    def show(self, line: Line) -> None:
        """A line is new or has changed."""

    def changed(self) -> None:
        """Something beside the lines has changed."""

    def news(self, text: str) -> None:
        """Something about the connection worth saying."""

    def warn(self, text: str) -> None:
        """Something that a person should do something about."""
        self.notice(text)

    # -- what they share ----------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        start: dict[str, int] = {"last": HISTORY_EVENTS}
        while True:
            try:
                with self.rb.subscribe(self.room.stream, **start) as events:
                    async for event in events:
                        self.last_seq = event.seq
                        self.show(self.room.event(event))
                        self.rb.mark(self.room.stream, delivered=event.seq, read=event.seq)
            except StreamReset as reset:
                self.notice(f"some messages cannot be shown: {reset}")
                trimmed = reset.reason == "trimmed" and reset.first is not None
                start = {"after": reset.first - 1} if trimmed and reset.first else {"last": HISTORY_EVENTS}

    async def listen(self) -> None:
        async for said in self.rb.signals(self.room.stream):
            self.room.signal(said)
            self.changed()

    async def watch(self) -> None:
        async for status in self.rb.status:
            news = self.room.said(status, trio.current_time())
            if news:
                self.news(news)
            self.changed()
            if isinstance(status, Online):
                self._welcomed.set()
                await self.refresh_roster()

    async def mind_the_token(self) -> None:
        """Of a token that cannot be renewed, the end is said in time to get another. Once."""
        while True:
            left_s = self.rb.token_ends_in_s
            if left_s is not None and left_s <= TOKEN_WARNING_S:
                self.warn(
                    f"the access token ends in {max(left_s, 0.0):.0f} s, and this chat with it: begin anew with another"
                )
                return
            self._welcomed = trio.Event()
            with trio.move_on_after(math.inf if left_s is None else left_s - TOKEN_WARNING_S):
                await self._welcomed.wait()

    async def refresh_roster(self) -> None:
        try:
            roster = await self.rb.presence(self.room.stream, timeout_s=5.0)
        except ReadbackError:
            return  # `follow` meets the same refusal, and says so
        self.room.present = {here.by: here.value for here in roster.online}
        self.changed()

    async def deliver(self) -> None:
        """One at a time: the order in which things were typed is the order in which they land, whatever happens."""
        async with self._queue:
            async for out in self._queue:
                try:
                    sent = await self.rb.send(self.room.stream, out.body, out.type, key=out.key, timeout_s=math.inf)
                    self.room.sent(out.key, sent.seq)
                    self.last_sent = sent.seq
                except (ReadbackError, ValueError) as error:
                    if isinstance(self.rb.state, Ended):
                        raise
                    if out.shown:
                        self.room.failed(out.key, str(error))
                        self.show(self.room.lines[-1])
                    else:
                        self.notice(f"{out.type}: {error}")
                self.unsent -= 1
                self.changed()

    def notice(self, text: str) -> None:
        self.room.notice(text)
        self.show(self.room.lines[-1])

    def queue(self, type: str, body: dict[str, object], text: str | None = None) -> Outgoing:
        out = Outgoing(str(uuid.uuid4()), type, body, text is not None)
        if text is not None:
            self.room.sending(out.key, text)
        self.unsent += 1
        return out

    def outgoing_of(self, command: Command) -> Outgoing | None:
        match command.name:
            case "say":
                return self.queue("message", {"text": command.text}, command.text)
            case "edit":
                return self.queue("edit", {"ref": command.ref, "text": command.text})
            case "delete":
                return self.queue("delete", {"ref": command.ref})
            case "react":
                return self.queue("react", {"ref": command.ref, "emoji": command.text, "on": True})
        return None


class PipeChat(Chat):
    """Lines in, lines out. Commands are not looked for: what is piped is text."""

    def __init__(self, rb: Client, room: Room, stdin: int, stdout: TextIO) -> None:
        super().__init__(rb, room)
        self._stdin = stdin
        self._stdout = stdout
        self._shown = trio.Event()

    def show(self, line: Line) -> None:
        try:
            print(plain_line(line), file=self._stdout, flush=True)
        except BrokenPipeError:
            # Whoever read our lines has enough (`| head`). What is still to be sent is sent all the same.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stdout.fileno())
        self._shown.set()

    def news(self, text: str) -> None:
        print(f"readback chat: {text}", file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        self.news(text)  # whoever reads our lines wants the room's

    async def read(self) -> None:
        rest = b""
        async with self.outgoing:
            while True:
                data = await read_some(self._stdin)
                *lines, rest = (rest + data).split(b"\n")
                if not data and rest:
                    lines, rest = [rest], b""
                for raw in lines:
                    text = raw.decode("utf-8", "replace").rstrip("\r")
                    if text.strip():
                        await self.outgoing.send(self.queue("message", {"text": text}, text))
                if not data:
                    return

    async def deliver(self) -> None:
        await super().deliver()
        with trio.move_on_after(LAST_WORDS_S):
            while self.last_seq < self.last_sent:
                self._shown = trio.Event()
                await self._shown.wait()
        raise Left


class TerminalChat(Chat):
    """A person at a keyboard."""

    def __init__(self, rb: Client, room: Room, stdin: int, screen: Screen) -> None:
        super().__init__(rb, room)
        self.editor = LineEditor()
        self._stdin = stdin
        self._screen = screen
        self._dirty = trio.Event()
        self._warned = False

    def show(self, line: Line) -> None:
        self._dirty.set()

    def changed(self) -> None:
        self._dirty.set()

    async def paint(self) -> None:
        while True:
            self._dirty = trio.Event()
            self._screen.draw(self.editor, trio.current_time())
            await trio.sleep(FRAME_S)
            change_s = self.room.next_change(trio.current_time())
            with trio.move_on_after(math.inf if change_s is None else max(change_s, FRAME_S)):
                await self._dirty.wait()

    async def resized(self) -> None:
        with trio.open_signal_receiver(signal.SIGWINCH) as signals:
            async for _ in signals:
                self._dirty.set()

    async def read(self) -> None:
        stream = self.room.stream
        while True:
            data = await read_some(self._stdin)
            typed = self.editor.feed(data)
            for line in typed.lines:
                await self._entered(command_of(line, self.room))
            if not data or typed.interrupt:
                raise Left
            if typed.end:
                self._leave()
            writes = bool(self.editor.text) and not self.editor.text.startswith("/")
            self.rb.typing(stream, writes)
            self.changed()

    async def _entered(self, command: Command) -> None:
        out = self.outgoing_of(command)
        if out is not None:
            try:
                self.outgoing.send_nowait(out)
            except trio.WouldBlock:
                self.unsent -= 1
                self.room.failed(out.key, f"{UNSENT_MAX} messages wait for the server already")
        elif command.name == "quit":
            self._leave()
        elif command.name == "who":
            await self.refresh_roster()
            self.notice(f"here: {self.room.here() or 'nobody that we know of'}")
        else:
            self.notice(command.text or HELP)

    def _leave(self) -> None:
        if self.unsent and not self._warned:
            self._warned = True
            waiting = "1 message is" if self.unsent == 1 else f"{self.unsent} messages are"
            self.notice(f"{waiting} not acknowledged yet; once more to leave all the same")
            return
        raise Left


async def read_some(descriptor: int) -> bytes:
    """Bytes from a terminal, a pipe or a file; empty at its end."""
    try:
        await trio.lowlevel.wait_readable(descriptor)
    except OSError:
        # Plain files and /dev/null cannot be waited for, and need not be; a disk may still be slow.
        return await trio.to_thread.run_sync(os.read, descriptor, READ_BYTES)
    try:
        return os.read(descriptor, READ_BYTES)
    except OSError:
        return b""  # the terminal hung up


@contextmanager
def keys_at_once(descriptor: int, stdout: TextIO) -> Iterator[None]:
    """The terminal gives each key as it is pressed, unechoed, Ctrl-C included; restored however the block ends."""
    before = termios.tcgetattr(descriptor)
    now = termios.tcgetattr(descriptor)
    now[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN)
    now[6][termios.VMIN], now[6][termios.VTIME] = 1, 0
    try:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, now)
        stdout.write("\x1b[?2004h")  # bracketed paste
        stdout.flush()
        yield
    finally:
        stdout.write("\x1b[?2004l")
        stdout.flush()
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def _until_signalled() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for _ in signals:
            raise Left


async def _run(chat: Chat, token: Token) -> None:
    try:
        async with trio.open_nursery() as nursery:
            if isinstance(token, str):
                nursery.start_soon(chat.mind_the_token)
            for task in (chat.follow, chat.listen, chat.watch, chat.deliver, chat.read, _until_signalled):
                nursery.start_soon(task)
            if isinstance(chat, TerminalChat):
                nursery.start_soon(chat.paint)
                nursery.start_soon(chat.resized)
    except BaseExceptionGroup as group:
        left, _rest = group.split(Left)
        if left is not None:
            return  # the ordinary end, whatever else fell at the same moment
        errors, others = group.split(Exception)
        if others is not None or errors is None:
            raise  # a cancellation is its scope's business
        raise _first(errors) from None


def _first(group: ExceptionGroup[Exception]) -> Exception:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, ExceptionGroup) else found


async def run_chat(
    url: str, token: Token, stream: str, *, principal: str, stdin: int = 0, stdout: TextIO | None = None
) -> None:
    """Chat in ``stream`` until the person leaves or the input ends. Exits with 1 and a sentence where it cannot. ``token``
    as `connect` takes it: a fixed one that is about to end is said, a callable's are renewed."""
    stdout = stdout if stdout is not None else sys.stdout
    room = Room(stream, principal)
    try:
        async with connect(url, token, limits=PATIENCE) as rb:
            if os.isatty(stdin) and stdout.isatty():
                console = Console(file=stdout, highlight=False)
                with keys_at_once(stdin, stdout), Screen(console, room) as screen:
                    chat: Chat = TerminalChat(rb, room, stdin, screen)
                    room.notice(f"{stream} as {short(principal)} — Enter sends, /help for more, Ctrl-D leaves")
                    try:
                        await _run(chat, token)
                    finally:
                        screen.draw(None, trio.current_time())
            else:
                chat = PipeChat(rb, room, stdin, stdout)
                await _run(chat, token)
    except (ReadbackError, ValueError) as error:
        print(f"readback chat: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    if chat.unsent:
        what = "1 message was" if chat.unsent == 1 else f"{chat.unsent} messages were"
        print(f"readback chat: {what} not acknowledged and may not have been sent", file=sys.stderr)
        raise SystemExit(1)
