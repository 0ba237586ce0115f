"""`readback chat` from end to end: in a pipe and at a (pseudo) terminal, against a real node that restarts."""

from __future__ import annotations

import os
import pty
import signal
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from core.tokens import Identity
from gateway.chat import run_chat
from readback_client import Client, connect
from tests.nodes import TestNode, serving_node, token


class Running:
    """A chat under test: what it wrote so far, and how to type."""

    def __init__(self, keyboard: int) -> None:
        self.out = b""
        self._keyboard = keyboard
        self._more = trio.Event()

    def heard(self, data: bytes) -> None:
        self.out += data
        self._more.set()
        self._more = trio.Event()

    def type(self, text: str) -> None:
        os.write(self._keyboard, text.encode())

    async def shows(self, text: str, times: int = 1) -> None:
        """Wait until it has written this so often since the last `forget`; fails rather than hangs."""
        with trio.move_on_after(20) as scope:
            while self.out.count(text.encode()) < times:
                await self._more.wait()
        assert not scope.cancelled_caught, (
            f"{text!r} never came; what came: {self.out[-3000:].decode(errors='replace')}"
        )

    def forget(self) -> None:
        self.out = b""


async def pump(descriptor: int, running: Running) -> None:
    while True:
        await trio.lowlevel.wait_readable(descriptor)
        try:
            data = os.read(descriptor, 65_536)
        except OSError:
            return
        if not data:
            return
        running.heard(data)


@asynccontextmanager
async def piped(
    node: TestNode, principal: str, ttl_s: float = 3600.0
) -> AsyncIterator[tuple[Running, Callable[[], None]]]:
    """A chat between two pipes, and how to end its input; the block ends when the chat has."""
    stdin, keyboard = os.pipe()
    screen, stdout = os.pipe()
    running = Running(keyboard)
    ended = False

    def end() -> None:
        nonlocal ended
        if not ended:
            ended = True
            os.close(keyboard)

    with os.fdopen(stdout, "w") as out:
        try:
            with trio.fail_after(40):
                async with trio.open_nursery() as pumping:
                    pumping.start_soon(pump, screen, running)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(
                            lambda: run_chat(
                                node.url,
                                token(principal, ttl_s=ttl_s),
                                "chat:ops",
                                principal=principal,
                                stdin=stdin,
                                stdout=out,
                            )
                        )
                        yield running, end
                        end()
                    pumping.cancel_scope.cancel()
        finally:
            end()
            os.close(stdin)
            os.close(screen)


@asynccontextmanager
async def at_terminal(node: TestNode, principal: str, ttl_s: float = 3600.0) -> AsyncIterator[Running]:
    """A chat at a pseudo terminal of 80 by 24; the block ends when the chat has, the terminal as it was."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    before = termios.tcgetattr(slave)
    running = Running(master)
    with os.fdopen(slave, "w", closefd=False) as out:
        try:
            with trio.fail_after(40):
                async with trio.open_nursery() as pumping:
                    pumping.start_soon(pump, master, running)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(
                            lambda: run_chat(
                                node.url,
                                token(principal, ttl_s=ttl_s),
                                "chat:ops",
                                principal=principal,
                                stdin=slave,
                                stdout=out,
                            )
                        )
                        yield running
                    pumping.cancel_scope.cancel()
            assert termios.tcgetattr(slave) == before
        finally:
            os.close(master)
            os.close(slave)


@asynccontextmanager
async def room() -> AsyncIterator[tuple[TestNode, Client]]:
    """A node with one open room, and bob in it through the client."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with connect(node.url, token("user:bob")) as bob:
            await bob.ready()
            yield node, bob


async def test_each_line_of_a_pipe_is_sent_and_shown() -> None:
    """Lines in, lines out, in order; the end of input waits for the last acknowledgement."""
    async with room() as (node, bob):
        await bob.send("chat:ops", {"text": "before"})
        async with piped(node, "user:amy") as (chat, end):
            await chat.shows("1 ")
            chat.type("first\nsecond\n\n   \n")
            await chat.shows("amy: second")
            await bob.send("chat:ops", {"text": "from\x1b[2J bob"})
            await chat.shows("4 ")
            chat.type("without a newline")
            end()
        lines = [line.split(" ", 2) for line in chat.out.decode().splitlines()]
        assert [(int(seq), text) for seq, _at, text in lines] == [
            (1, "bob: before"),
            (2, "amy: first"),
            (3, "amy: second"),
            (4, "bob: from�[2J bob"),
            (5, "amy: without a newline"),
        ]


async def test_a_reader_that_has_enough_stops_no_sender() -> None:
    """`… | readback chat | head -1`: the lines that are left are sent all the same."""
    async with room() as (node, bob):
        stdin, keyboard = os.pipe()
        screen, stdout = os.pipe()
        os.close(screen)
        with os.fdopen(keyboard, "w") as lines:
            lines.writelines(f"{n}\n" for n in range(20))
        with os.fdopen(stdout, "w") as out, trio.fail_after(20):
            await run_chat(node.url, token("user:amy"), "chat:ops", principal="user:amy", stdin=stdin, stdout=out)
        os.close(stdin)
        assert [event.text for event in (await bob.history("chat:ops")).events] == [str(n) for n in range(20)]


async def test_a_pipe_survives_a_restart_of_the_server() -> None:
    """Lines piped while the server is away land once, in order, when it is back."""
    async with room() as (node, _bob):
        async with piped(node, "user:amy") as (chat, end):
            chat.type("one\n")
            await chat.shows("amy: one")
            await node.stop()
            chat.type("two\nthree\n")
            end()
            await trio.sleep(0.2)
            await node.start()
        texts = [line.split(": ", 1)[1] for line in chat.out.decode().splitlines()]
        assert texts == ["one", "two", "three"]


async def test_a_room_that_may_not_be_joined_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    """No traceback: what is wrong, and exit code 1."""
    left = False
    async with serving_node() as node:
        await node.stream("chat:ops", open=False)
        try:
            async with piped(node, "user:amy"):
                await trio.sleep_forever()
        except* SystemExit:
            left = True
    assert left
    assert capfd.readouterr().err.strip() == "readback chat: forbidden: not a member of chat:ops"


async def test_the_terminal_shows_a_conversation_and_is_restored() -> None:
    """Typing, receipts, edits, who is here; Ctrl-D leaves with the terminal as it was."""
    async with room() as (node, bob):
        await bob.send("chat:ops", {"text": "good morning"})
        async with at_terminal(node, "user:amy") as chat:
            await chat.shows("good morning")
            bob.subscribe("chat:ops", last=1)
            bob.typing("chat:ops")
            await chat.shows("bob is typing")
            chat.type("hello bob")
            await chat.shows("hello bob")
            chat.type("\r")
            await chat.shows("    2 ")
            bob.mark("chat:ops", read=2)
            await chat.shows("read by bob")
            chat.type("/edit hello robert\r")
            await chat.shows("(edited)")
            chat.type("/react #1 👍\r")
            await chat.shows("👍")
            chat.forget()
            chat.type("/who\r")
            await chat.shows("here: amy, bob")
            chat.type("/nonsense\r")
            await chat.shows("there is no /nonsense")
            chat.type("\x04")
        page = await bob.history("chat:ops")
        assert [(event.type, event.by) for event in page.events] == [
            ("message", "user:bob"),
            ("message", "user:amy"),
            ("edit", "user:amy"),
            ("react", "user:amy"),
        ]


async def test_the_terminal_keeps_what_was_typed_over_a_restart() -> None:
    """Pending while away, with a countdown; numbered when back; the catch-up is said."""
    async with room() as (node, _bob), at_terminal(node, "user:amy") as chat:
        await chat.shows("online")
        chat.type("one\r")
        await chat.shows("    1 ")
        await node.stop()
        await chat.shows("reconnecting in")
        chat.type("two\r")
        await chat.shows("sending…")
        chat.forget()
        await node.start()
        await chat.shows("resumed, 0 missed messages caught up")
        await chat.shows("    2 ")
        chat.type("/quit\r")


async def test_leaving_with_unsent_messages_asks_once(capfd: pytest.CaptureFixture[str]) -> None:
    """The first /quit warns, the second leaves, with exit code 1 and a sentence."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        left = False
        try:
            async with at_terminal(node, "user:amy") as chat:
                await chat.shows("online")
                await node.stop()
                await chat.shows("reconnecting in")
                chat.type("lost?\r")
                await chat.shows("sending…")
                chat.type("/quit\r")
                await chat.shows("1 message is not acknowledged yet")
                chat.type("/quit\r")
        except* SystemExit:
            left = True
        assert left
        assert "1 message was not acknowledged" in capfd.readouterr().err


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, b"\x03"])
async def test_every_way_out_restores_the_terminal(how: signal.Signals | bytes) -> None:
    """Signals and Ctrl-C alike."""
    async with room() as (node, _bob), at_terminal(node, "user:amy") as chat:
        await chat.shows("online")
        if isinstance(how, bytes):
            chat.type(how.decode())
        else:
            os.kill(os.getpid(), how)


async def test_a_removed_person_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    """The chat ends with what happened."""
    async with serving_node() as node:
        await node.stream("chat:ops", open=False, members={"user:amy": "member", "user:bob": "owner"})
        admin = Identity("demo", "service:test", frozenset({"admin"}), 2e9)
        left = False
        try:
            async with at_terminal(node, "user:amy") as chat:
                await chat.shows("online")
                await node.desk.remove_member(admin, "chat:ops", "user:amy")
        except* SystemExit:
            left = True
        assert left
        assert "removed from chat:ops" in capfd.readouterr().err


async def test_a_token_that_is_about_to_end_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    """In time to get another: in the room at a terminal, beside the lines of a pipe; and not where there is no hurry."""
    async with room() as (node, _bob):
        async with at_terminal(node, "user:amy", ttl_s=20.0) as chat:
            await chat.shows("and this chat with it")
            chat.type("/quit\r")
        async with piped(node, "user:amy", ttl_s=20.0) as (chat, end):
            chat.type("hi\n")
            await chat.shows("amy: hi")
            end()
        assert b"access token" not in chat.out
        assert capfd.readouterr().err.count("the access token ends in") == 1
        async with piped(node, "user:amy") as (chat, end):
            chat.type("again\n")
            await chat.shows("amy: again")
            end()
        assert capfd.readouterr().err == ""


async def test_a_token_that_is_renewed_is_not_spoken_of(capfd: pytest.CaptureFixture[str]) -> None:
    """There is nothing for a person to do."""
    async with room() as (node, _bob):

        async def fresh() -> str:
            return token("user:amy", ttl_s=20.0)

        stdin, keyboard = os.pipe()
        with os.fdopen(keyboard, "w") as lines:
            lines.write("hi\n")
        with open(os.devnull, "w") as out, trio.fail_after(20):  # noqa: ASYNC230  # it never blocks
            await run_chat(node.url, fresh, "chat:ops", principal="user:amy", stdin=stdin, stdout=out)
        os.close(stdin)
    assert capfd.readouterr().err == ""
