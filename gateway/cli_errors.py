"""How the command line ends: one sentence a failure, and exit codes that a script can rely on.

For: every command of `gateway.cli`. Promises: what an operator can mend is one sentence on stderr that says what to do
next, without a traceback; what is our fault shows its traceback and says so. Does not: decide anything else.
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from inspect import cleandoc
from typing import NoReturn, ParamSpec

import typer

from gateway.config import ConfigError

DONE = 0
FINDINGS = 1  # check or doctor found something
USAGE = 2  # an argument, a setting or a key cannot be used
CANNOT = 3  # the machine, the data folder or the database does not let us
FAULT = 70  # ours (EX_SOFTWARE of sysexits.h)
HURRIED = 130  # a second Ctrl-C: 128 + SIGINT, as shells count it

P = ParamSpec("P")


class CliError(Exception):
    """A sentence for the person at the terminal, and the code to end with."""

    def __init__(self, message: str, code: int = CANNOT) -> None:
        super().__init__(message)
        self.code = code


def explain(error: BaseException) -> tuple[str, int] | None:
    """The sentence and the exit code of a failure that somebody can mend; ``None`` for a fault of ours.

    Of a group, all members must be mendable; the first speaks for them.
    """
    if isinstance(error, BaseExceptionGroup):
        parts = [explain(part) for part in error.exceptions]
        return None if None in parts else parts[0]
    if isinstance(error, CliError):
        return str(error), error.code
    if isinstance(error, ConfigError):
        return str(error), USAGE
    # Imported only once something failed: `readback --help` needs no store.
    from core.ports import CorruptLog, Refused, StoreError, Unavailable

    if isinstance(error, CorruptLog):
        return f"the log contradicts itself: {error}; stop, and run `readback check`", CANNOT
    if isinstance(error, Unavailable):
        return f"{error}; `readback doctor` looks closer", CANNOT
    if isinstance(error, Refused):
        return error.message, CANNOT
    if isinstance(error, StoreError):
        return str(error), CANNOT
    if (client := sys.modules.get("readback_client")) and isinstance(error, client.ReadbackError):
        return str(error), CANNOT  # the server said no to `readback chat`
    if type(error).__name__ == "PortInUse":  # of gateway.http_serve, whose import would cost FastAPI's
        return str(error), CANNOT
    if isinstance(error, OSError) and error.errno in _MENDABLE:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}; {_MENDABLE[error.errno]}", CANNOT
    return None


_MENDABLE = {
    errno.EADDRINUSE: "stop the program that listens there, or choose another port (READBACK_PORT, READBACK_HTTP_PORT)",
    errno.EADDRNOTAVAIL: "READBACK_HOST must be an address of this machine, such as 127.0.0.1 or 0.0.0.0",
    errno.EACCES: "run as a user who may, or choose another folder (READBACK_DATA) or a port above 1023",
    errno.EPERM: "run as a user who may",
    errno.ENOSPC: "free some disk space, then start again",
    errno.EROFS: "choose a folder that can be written with READBACK_DATA",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def end_with(error: BaseException) -> NoReturn:
    """Say what failed, and end with its code."""
    said = explain(error)
    if said is None:
        traceback.print_exception(error)
        print("readback: this is a fault of ours; the lines above say where", file=sys.stderr)
        raise typer.Exit(FAULT) from None
    message, code = said
    print(f"readback: {message[:1].upper()}{message[1:].rstrip('.')}.", file=sys.stderr)
    raise typer.Exit(code) from None


def mended(run: Callable[P, None]) -> Callable[P, None]:
    """Decorates a command: failures become a sentence and an exit code; its help is unwrapped for any width."""

    @wraps(run)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            run(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            raise typer.Exit(HURRIED) from None
        except BaseExceptionGroup as group:  # as nurseries deliver it
            if group.split(KeyboardInterrupt)[1] is None:
                raise typer.Exit(HURRIED) from None
            end_with(group)
        except BrokenPipeError:
            # Whoever read our output has gone, as `| head` does; there is nobody to tell.
            sys.stderr.close()
            raise typer.Exit(DONE) from None
        except Exception as error:
            end_with(error)

    # typer shows a docstring's line breaks as they are, which on a narrow terminal breaks each line twice.
    paragraphs = cleandoc(run.__doc__ or "").split("\n\n")
    command.__doc__ = "\n\n".join(part if part.startswith(" ") else part.replace("\n", " ") for part in paragraphs)
    return command
