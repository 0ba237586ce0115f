"""What a person in a terminal chat sees, as data: messages with their state, who types, who is here, who has read.

Takes the client's values (`readback_client`) and returns nothing; `gateway.chat_view` draws it. No terminal, no clock
of its own. Bounded: at most ``LINES_MAX`` lines are kept, and people are as many as the room has.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from readback_client import AnySignal, Connecting, Event, Mark, Online, Presence, Status, Typing, Waiting

LINES_MAX = 1_000
NEWS_S = 5.0  # how long "resumed, 4 missed messages caught up" stays


def plain(text: str) -> str:
    """Text of somebody else's, safe for a terminal: no control characters, no turning of the reading direction.

    A message must not move the cursor, retitle the window or answer a terminal's questions. A newline is shown, so
    that one message stays one line.

    >>> plain("a\\x1b[2Jb\\nc")
    'a�[2Jb⏎c'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join("⏎" if c == "\n" else " " if c == "\t" else "�" if _dangerous(c) else c for c in text)


def _dangerous(c: str) -> bool:
    return (
        unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")
        or c in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )


def short(principal: str) -> str:
    """People by their name alone; devices and services keep their kind.

    >>> short("user:amy"), short("service:cron")
    ('amy', 'service:cron')
    """
    return plain(principal.removeprefix("user:"))


@dataclass(slots=True)
class Line:
    """A message, or a notice (``by`` empty). ``seq`` 0: not acknowledged yet; ``problem`` says why it never will be."""

    by: str
    text: str
    seq: int = 0
    at: str = ""
    key: str = ""
    edited: bool = False
    deleted: bool = False
    problem: str = ""
    reactions: dict[str, set[str]] = field(default_factory=dict)

    @property
    def pending(self) -> bool:
        return bool(self.by) and not self.seq and not self.problem


class Room:
    """One stream as this person sees it. ``lines`` in order; own unacknowledged messages are in ``outbox``."""

    def __init__(self, stream: str, me: str) -> None:
        self.stream = stream
        self.me = me
        self.lines: list[Line] = []
        self.dropped = 0
        """How many lines gave way at the front; with an index into ``lines`` it makes a stable number."""
        self.outbox: dict[str, Line] = {}
        self.head = 0
        self.typing: set[str] = set()
        self.present: dict[str, str] = {}
        self.read: dict[str, int] = {}
        self.status: Status = Connecting("", 1)
        self.status_at = 0.0
        self._by_seq: dict[int, Line] = {}
        self._news = ""
        self._news_until = 0.0
        self._welcomed = False
        self._away = False

    # -- what happened ------------------------------------------------------------------------------------------------

    def event(self, event: Event) -> Line:
        """Take an event; returns the line that shows it (a new one, or the one that it changes)."""
        self.head = event.seq
        self.typing.discard(event.by)
        if event.key:
            self.outbox.pop(event.key, None)
        body = event.body if event.body is not None else {}
        ref = body.get("ref")
        target = self._by_seq.get(ref) if isinstance(ref, int) else None
        at = event.at.astimezone().strftime("%H:%M:%S")
        if event.type == "message":
            text = event.text if event.body is not None else "(no longer kept)"
            return self._add(Line(event.by, plain(text), event.seq, at, event.key))
        if event.type == "edit" and target is not None:
            target.text, target.edited = plain(event.text), True
            return target
        if event.type == "delete" and target is not None:
            target.deleted = True
            target.reactions.clear()
            return target
        if event.type == "react" and target is not None:
            self._react(target, plain(str(body.get("emoji", "")))[:16], event.by, body.get("on") is not False)
            return target
        return self._add(Line("", self._other(event, ref), event.seq, at))

    def sending(self, key: str, text: str) -> None:
        self.outbox[key] = Line(self.me, plain(text), key=key)

    def sent(self, key: str, seq: int) -> None:
        line = self.outbox.get(key)
        if line is not None:
            line.seq = seq

    def failed(self, key: str, problem: str) -> None:
        """Refused for good: kept in view, so that the person can copy it."""
        line = self.outbox.pop(key, None)
        if line is not None:
            line.problem = plain(problem)
            self._add(line)

    def signal(self, signal: AnySignal) -> None:
        if isinstance(signal, Typing):
            (self.typing.add if signal.on else self.typing.discard)(signal.by)
        elif isinstance(signal, Presence):
            if signal.value == "offline":
                self.present.pop(signal.by, None)
                self.typing.discard(signal.by)
            else:
                self.present[signal.by] = signal.value
        elif isinstance(signal, Mark):
            self.read[signal.by] = max(signal.read, self.read.get(signal.by, 0))

    def said(self, status: Status, now: float) -> str:
        """Take a status; returns the news in it worth a line, or an empty string."""
        self.status, self.status_at = status, now
        self._news = ""
        if isinstance(status, Online):
            self._welcomed, self._away = True, False
            if status.resumed or status.missed:
                missed = status.missed
                self._news = f"resumed, {missed} missed message{'' if missed == 1 else 's'} caught up"
                self._news_until = now + NEWS_S
        elif isinstance(status, Waiting):
            self.typing.clear()  # nobody can tell us now
            if not self._away:  # the countdown tells the rest; a line for each attempt would be noise
                self._away = True
                what = "connection lost" if self._welcomed else "no connection yet"
                return f"{what} ({plain(status.reason)}); trying again until it works"
            return ""
        return self._news

    def notice(self, text: str) -> None:
        self._add(Line("", plain(text)))

    # -- what to show -------------------------------------------------------------------------------------------------

    def readers(self) -> dict[int, list[str]]:
        """Under which own message each other person's "read" stands: the latest of mine that they have read."""
        mine = [line.seq for line in self.lines if line.by == self.me and line.seq and not line.deleted]
        found: dict[int, list[str]] = {}
        for by in sorted(self.read):
            if by != self.me:
                upto = [seq for seq in mine if seq <= self.read[by]]
                if upto:
                    found.setdefault(upto[-1], []).append(short(by))
        return found

    def connection(self, now: float) -> str:
        """The state of the connection in words, counting down."""
        status = self.status
        if isinstance(status, Online):
            return self._news if self._news and now < self._news_until else "online"
        if isinstance(status, Waiting):
            left = max(status.retry_in_s - (now - self.status_at), 0.0)
            return f"reconnecting in {left:.0f} s ({plain(status.reason)})"
        return "connecting…" if isinstance(status, Connecting) else "ended"

    def next_change(self, now: float) -> float | None:
        """Seconds until `connection` reads differently by itself, if ever."""
        if isinstance(self.status, Waiting):
            return 1.0 - (now - self.status_at) % 1.0
        return self._news_until - now if self._news and now < self._news_until else None

    def typists(self) -> str:
        names = sorted(short(by) for by in self.typing if by != self.me)
        if not names:
            return ""
        if len(names) > 3:
            return f"{len(names)} people are typing"
        return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} typing"

    def here(self) -> str:
        names = [short(by) + (" (away)" if value == "away" else "") for by, value in sorted(self.present.items())]
        return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")

    def mine(self, seq: int | None = None) -> Line | None:
        """My message with that seq, or my latest."""
        for line in reversed(self.lines):
            if line.by == self.me and line.seq and not line.deleted and (seq is None or line.seq == seq):
                return line
        return None

    # -- inside -------------------------------------------------------------------------------------------------------

    def _add(self, line: Line) -> Line:
        self.lines.append(line)
        if line.seq and line.by:
            self._by_seq[line.seq] = line
        if len(self.lines) > LINES_MAX:
            gone = self.lines.pop(0)
            self.dropped += 1
            self._by_seq.pop(gone.seq, None)
        return line

    def _react(self, line: Line, emoji: str, by: str, on: bool) -> None:
        who = line.reactions.setdefault(emoji, set())
        (who.add if on else who.discard)(by)
        if not who:
            del line.reactions[emoji]

    def _other(self, event: Event, ref: object) -> str:
        """A line for what changes nothing in view: membership, and changes to messages from before."""
        body = event.body if event.body is not None else {}
        who, whom = short(event.by), short(str(body.get("principal", "")))
        words = {
            "member.joined": f"{whom} joined",
            "member.left": f"{whom} left",
            "member.role": f"{whom} is now {plain(str(body.get('role', '')))}",
            "edit": f"{who} changed #{ref}: {plain(event.text)}",
            "delete": f"{who} deleted #{ref}",
            "react": f"{who} reacted to #{ref} with {plain(str(body.get('emoji', '')))[:16]}",
        }
        return words.get(event.type, f"{who}: {plain(event.type)}")


@dataclass(frozen=True, slots=True)
class Command:
    """A line that begins with a slash, understood. ``name`` ``problem`` carries what to tell the person instead."""

    name: str
    text: str = ""
    ref: int = 0


HELP = "/edit [#seq] text · /delete [#seq] · /react #seq emoji · /who · /quit · a line that begins with // is sent with one /"


def command_of(line: str, room: Room) -> Command:
    """What a typed line asks for: ``say`` for ordinary text.

    >>> command_of("hello", Room("chat:ops", "user:amy"))
    Command(name='say', text='hello', ref=0)
    """
    if not line.startswith("/") or line.startswith("//"):
        return Command("say", line[1:] if line.startswith("//") else line)
    name, _, rest = line[1:].partition(" ")
    words = _words(rest)
    if name in ("who", "quit", "help"):
        return Command(name)
    if name == "react":
        ref, emoji = next(words), next(words)
        number = _number(ref)
        return (
            Command("react", emoji, number)
            if number and emoji
            else Command("problem", "/react needs a #seq and an emoji")
        )
    if name in ("edit", "delete"):
        number = _number(next(words)) if rest.lstrip().startswith("#") else 0
        text = rest.lstrip().partition(" ")[2] if number else rest
        if name == "delete" and not number:
            number = _number(rest.strip())
        line_ = room.mine(number or None)
        if line_ is None and not number:
            return Command("problem", f"/{name}: there is no message of yours here")
        if name == "edit" and not text.strip():
            return Command("problem", "/edit needs the new text")
        return Command(name, text.strip() if name == "edit" else "", number or (line_.seq if line_ is not None else 0))
    return Command("problem", f"there is no /{plain(name)}; {HELP}")


def _words(text: str) -> Iterator[str]:
    yield from text.split()
    while True:
        yield ""


def _number(word: str) -> int:
    digits = word.removeprefix("#")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 16 else 0
