"""The line a person types: bytes of a terminal in cbreak mode in, an edited line and finished lines out.

Knows the keys that fingers know: arrows, Home and End, Backspace and Delete, Ctrl-A/E/K/U/W, Up and Down through what
was typed before, bracketed paste. Every other control sequence is read to its end and dropped, so that an unknown key
types no garbage. UTF-8 and sequences may arrive in any pieces. No terminal here; `gateway.chat` owns that.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field

LINE_MAX = 4_000  # characters; the wire takes more, but nobody types more on one line
HISTORY_MAX = 200
# CSI and SS3 sequences (ECMA-48), and Alt with a key.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[@-~]|[^\[O])")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")
PASTE_BEGIN, PASTE_END = "\x1b[200~", "\x1b[201~"


@dataclass(slots=True)
class Typed:
    """What came of some bytes: lines finished by Enter, and whether the person wants to leave."""

    lines: list[str] = field(default_factory=list)
    interrupt: bool = False  # Ctrl-C
    end: bool = False  # Ctrl-D on an empty line
    redraw: bool = False  # Ctrl-L


class LineEditor:
    """``text`` and ``cursor`` (an index into it) are what to draw."""

    def __init__(self) -> None:
        self.text = ""
        self.cursor = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._pasting = False
        self._history: list[str] = []
        self._at = 0
        self._draft = ""

    def feed(self, data: bytes) -> Typed:
        typed = Typed()
        text = self._rest + self._decoder.decode(data)
        self._rest = ""
        position = 0
        while position < len(text):
            c = text[position]
            if c != "\x1b":
                self._key(c, typed)
                position += 1
                continue
            sequence = _SEQUENCE.match(text, position)
            if sequence is None:
                if _UNFINISHED.match(text, position) and len(text) - position < 32:
                    self._rest = text[position:]
                    break
                position += 1  # not a sequence after all
                continue
            self._sequence(sequence[0])
            position = sequence.end()
        return typed

    def clear(self) -> None:
        self.text, self.cursor = "", 0

    def _key(self, c: str, typed: Typed) -> None:
        if self._pasting and c in "\r\n":
            self._insert(" ")  # a pasted text is one message until Enter says otherwise
        elif c in "\r\n":
            if self.text.strip():
                typed.lines.append(self.text)
                self._history = [*self._history, self.text][-HISTORY_MAX:]
            self._at = len(self._history)
            self.clear()
        elif c == "\x03":
            typed.interrupt = True
        elif c == "\x04":
            if self.text:
                self._delete(self.cursor, self.cursor + 1)
            else:
                typed.end = True
        elif c == "\x0c":
            typed.redraw = True
        elif c in "\x7f\x08":
            self._delete(self.cursor - 1, self.cursor)
        elif c == "\x01":
            self.cursor = 0
        elif c == "\x05":
            self.cursor = len(self.text)
        elif c == "\x0b":
            self._delete(self.cursor, len(self.text))
        elif c == "\x15":
            self._delete(0, self.cursor)
        elif c == "\x17":
            kept = self.text[: self.cursor].rstrip()
            self._delete(kept.rfind(" ") + 1, self.cursor)
        elif c == "\t":
            self._insert(" ")
        elif c >= " " and c != "\x7f" and not "\x80" <= c < "\xa0":
            self._insert(c)

    def _sequence(self, sequence: str) -> None:
        match sequence:
            case "\x1b[D" | "\x1bOD":
                self.cursor = max(self.cursor - 1, 0)
            case "\x1b[C" | "\x1bOC":
                self.cursor = min(self.cursor + 1, len(self.text))
            case "\x1b[H" | "\x1bOH" | "\x1b[1~" | "\x1b[7~":
                self.cursor = 0
            case "\x1b[F" | "\x1bOF" | "\x1b[4~" | "\x1b[8~":
                self.cursor = len(self.text)
            case "\x1b[3~":
                self._delete(self.cursor, self.cursor + 1)
            case "\x1b[A" | "\x1bOA":
                self._recall(-1)
            case "\x1b[B" | "\x1bOB":
                self._recall(1)
            case _ if sequence == PASTE_BEGIN:
                self._pasting = True
            case _ if sequence == PASTE_END:
                self._pasting = False
            case _:
                pass

    def _insert(self, c: str) -> None:
        if len(self.text) < LINE_MAX:
            self.text = self.text[: self.cursor] + c + self.text[self.cursor :]
            self.cursor += 1

    def _delete(self, begin: int, end: int) -> None:
        begin = max(begin, 0)
        self.text = self.text[:begin] + self.text[end:]
        self.cursor = begin

    def _recall(self, step: int) -> None:
        if not 0 <= self._at + step <= len(self._history):
            return
        if self._at == len(self._history):
            self._draft = self.text
        self._at += step
        self.text = self._history[self._at] if self._at < len(self._history) else self._draft
        self.cursor = len(self.text)
