"""How a `Room` looks: rich renderables for a terminal, plain lines for a pipe.

On a terminal the last screenful stays live, so that edits, reactions, acknowledgements and receipts change in place;
what scrolls off its top is printed for good in the state it has then, into the terminal's own scrollback. No
alternate screen: after leaving, the conversation is still there to read and copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from gateway.chat_line import LineEditor
from gateway.chat_room import Line, Room, short
from readback_client import Online

COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_red", "bright_cyan", "bright_magenta")
RESERVED_ROWS = 3  # status, input, and one to spare for a terminal that wraps at its last column


def colour(principal: str) -> str:
    """The same one for a person in every session: from the name alone (``hash`` differs by process)."""
    return COLOURS[sum(principal.encode()) % len(COLOURS)]


def line_text(line: Line, me: str, readers: Sequence[str] = ()) -> Text:
    """One message or notice, with who has read up to it underneath."""
    text = Text(no_wrap=False, overflow="fold")
    if not line.by:
        text.append(f"  · {line.text}", "dim italic")
        return text
    number = f"{line.seq:>5}" if line.seq else "    …"
    text.append(f"{number} {line.at or '        '} ", "dim")
    text.append(short(line.by), f"bold {colour(line.by)}" if line.by != me else "bold")
    text.append("  ")
    if line.deleted:
        text.append("(deleted)", "dim italic")
    else:
        text.append(line.text, "dim" if line.pending else "")
    if line.edited and not line.deleted:
        text.append(" (edited)", "dim")
    for emoji, who in line.reactions.items():
        text.append(f"  {emoji}{len(who) if len(who) > 1 else ''}", "yellow")
    if line.pending:
        text.append("  sending…", "dim italic")
    if line.problem:
        text.append(f"  not sent: {line.problem}", "red")
    if readers:
        text.append(f"\n{'':>15}✓✓ read by {', '.join(readers)}", "dim green")
    return text


def plain_line(line: Line) -> str:
    """For a pipe: seq, time, who, what; a notice begins with a star."""
    if not line.by:
        return f"* {line.text}"
    what = "(deleted)" if line.deleted else line.text
    tail = f" (not sent: {line.problem})" if line.problem else " (edited)" if line.edited and not line.deleted else ""
    emoji = "".join(f" {mark}{len(who)}" for mark, who in line.reactions.items())
    return f"{line.seq} {line.at} {short(line.by)}: {what}{tail}{emoji}"


def status_text(room: Room, now: float, width: int) -> Text:
    """One row: the connection, who is here, who types; cut to the width, most important first."""
    online = isinstance(room.status, Online)
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(" ● " if online else " ○ ", "green" if online else "yellow")
    text.append(f"{room.stream} · {room.connection(now)}", "" if online else "yellow")
    if room.typists():
        text.append(f" · {room.typists()}…", "italic")
    if online and room.here():
        text.append(f" · here: {room.here()}", "dim")
    text.truncate(width - 1, overflow="ellipsis", pad=True)
    text.stylize("on grey15")
    return text


def input_text(editor: LineEditor, width: int) -> Text:
    """The typed line with its cursor, scrolled sideways so that the cursor is always in view."""
    room = max(width - 4, 8)
    begin = 0
    while cell_len(editor.text[begin : editor.cursor]) >= room:
        begin += 1
    shown = ""
    for c in editor.text[begin:]:
        if cell_len(shown + c) >= room:
            break
        shown += c
    at = editor.cursor - begin
    text = Text("› ", "bold", no_wrap=True, end="")
    text.append(shown[:at], "not bold")
    text.append(shown[at : at + 1] or " ", "reverse not bold")
    text.append(shown[at + 1 :], "not bold")
    return text


def rows(text: Text, console: Console, width: int) -> int:
    return len(text.wrap(console, width))


class Screen:
    """The live part of a terminal. Use as a context manager; leaving it draws once more and gives the cursor back."""

    def __init__(self, console: Console, room: Room) -> None:
        self._console = console
        self._room = room
        self._printed = 0  # lines that have scrolled off, by their number since the beginning
        self._live = Live(
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def draw(self, editor: LineEditor | None, now: float) -> None:
        """Everything anew. ``editor=None``: for good, without the rows that only a living chat needs."""
        width, height = self._console.size
        room = self._room
        readers = room.readers()
        texts = [self._line(line, readers) for line in room.lines[max(self._printed - room.dropped, 0) :]]
        waiting = [line_text(line, room.me) for line in room.outbox.values()]
        # What does not fit above the waiting messages, the status and the input goes to the scrollback.
        free = max(height - RESERVED_ROWS, 1) - sum(rows(text, self._console, width) for text in waiting)
        taken, first = 0, len(texts)
        while first > 0 and taken + rows(texts[first - 1], self._console, width) <= max(free, 0):
            first -= 1
            taken += rows(texts[first], self._console, width)
        self._printed = max(self._printed, room.dropped) + first
        for text in texts[:first]:
            self._live.console.print(text, highlight=False)
        shown = [*texts[first:], *waiting[-max(height - RESERVED_ROWS, 1) :]]
        if editor is not None:
            shown += [status_text(room, now, width), input_text(editor, width)]
        self._live.update(Group(*shown), refresh=True)

    def _line(self, line: Line, readers: Mapping[int, Sequence[str]]) -> Text:
        mine = line.by == self._room.me
        return line_text(line, self._room.me, readers.get(line.seq, ()) if mine and line.seq else ())
