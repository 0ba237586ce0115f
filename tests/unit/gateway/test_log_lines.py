"""The log's lines: one a record, whatever the record quotes."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator

import pytest

from gateway.cli_show import start_console
from gateway.config import load_config
from gateway.log_lines import LineFormatter, one_line

FORGED = "x\r\n2026-01-01T00:00:00.000Z ERROR readback.node: forged"
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ (\[\w+\] )?[\w.-]+: ")


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(LineFormatter("2"))
    logger = logging.getLogger("readback.test")
    logger.addHandler(handler)
    yield logger, out
    logger.removeHandler(handler)


@pytest.mark.parametrize(
    ("quoted", "shown"),
    [
        (FORGED, r"x\r\n2026-01-01T00:00:00.000Z ERROR readback.node: forged"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\0b\x7f\x9b31m", r"a\x00b\x7f\x9b31m"),
        ("a\u2028b\u2029c\x85d\vd\fe", r"a\u2028b\u2029c\x85d\x0bd\x0ce"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("\ud800", r"\ud800"),
        ("a\tb", r"a\tb"),
        ("žluťoučký 🐎 %s {} \\n", "žluťoučký 🐎 %s {} \\n"),
    ],
)
def test_what_is_quoted_stays_in_its_line(quoted: str, shown: str, log: tuple[logging.Logger, io.StringIO]) -> None:
    """Whatever ends a line, steers a terminal or turns the text is spelled out; everything else is as it was."""
    logger, out = log
    logger.warning("said: %s", quoted)
    (line,) = out.getvalue().splitlines()
    assert line.partition("readback.test: ")[2] == f"said: {shown}"
    assert LINE.match(line)
    assert one_line(quoted) == shown


def test_no_line_of_a_traceback_passes_for_a_record(log: tuple[logging.Logger, io.StringIO]) -> None:
    """An exception may quote anything, line ends included: each line of it stands behind a bar."""
    logger, out = log
    try:
        raise ValueError(FORGED + "\x1b[2J")
    except ValueError:
        logger.exception("odd", stack_info=True)
    first, *others = out.getvalue().split("\n")[:-1]
    assert LINE.match(first)
    assert len(others) > 4
    assert all(line.startswith("    | ") and line.isprintable() for line in others)


def test_a_traceback_that_another_formatter_wrote_before() -> None:
    """A record keeps that text for whoever comes next; a handler of somebody else's must not undo the bars."""
    try:
        raise ValueError(FORGED)
    except ValueError:
        record = logging.LogRecord("readback.test", logging.ERROR, "", 0, "odd", (), sys.exc_info())
    logging.Formatter().format(record)
    assert sum(not line.startswith("    | ") for line in LineFormatter().format(record).split("\n")) == 1
    assert not logging.Formatter().format(record).count("    | ")


def test_the_process_writes_its_log_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """`readback serve` and `readback dev` use it for every logger: a server that is quoted once could forge lines."""
    handlers: list[logging.Handler] = []
    monkeypatch.setattr(logging, "basicConfig", lambda **options: handlers.extend(options["handlers"]))
    for name in ("asyncio", "trio-asyncio", "httpx", "httpcore"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.getLogger(name).level)
    start_console(load_config(environ={}), "3")
    (handler,) = handlers
    record = logging.LogRecord("readback.cluster", logging.WARNING, "", 0, "the bus is away: %s", (FORGED,), None)
    (line,) = handler.format(record).splitlines()
    assert " WARNING [3] readback.cluster: the bus is away: x" in line
