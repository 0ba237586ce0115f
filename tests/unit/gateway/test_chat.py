"""The terminal chat without a terminal: what a room shows, what keys type, what a line commands, how it is drawn."""

from __future__ import annotations

import doctest
import io
from datetime import UTC, datetime

import pytest
from rich.console import Console
from rich.text import Text

from gateway import chat_room, chat_view
from gateway.chat_line import HISTORY_MAX, LINE_MAX, LineEditor
from gateway.chat_room import LINES_MAX, Command, Line, Room, command_of, plain
from gateway.chat_view import Screen, colour, input_text, line_text, plain_line, status_text
from readback_client import Connecting, Event, Mark, Online, Presence, Typing, Waiting

AMY, BOB, CYD = "user:amy", "user:bob", "user:cyd"


def event(seq: int, text: str = "hi", by: str = BOB, type: str = "message", key: str = "", **body: object) -> Event:
    return Event("chat:ops", seq, type, key, by, datetime(2026, 11, 21, 9, 30, tzinfo=UTC), {"text": text, **body})


def room(*events: Event) -> Room:
    made = Room("chat:ops", AMY)
    for each in events:
        made.event(each)
    return made


# -- the room ---------------------------------------------------------------------------------------------------------


def test_a_message_is_pending_until_its_event_comes() -> None:
    """Typed: pending at the end; acknowledged: numbered; its own event: in its place in the order."""
    here = room(event(1))
    here.sending("k", "mine")
    assert here.outbox["k"].pending
    here.sent("k", 3)
    assert not here.outbox["k"].pending
    here.event(event(2))
    here.event(event(3, "mine", AMY, key="k"))
    assert here.outbox == {}
    assert [line.seq for line in here.lines] == [1, 2, 3]
    here.sent("k", 3)  # an acknowledgement after the event changes nothing


def test_a_refused_message_stays_in_view() -> None:
    """With the reason, so that it can be copied."""
    here = room()
    here.sending("k", "mine")
    here.failed("k", "forbidden: only a reader")
    assert here.outbox == {}
    assert (here.lines[-1].text, here.lines[-1].problem) == ("mine", "forbidden: only a reader")
    here.failed("unknown", "nothing")
    assert len(here.lines) == 1


def test_edits_deletions_and_reactions_change_the_message() -> None:
    """In place where it is in view; told in a line where it is from before."""
    here = room(event(1, "one"), event(2, "two"))
    here.event(event(3, "one!", type="edit", ref=1))
    here.event(event(4, type="react", ref=2, emoji="👍", on=True))
    here.event(event(5, type="react", ref=2, emoji="👍", by=CYD))
    here.event(event(6, type="react", ref=2, emoji="👍", on=False))
    here.event(event(7, type="delete", ref=1))
    assert [(line.text, line.edited, line.deleted) for line in here.lines] == [
        ("one!", True, True),
        ("two", False, False),
    ]
    assert here.lines[1].reactions == {"👍": {CYD}}
    here.event(event(8, "older", type="edit", ref=99))
    here.event(event(9, type="delete", ref=99))
    here.event(event(10, type="react", ref=99, emoji="x"))
    assert [line.text for line in here.lines[2:]] == [
        "bob changed #99: older",
        "bob deleted #99",
        "bob reacted to #99 with x",
    ]


def test_membership_is_told() -> None:
    """Who joined, who left, who is what; a type of a newer server is named, not hidden."""
    here = room(
        event(1, type="member.joined", principal=CYD),
        event(2, type="member.role", principal=CYD, role="owner"),
        event(3, type="member.left", principal=CYD),
        event(4, type="poll"),
    )
    assert [line.text for line in here.lines] == ["cyd joined", "cyd is now owner", "cyd left", "bob: poll"]


def test_receipts_stand_under_the_latest_of_mine_that_each_has_read() -> None:
    """Marks only rise; my own and deleted messages do not count."""
    here = room(event(1, by=AMY), event(2), event(3, by=AMY), event(4))
    for by, read in ((BOB, 4), (BOB, 2), (CYD, 2), (AMY, 4), ("user:dan", 0)):
        here.signal(Mark("chat:ops", by, read, read))
    assert here.readers() == {3: ["bob"], 1: ["cyd"]}
    here.event(event(5, type="delete", ref=3, by=AMY))
    assert here.readers() == {1: ["bob", "cyd"]}


def test_who_is_here_and_who_types() -> None:
    """Sorted, without me, cut where many; typing ends with the message and with the connection."""
    here = room()
    for by in (AMY, CYD, BOB):
        here.signal(Typing("chat:ops", by, True, 0.0))
        here.signal(Presence("chat:ops", by, "online", 0.0))
    here.signal(Presence("chat:ops", BOB, "away", 0.0))
    assert here.typists() == "bob, cyd are typing"
    assert here.here() == "amy, bob (away), cyd"
    here.event(event(1, by=CYD))
    assert here.typists() == "bob is typing"
    here.signal(Presence("chat:ops", BOB, "offline", 0.0))
    assert (here.typists(), here.here()) == ("", "amy, cyd")
    for n in range(9):
        here.signal(Typing("chat:ops", f"user:{n}", True, 0.0))
        here.signal(Presence("chat:ops", f"user:{n}", "online", 0.0))
    assert here.typists() == "9 people are typing"
    assert here.here().endswith("and 5 more")
    here.said(Waiting(3.0, "cut"), 0.0)
    assert here.typists() == ""


def test_the_connection_in_words() -> None:
    """Counting down while away; what was missed, for a while, when back."""
    here = room()
    assert here.connection(0.0) == "connecting…"
    assert here.said(Waiting(0.2, "refused"), 5.0) == "no connection yet (refused); trying again until it works"
    here.said(Online("s", AMY, False, 0), 6.0)
    assert here.said(Waiting(0.1, "cut"), 9.0) == "connection lost (cut); trying again until it works"
    assert here.said(Waiting(3.2, "the connection was cut"), 10.0) == ""  # told once an absence
    assert here.connection(11.0) == "reconnecting in 2 s (the connection was cut)"
    assert here.connection(99.0) == "reconnecting in 0 s (the connection was cut)"
    assert here.next_change(10.25) == 0.75
    assert here.said(Connecting("ws://x", 1), 13.0) == ""
    assert here.said(Online("s", AMY, True, 4), 14.0) == "resumed, 4 missed messages caught up"
    assert here.connection(15.0) == "resumed, 4 missed messages caught up"
    assert here.next_change(15.0) == 4.0
    assert here.connection(20.0) == "online"
    assert here.next_change(20.0) is None
    assert here.said(Online("s", AMY, False, 1), 21.0) == "resumed, 1 missed message caught up"
    assert here.said(Online("s", AMY, False, 0), 22.0) == ""


def test_memory_is_bounded() -> None:
    """An endless conversation keeps its last thousand lines."""
    here = room()
    for seq in range(1, LINES_MAX + 50):
        here.event(event(seq))
    assert (len(here.lines), here.dropped) == (LINES_MAX, 49)
    here.event(event(2000, "x", type="edit", ref=1))
    assert here.lines[-1].text == "bob changed #1: x"


@pytest.mark.parametrize("bad", ["\x1b[2J", "\x9b2J", "\x07", "\x00", "\u202e", "\u2028"])
def test_a_message_cannot_touch_the_terminal(bad: str) -> None:
    """Control characters and reversals are shown as what they are: not text."""
    assert bad[0] not in plain(f"a{bad}b")
    assert plain("naïve 漢字 👍") == "naïve 漢字 👍"
    here = room(event(1, f"a{bad}b"), event(2, type="react", ref=1, emoji=bad))
    drawn = line_text(here.lines[0], AMY).plain + plain_line(here.lines[0])
    assert bad[0] not in drawn


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("hello /quit", Command("say", "hello /quit")),
        ("//etc/hosts", Command("say", "/etc/hosts")),
        ("/quit", Command("quit")),
        ("/who", Command("who")),
        ("/help", Command("help")),
        ("/edit better", Command("edit", "better", 3)),
        ("/edit #1 best of all", Command("edit", "best of all", 1)),
        ("/delete", Command("delete", "", 3)),
        ("/delete #1", Command("delete", "", 1)),
        ("/delete 2", Command("delete", "", 2)),
        ("/react #2 👍", Command("react", "👍", 2)),
        ("/react 2 👍", Command("react", "👍", 2)),
        ("/edit", Command("problem", "/edit needs the new text")),
        ("/react 👍", Command("problem", "/react needs a #seq and an emoji")),
    ],
)
def test_commands(line: str, command: Command) -> None:
    """A slash commands, two slashes say one; without a number it is my latest message."""
    assert command_of(line, room(event(1, by=AMY), event(2), event(3, by=AMY))) == command


def test_commands_that_cannot_be_say_why() -> None:
    """Nothing of mine to change; no such command."""
    assert command_of("/edit text", room(event(1))).text == "/edit: there is no message of yours here"
    assert command_of("/fly", room()).text.startswith("there is no /fly; /edit")


# -- the line ---------------------------------------------------------------------------------------------------------


def typed(*pieces: bytes) -> tuple[str, int, list[str]]:
    editor = LineEditor()
    lines: list[str] = []
    for piece in pieces:
        lines += editor.feed(piece).lines
    return editor.text, editor.cursor, lines


@pytest.mark.parametrize(
    ("keys", "text", "cursor"),
    [
        (b"hello", "hello", 5),
        (b"helo\x1b[Dl", "hello", 4),
        (b"hello\x7f\x7f", "hel", 3),
        (b"\x7f", "", 0),
        (b"bc\x01a", "abc", 1),
        (b"ab\x1b[H\x1b[3~", "b", 0),
        (b"ab\x1bOH\x1bOFc", "abc", 3),
        (b"one two \x17", "one ", 4),
        (b"one two\x15", "", 0),
        (b"one two\x1b[D\x1b[D\x1b[D\x0b", "one ", 4),
        (b"a\x04", "a", 1),
        (b"ab\x01\x04", "b", 0),
        (b"a\x1b[1;5Cb\x1b[15~c", "abc", 3),  # keys of no meaning type nothing
        (b"a\x1bxb", "ab", 2),
        (b"a\tb\x00\x9b", "a b�", 4),
        ("héé漢".encode(), "héé漢", 4),
        (b"\x1b[200~one\ntwo\r\x1b[201~", "one two ", 8),
    ],
)
def test_keys(keys: bytes, text: str, cursor: int) -> None:
    """What fingers know, byte by byte or all at once."""
    assert typed(keys)[:2] == (text, cursor)
    assert typed(*(bytes([byte]) for byte in keys))[:2] == (text, cursor)


def test_enter_finishes_lines_and_up_brings_them_back() -> None:
    """Blank lines are none; the draft is kept below what was typed before."""
    editor = LineEditor()
    assert editor.feed(b"one\r  \rtwo\ndraft").lines == ["one", "two"]
    for keys, text in (
        (b"\x1b[A", "two"),
        (b"\x1bOA", "one"),
        (b"\x1b[A", "one"),
        (b"\x1b[B", "two"),
        (b"\x1b[B", "draft"),
    ):
        editor.feed(keys)
        assert editor.text == text


def test_leaving_keys() -> None:
    """Ctrl-C always; Ctrl-D on an empty line only; Ctrl-L redraws."""
    editor = LineEditor()
    assert editor.feed(b"a\x03").interrupt
    assert not editor.feed(b"\x04").end
    assert editor.feed(b"\x15\x04").end
    assert editor.feed(b"\x0c").redraw


def test_a_line_is_bounded() -> None:
    """Neither a cat on the keyboard nor a sequence without end grows it for ever."""
    text, _, _ = typed(b"x" * (LINE_MAX + 100))
    assert len(text) == LINE_MAX
    editor = LineEditor()
    for _ in range(100):
        editor.feed(b"\x1b[" + b"1;" * 40)
    assert len(editor._rest) < 32
    for n in range(HISTORY_MAX + 10):
        editor.feed(b"\x15%d\r" % n)
    assert len(editor._history) == HISTORY_MAX


# -- the view ---------------------------------------------------------------------------------------------------------


def test_lines_for_a_pipe() -> None:
    """Seq, time, who, what; everything that became of it behind."""
    line = Line(BOB, "hi", 7, "09:30:00", edited=True, reactions={"👍": {AMY, CYD}})
    assert plain_line(line) == "7 09:30:00 bob: hi (edited) 👍2"
    assert plain_line(Line("", "cyd joined", 8)) == "* cyd joined"
    assert plain_line(Line(BOB, "hi", 7, "09:30:00", deleted=True, edited=True)) == "7 09:30:00 bob: (deleted)"


def test_a_message_shows_its_state() -> None:
    """Pending, refused, read: each in words."""
    assert line_text(Line(AMY, "hi"), AMY).plain.endswith("amy  hi  sending…")
    assert "not sent: too large" in line_text(Line(AMY, "hi", problem="too large"), AMY).plain
    assert line_text(Line(AMY, "hi", 3), AMY, ["bob", "cyd"]).plain.endswith("✓✓ read by bob, cyd")
    assert colour(BOB) == colour(BOB)


def test_the_status_row_fits_and_says_the_connection_first() -> None:
    """Whatever the width, one row."""
    here = room()
    here.signal(Typing("chat:ops", BOB, True, 0.0))
    here.said(Online("s", AMY, False, 0), 0.0)
    here.signal(Presence("chat:ops", BOB, "online", 0.0))
    assert status_text(here, 0.0, 80).plain.rstrip() == " ● chat:ops · online · bob is typing… · here: bob"
    for width in (10, 20, 40):
        assert status_text(here, 0.0, width).cell_len < width
    here.said(Waiting(3.0, "cut"), 0.0)
    assert status_text(here, 0.0, 80).plain.rstrip() == " ○ chat:ops · reconnecting in 3 s (cut)"


def test_the_input_row_keeps_its_cursor_in_view() -> None:
    """Scrolled sideways, wide characters counted as two."""
    editor = LineEditor()
    editor.feed("漢字 and a long tail of text".encode())
    for width in (12, 20):
        assert input_text(editor, width).cell_len <= width
        assert input_text(editor, width).plain.endswith("text ")
    editor.feed(b"\x01")
    assert input_text(editor, 20).plain.startswith("› 漢字 and")


def test_what_scrolls_off_is_printed_once_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line reaches the terminal's scrollback exactly once, in order, however often the screen is drawn."""
    console = Console(file=io.StringIO(), force_terminal=True, width=60, height=8, color_system=None)
    scrolled: list[str] = []
    monkeypatch.setattr(
        console, "print", lambda *texts, **_: scrolled.extend(text.plain for text in texts if isinstance(text, Text))
    )
    here = room()
    screen = Screen(console, here)
    for seq in range(1, 31):
        here.event(event(seq, f"line-{seq}."))
        screen.draw(LineEditor(), 0.0)
        screen.draw(LineEditor(), 0.0)
    assert [text.split()[-1] for text in scrolled] == [f"line-{seq}." for seq in range(1, 26)]


def test_leaving_takes_the_status_and_the_input_away() -> None:
    """What stays on the terminal is the conversation, with what is still waiting."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=60, height=20, color_system=None)
    here = room(event(1, "line-1."))
    with Screen(console, here) as screen:
        here.sending("k", "waiting")
        screen.draw(LineEditor(), 0.0)
        assert "›" in out.getvalue()
        screen.draw(None, 0.0)
    final = out.getvalue()[out.getvalue().rindex("line-1.") :]
    assert "waiting" in final
    assert "›" not in final


@pytest.mark.parametrize("module", [chat_room, chat_view])
def test_examples_are_true(module: object) -> None:
    """Every ``>>>`` runs."""
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
