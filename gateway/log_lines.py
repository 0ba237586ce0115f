"""One record, one line: how the process writes its log.

Promises: nothing that a record quotes can end its line, begin another, or say anything to the terminal that shows it:
control characters come out as Python writes them (``\\n``, ``\\x1b``), and so do those that only look like a line's end or
turn its direction. A traceback keeps its lines, each behind a bar, so that none of them can pass for a record.

Why here and not where something is quoted: servers are quoted too (Redis and Postgres explain themselves in words of their
own), and so are exceptions of libraries, which quote whom they like.
"""

from __future__ import annotations

import logging
import re
import time
from typing import Final

BAR: Final = "    | "
# C0 and C1; what Unicode takes for a line's end (U+2028, U+2029); marks that turn the direction of what follows; surrogates,
# which would raise where they are encoded.
_UNPRINTED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str) -> str:
    return _UNPRINTED.sub(_spelled, text)


def _spelled(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1]


class LineFormatter(logging.Formatter):
    """UTC, with milliseconds; ``whose`` names a worker."""

    def __init__(self, whose: str = "") -> None:
        named = f"[{whose}] " if whose else ""
        super().__init__(f"%(asctime)s.%(msecs)03dZ %(levelname)s {named}%(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        # A record keeps its traceback as the first formatter wrote it, which need not have been this one.
        kept, record.exc_text = record.exc_text, None
        try:
            return super().format(record)
        finally:
            record.exc_text = kept

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record))

    def formatException(self, ei: object) -> str:
        return _barred(super().formatException(ei))  # type: ignore[arg-type]  # the stubs' own alias is private

    def formatStack(self, stack_info: str) -> str:
        return _barred(super().formatStack(stack_info))


def _barred(text: str) -> str:
    return "\n".join(BAR + one_line(line) for line in text.split("\n"))
