"""A history: what a run was seen to do, one record an observation, in the order in which it was seen.

The simulator, the runs under real faults, the benchmarks and a capture of production all write this, and
`proof.guarantees` is checked against it, so a guarantee is the same sentence everywhere. A producer writes the records
that it can know; a guarantee that finds none of its records says that it saw nothing, never that all is well.

Terms. A *connection* is one WebSocket, named uniquely within the history; a *client* keeps its cursors over many of them.
A *node* is one start of a gateway process. ``t`` is seconds on the run's own clock (simulated, or monotonic from the run's
start) and never falls. Streams are named as on the wire; which tenant's they are, the connection's `Open` says. ``what``
is any text that is the same for all who see the same event (type, time and body; `digest` makes one).

As a file: JSON lines; each is the record's fields and ``"k"``, its kind in lower case. Unknown kinds and fields are skipped on
reading, so that an older checker reads a newer history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from types import UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints

import orjson

from proof.moves import Alerted as Alerted
from proof.moves import Declined as Declined
from proof.moves import Judged as Judged
from proof.moves import Newest as Newest
from proof.moves import Noticed as Noticed
from proof.moves import Placed as Placed
from proof.moves import Read as Read
from proof.moves import Sampled as Sampled
from proof.moves import Trailed as Trailed
from proof.moves import Trip as Trip
from proof.moves import Wished as Wished
from proof.works import Aboard as Aboard
from proof.works import Board as Board
from proof.works import Kept as Kept
from proof.works import Leased as Leased
from proof.works import Left as Left
from proof.works import Modelled as Modelled
from proof.works import Saga as Saga
from proof.works import Timer as Timer
from proof.works import Worked as Worked

VERSION: Final = 1


class HistoryError(Exception):
    """A file that is no history; says which line and why."""


@dataclass(slots=True)
class Run:
    """First of a history: what was run, and the times in seconds by which it is to be judged."""

    t: float
    what: str
    lease_s: float = 10.0  # presence of a dead node's people is right within this
    grace_s: float = 5.0  # a reconnect inside this is not seen by others
    heartbeat_s: float = 25.0
    settle_s: float = 2.0  # from `Heal` to every live cursor at head
    live_commits: bool = False
    """`Committed` records stand where the commits took place; else they were read from the log afterwards."""
    version: int = VERSION
    bus: bool = True
    """The nodes hear each other; without that, a resume token may be used once at each."""
    flush_s: float = 0.05  # how long signals are gathered, and so how old an age may be
    work_s: float = 0.0
    """Within so long after `Heal` workers have done all that is due; 0: there are none."""


@dataclass(slots=True)
class Open:
    """A client says hello or resume on a new connection. ``asked``: the cursor of each stream, None for "at head"."""

    t: float
    conn: str
    client: str
    tenant: str
    who: str
    node: str
    how: str = "hello"  # or resume
    asked: dict[str, int | None] = field(default_factory=dict)
    credential: str = ""
    """Names the token without telling it."""
    standing: str = "good"
    """What the client knows of its token: good; used (a welcome followed an earlier use); spent (presented before, outcome
    unknown); expired; forged; foreign (of another tenant or principal); revoked. Only a good one must be honoured."""
    expires_t: float | None = None
    """When the access token behind it ends, on the run's clock."""
    hostile: bool = False
    """This connection breaks rules on purpose."""
    epoch: str | None = None
    """The log's epoch that the client named for its cursors, where it did."""
    privileged: bool = False
    """The token's roles make it an owner of every stream: no removal shuts it out."""


@dataclass(slots=True)
class Welcome:
    t: float
    conn: str
    session: str
    resumed: bool
    epoch: str
    credential: str = ""
    """The resume token that came with it."""
    refused: dict[str, str] = field(default_factory=dict)
    """Streams answered with an error code."""


@dataclass(slots=True)
class Rejected:
    """The opening was answered ``error``; the connection may try again."""

    t: float
    conn: str
    code: str


@dataclass(slots=True)
class Follow:
    """The connection follows the stream past ``after`` from here on, as its welcome or the answer to its ``sub`` said."""

    t: float
    conn: str
    stream: str
    after: int
    head: int = 0


@dataclass(slots=True)
class Unfollow:
    """By the client's wish (``reason`` is empty, and this stands where the answer came), or because its principal was
    removed at ``seq``."""

    t: float
    conn: str
    stream: str
    reason: str = ""
    seq: int = 0


@dataclass(slots=True)
class Took:
    """The connection was given an event."""

    t: float
    conn: str
    stream: str
    seq: int
    key: str
    by: str
    what: str = ""
    mark: str = ""
    """The tenant whose marker the payload bears, in runs that plant them."""


@dataclass(slots=True)
class Reset:
    t: float
    conn: str
    stream: str
    reason: str
    first: int
    head: int


@dataclass(slots=True)
class Asked:
    """A request that must be answered within ``within_s``, the end of the connection counting as an answer."""

    t: float
    conn: str
    id: int
    op: str
    within_s: float | None = None
    stream: str = ""
    key: str = ""
    expect: int | None = None


@dataclass(slots=True)
class Answered:
    """``ok``, or an error's ``code``. Of a send: the ``seq`` and whether the key was used before. Of a command: the first
    ``seq`` and how many ``events``, or the ``reason`` of its refusal."""

    t: float
    conn: str
    id: int
    ok: bool
    code: str = ""
    seq: int = 0
    dup: bool = False
    stream: str = ""
    key: str = ""
    events: int = 0
    reason: str = ""


@dataclass(slots=True)
class Committed:
    """The log's truth: this event is at this place. ``epoch`` names the log's life; empty while there is only one."""

    t: float
    tenant: str
    stream: str
    seq: int
    key: str
    by: str
    what: str = ""
    epoch: str = ""


@dataclass(slots=True)
class Restored:
    """The log was put back to an earlier state under a new epoch: commits of the old one past these heads are undone."""

    t: float
    epoch: str
    heads: dict[str, int] = field(default_factory=dict)
    """By ``tenant/stream``; of a stream that is not named, everything is undone."""


@dataclass(slots=True)
class Trimmed:
    """Events of the stream before ``first`` are kept no more."""

    t: float
    tenant: str
    stream: str
    first: int


@dataclass(slots=True)
class Member:
    """A change of membership at its place in the stream; ``role`` is None for a removal."""

    t: float
    tenant: str
    stream: str
    who: str
    role: str | None
    seq: int
    open: bool = False
    """The stream lets everybody of the tenant in: a removal cuts nobody off."""


@dataclass(slots=True)
class Told:
    """A marker (``kind`` mark, ``value`` [delivered, read]) or a signal (presence, typing, position …) came."""

    t: float
    conn: str
    stream: str
    kind: str
    by: str | None
    value: Any
    age_s: float = 0.0
    head: int | None = None
    """The stream's head at the node when it was put on the wire, where the producer could see it: no event up to here may
    come after it."""
    sent_t: float | None = None
    """When it was put on the wire, where the producer could see it: its age is as of then."""


@dataclass(slots=True)
class DrainTold:
    """The client was told to come back elsewhere after so long."""

    t: float
    conn: str
    after_s: float


@dataclass(slots=True)
class Ended:
    """The connection is over. ``by``: server (``code`` and ``reason`` of its bye or close), client, or network."""

    t: float
    conn: str
    by: str
    code: int = 0
    reason: str = ""
    bye: str = ""
    """The code in words of the bye that came before."""


@dataclass(slots=True)
class Fault:
    """Trouble, made on purpose. Node troubles that stop its clock (pause) carry ``node`` and ``for_s``."""

    t: float
    what: str
    node: str = ""
    for_s: float = 0.0


@dataclass(slots=True)
class Heal:
    """From here on no trouble is made, and all that was made is over."""

    t: float


@dataclass(slots=True)
class Bound:
    """The most that a buffer held in this run, and its limit."""

    t: float
    node: str
    buffer: str
    value: int
    limit: int


@dataclass(slots=True)
class Draining:
    t: float
    node: str
    window_s: float
    clients: int = 0


@dataclass(slots=True)
class Drained:
    t: float
    node: str
    unanswered: int = 0
    """Sends that were taken and whose fate their sender was not told."""


@dataclass(slots=True)
class Lent:
    """A link to a store was borrowed after another borrower was cancelled: what it asked for, and whose answer it got."""

    t: float
    link: str
    asked: str
    answered: str
    after: str = ""
    """What was cancelled, and where."""


@dataclass(slots=True)
class There:
    """The truth at the end: who is online in a stream (``online`` or ``away``), and what is stored of markers."""

    t: float
    tenant: str
    stream: str
    present: dict[str, str] = field(default_factory=dict)
    marks: dict[str, list[int]] | None = None
    """By principal; None where it was not looked at."""


@dataclass(slots=True)
class View:
    """What a connection holds of a stream at the end, from its snapshot and all that followed; ``fresh``: it has only just
    joined, so this is a snapshot alone."""

    t: float
    conn: str
    stream: str
    head: int
    marks: dict[str, list[int]] | None = None
    """By principal, without the connection's own; None where it was not looked at."""
    present: dict[str, str] | None = None
    fresh: bool = False
    scope: str = ""
    """Views are compared within a scope, such as one node's; of one that lost markers with its life, others may know more."""


@dataclass(slots=True)
class Stand:
    """Where a client stands at the end, and where it should."""

    t: float
    client: str
    tenant: str
    stream: str
    cursor: int
    head: int
    connected: bool = True


@dataclass(slots=True)
class Exit:
    """A node or a process ended. ``left``: what it left behind that should be gone, in words."""

    t: float
    node: str
    wanted: bool = True
    status: int = 0
    left: list[str] = field(default_factory=list)


@dataclass(slots=True)
class End:
    """The last of a whole history: without it the file was cut short."""

    t: float


Record = (
    Run | Open | Welcome | Rejected | Follow | Unfollow | Took | Reset | Asked | Answered | Committed | Restored | Trimmed
    | Member | Told | DrainTold | Ended | Fault | Heal | Bound | Draining | Drained | Lent | There | View | Stand | Exit
    | Kept | Timer | Leased | Worked | Modelled | Left | Saga | Aboard | Board | Sampled | Judged | Declined | Read | Placed
    | Trailed | Newest | Alerted | Noticed | Wished | Trip | End
)  # fmt: skip

KINDS: Final[dict[str, type[Record]]] = {kind.__name__.lower(): kind for kind in Record.__args__}


def _fits(hint: Any) -> Callable[[object], bool]:
    """Whether a value read from JSON is what a field is declared to hold; 1 is a float too, but True is no 1."""
    if hint is Any:
        return lambda value: True
    if get_origin(hint) is UnionType:
        either = [_fits(part) for part in get_args(hint)]
        return lambda value: any(fits(value) for fits in either)
    if get_origin(hint) is dict:
        held = _fits(get_args(hint)[1])
        return lambda value: type(value) is dict and all(map(held, value.values()))
    if get_origin(hint) is list:
        item = _fits(get_args(hint)[0])
        return lambda value: type(value) is list and all(map(item, value))
    types = (float, int) if hint is float else (hint,)
    return lambda value: type(value) in types


_FIELDS: Final = {kind: {name: _fits(hint) for name, hint in get_type_hints(kind).items()} for kind in KINDS.values()}


def digest(*parts: object) -> str:
    """A short text that is the same for equal parts."""
    return blake2b(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()


def encode(record: Record) -> bytes:
    """One line, without its end."""
    return b'{"k":"' + type(record).__name__.lower().encode() + b'",' + orjson.dumps(record)[1:]


def decode(line: bytes) -> Record | None:
    """``None`` for a kind that is not known here. Raises `ValueError` for what is no record."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(error.msg) from None  # its own "line 1" would be taken for the file's
    if not isinstance(value, dict) or not isinstance(value.get("k"), str):
        raise ValueError('a record is an object with its kind under "k"')
    kind = KINDS.get(value["k"])
    if kind is None:
        return None
    known = _FIELDS[kind]
    held = {name: given for name, given in value.items() if name in known}
    for name, given in held.items():
        if not known[name](given):
            raise ValueError(f"a record of kind {value['k']} cannot have {str(given)[:40]!r} as its {name}")
    try:
        return kind(**held)
    except TypeError:
        missing = [f.name for f in fields(kind) if f.name not in value]
        raise ValueError(f"a record of kind {value['k']} needs {', '.join(missing)}") from None


def write(path: Path, records: Iterable[Record]) -> int:
    """All of it, as JSON lines; how many."""
    count = 0
    with path.open("wb") as file:
        for record in records:
            file.write(encode(record) + b"\n")
            count += 1
    return count


def read(path: Path) -> Iterator[Record]:
    """Raises `HistoryError` with the line for what is no record, `OSError` for what cannot be read."""
    with path.open("rb") as file:
        yield from parse(file, str(path))


def parse(lines: Iterable[bytes], name: str) -> Iterator[Record]:
    """The records of a history's lines, wherever they come from. Raises `HistoryError`, but not for half a last line: then
    its writer was killed, and there is no `End`."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = decode(line)
        except ValueError as error:
            if number > 1 and not line.endswith(b"\n"):
                return
            raise HistoryError(f"{name}, line {number}: {error}") from None
        if record is not None:
            yield record
