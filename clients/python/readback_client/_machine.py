"""The client's decisions without its I/O: frames and times in, frames and wishes out.

The edge (`_client`, `_link`) owns sockets and time. It tells this machine what happened (`connected`, `receive`,
`closed`, `failed`, `tick`), then reads what to do: `writes` to send in order, `hangup` to close, `token_wanted` and
`fresh_token_wanted` to fetch one, `next_dial` to open, `deadline` to call `tick` by. Before it asks for anything it
ticks, so that the machine knows the time. Nothing here sleeps, draws randomness or knows Trio.

    phase     ends by
    WAITING   its time coming                         -> DIALING
    DIALING   the socket opening / failing            -> OPENING / WAITING
    OPENING   welcome / loss / no answer in time      -> ONLINE / WAITING / WAITING
    ONLINE    loss, silence, a drain's slot           -> WAITING
    any       a close of 4500-4999, a refusal for good, `end`  -> ENDED

Rules. A loss is never an error; it waits (`_backoff`) and dials, resuming with the newest token while that can be
good, else saying hello with cursors. 4501 after a token that is fetched freshly may mean only that it expired: one
more is asked for before giving up. Silence of two heartbeats is a loss; after a little more than one, a ping is sent.
One request that stays unanswered is a loss too: a server may be alive and yet have forgotten us. A drain is obeyed to
the millisecond and keeps the connection until its slot, for it still delivers. An access token is renewed on the open
connection before it ends (`_renewal`); what comes of that, at worst, is a hello.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from readback_client import _errors as errors
from readback_client._backoff import Backoff, Uniform
from readback_client._calls import Call, Calls, silent
from readback_client._credentials import Credentials
from readback_client._errors import Closed, ReadbackError, WireError, wire_error
from readback_client._feed import Feed
from readback_client._manners import Manners
from readback_client._renewal import Renewal
from readback_client._rota import Rota
from readback_client._streams import Streams, streams_of
from readback_client._values import (
    Connecting,
    Cursors,
    Ended,
    Limits,
    Online,
    Stats,
    Status,
    Waiting,
)
from readback_client._wire import (
    Frame,
    Malformed,
    decode,
    encode,
    error_of,
    maybe_seconds,
    maybe_seq,
    spliced,
    text_of,
)

NEVER = float("inf")
PING_AFTER_BEATS = 1.25  # the server's own ping comes at 1; this one is for proxies that swallow those
DEAD_AFTER_BEATS = 2.0
OF_NODE = frozenset(("draining", "overloaded"))
"""Byes that say how the node is, not the cell: with several urls the next one need not wait for it."""

Prove = Callable[[str, str], str]
"""A proof (DPoP) that goes with a token on the connection to a url."""


class Phase(Enum):
    WAITING = "waiting"
    DIALING = "dialing"
    OPENING = "opening"
    ONLINE = "online"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a connection to ``url``; fetch the access token first where ``token_needed``."""

    url: str
    token_needed: bool


class Machine:
    """See the module. One a `connect()`; times are seconds of any clock that does not jump."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        now: float,
        uniform: Uniform,
        limits: Limits | None = None,
        fresh_tokens: bool = False,
        cursors: Cursors | None = None,
        prove: Prove | None = None,
    ) -> None:
        if not urls:
            raise ValueError("at least one url is needed")
        self.limits = limits if limits is not None else Limits()
        self.stats = Stats()
        self.phase = Phase.WAITING
        self.status: Status = Connecting(urls[0], 1)
        self.on_status: Callable[[], None] = silent
        self.writes: deque[str] = deque()
        self.hangup = False
        self.token_wanted = False
        self.error: Exception | None = None
        self.log = cursors.log if cursors is not None else ""
        self.principal = ""
        self.session = ""
        self.streams = Streams(self, self.limits, self.stats, cursors.streams if cursors is not None else {})
        self.manners = Manners(self, self.limits, self.stats)
        self.calls = Calls(self.limits.calls_in_flight_max)
        self._backoff = Backoff(self.limits.backoff_base_s, self.limits.backoff_cap_s, uniform)
        self._uniform = uniform
        self._rota = Rota(urls)
        self._credentials = Credentials(fresh=fresh_tokens)
        self.renewal = Renewal(self.limits, uniform, fresh=fresh_tokens)
        self._prove = prove
        self._url = urls[0]  # of the connection at hand
        self._asked: dict[int, tuple[Feed, float]] = {}
        self._timers: list[tuple[float, int, Callable[[float], None]]] = []
        self._next_id = 1
        self._now = now
        self._until = now  # of the phase: dial at, or give the opening up at
        self._heard = now
        self._pinged = False
        self._online_since = NEVER
        self._drain_at = NEVER
        self._limited_at = -NEVER  # when a send was last refused for a quota
        self._leaving: tuple[str, float | None] | None = None  # why we hang up, and a floor for the wait
        self._bye: Frame | None = None
        self._heartbeat_s = self.limits.heartbeat_s
        self._frame_bytes_max = 65_536

    # -- what the edge reads ------------------------------------------------------------------------------------------

    @property
    def online(self) -> bool:
        return self.phase is Phase.ONLINE and not self.hangup

    @property
    def ended(self) -> bool:
        return self.phase is Phase.ENDED

    @property
    def deadline(self) -> float:
        """When `tick` (or `next_dial`) has something to do at the latest."""
        first = self._timers[0][0] if self._timers else NEVER
        if self.hangup:
            return first  # the rest waits for the link to end
        if self.phase in (Phase.WAITING, Phase.OPENING):
            return min(first, self._until)
        if self.phase is Phase.ONLINE:
            beats = DEAD_AFTER_BEATS if self._pinged else PING_AFTER_BEATS
            silent_at = self._heard + beats * self._heartbeat_s
            return min(first, silent_at, self._drain_at, self._overdue_at, self.renewal.due)
        return first

    @property
    def write_timeout_s(self) -> float:
        return DEAD_AFTER_BEATS * self._heartbeat_s

    def next_dial(self, now: float) -> Dial | None:
        if self.phase is not Phase.WAITING or now < self._until:
            return None
        url = self._url = self._rota.url
        self.phase = Phase.DIALING
        self.stats.dials += 1
        self._say(Connecting(url, self._backoff.attempt + 1))
        return Dial(url, now >= self.renewal.ends_at or not self._credentials.usable(now))

    # -- what happened ------------------------------------------------------------------------------------------------

    def connected(self, now: float, token: str | None) -> None:
        """The WebSocket is open. ``token`` where the dial asked for one."""
        self._now = now
        self.phase = Phase.OPENING
        self.writes.clear()
        self.hangup = False
        self._bye = self._leaving = None
        self._asked.clear()
        self._drain_at = NEVER
        self._pinged = False
        self._heard = now
        self._until = now + self.limits.opening_timeout_s
        if token is not None:
            self._hello(token)
            return
        resume = self._credentials.resume or ""
        proven = self._proven("resume", resume)
        streams = self.streams.positions(resume=True, bytes_max=self._room(proven))
        self._write("resume", {**proven, "log": self.log, "streams": streams})

    def offer_token(self, now: float, token: str) -> None:
        """The token that `token_wanted` asked for, on the connection whose resume was refused."""
        self.token_wanted = False
        if self.phase is Phase.OPENING and not self.hangup:
            self._until = now + self.limits.opening_timeout_s
            self._hello(token)

    @property
    def fresh_token_wanted(self) -> bool:
        """The access token of the open connection is to be renewed: `renew` or `not_renewed` must follow."""
        return self.online and self.renewal.wanted

    def renew(self, now: float, token: str) -> None:
        if self.fresh_token_wanted:
            self.renewal.flown(self._write("refresh", self._proven("token", token)), now)

    def not_renewed(self, now: float, retry_after_s: float | None) -> None:
        """There is no fresh token now."""
        if self.fresh_token_wanted:
            self.renewal.rest(now, retry_after_s)

    def heard(self, now: float) -> None:
        """Bytes came in, of whatever kind: the peer lives."""
        self._heard = now
        self._pinged = False

    def receive(self, now: float, text: str | bytes) -> None:
        self._now = now
        if self.hangup:
            return  # what comes after we decided to leave is replayed on the next connection
        self.heard(now)
        try:
            frame = decode(text)
            if frame.get("op") == "event":
                if self.phase is Phase.ONLINE:
                    self.streams.event(now, frame, len(text))
            else:
                self._dispatch(now, frame)
        except Malformed as error:
            self.suspect(now, str(error))
        self._flush()

    def failed(
        self, now: float, why: str, *, retry_after_s: float | None = None, final: ReadbackError | None = None
    ) -> None:
        """The dial failed. ``final`` is what to end with if this address has never welcomed us: a typing error, not a
        fault that passes. Once welcomed, even a 404 is taken for a proxy between two deploys."""
        if self.phase is Phase.ENDED:
            return
        if isinstance(final, errors.Unauthorized):
            if not self._credentials.may_refresh():
                self.end(final)
                return
        elif final is not None and self.stats.welcomes == 0:
            self.end(final)
            return
        self._wait(now, why, self._rota.leave(now, retry_after_s or 0.0))

    def closed(self, now: float, code: int, reason: str) -> None:
        """The connection is gone: closed by either side, or cut (code 1006)."""
        self._now = now
        if self.phase in (Phase.ENDED, Phase.WAITING):
            return
        bye, leaving = self._bye, self._leaving
        bye_code = bye.get("code") if bye is not None else None
        if isinstance(bye_code, str):
            code = errors.BYE_CODES.get(bye_code, code)
        name = bye_code if isinstance(bye_code, str) else errors.CLOSE_CODES.get(code, str(code))
        said = bye.get("reason") if bye is not None else reason
        words = said if isinstance(said, str) and said else reason
        if errors.ends_for_good(code):
            error = wire_error(name, words or "the server ended this session")
            if not (isinstance(error, errors.Unauthorized) and self._credentials.may_refresh()):
                self.end(error)
                return
        retry_after_s = maybe_seconds(bye, "retry_after") if bye is not None else None
        why = words or name
        if leaving is not None:
            why, retry_after_s = leaving
        of_node = name in OF_NODE and leaving is None
        rest_s = self._rota.leave(now, (retry_after_s or 0.0) if of_node else 0.0)
        if of_node:
            retry_after_s = rest_s
        drained = self._drain_at
        self._drop(now)
        if drained <= now:  # our slot has come: the node chose it, so no jitter of ours on top
            self._wait(now, "moving to another node", 0.0, at_once=True)
        elif drained != NEVER:
            self._wait(now, "moving to another node", drained - now, at_once=True)
        else:
            self._wait(now, why if code != 1006 or leaving or bye else "the connection was cut", retry_after_s)

    def tick(self, now: float) -> None:
        """Whatever is due. Cheap when nothing is."""
        self._now = now
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2](now)
        if self.phase is Phase.OPENING and now >= self._until and not self.hangup:
            self.suspect(now, "no welcome in time")
        elif self.online:
            # Compared as `deadline` computes it: a rounding apart, the edge would spin between the two.
            if now >= self._heard + DEAD_AFTER_BEATS * self._heartbeat_s:
                self.suspect(now, f"nothing heard for {now - self._heard:.0f} s")
            elif now >= self._overdue_at:
                # Alive and yet deaf to one of us: what is unanswered is repeated elsewhere, under the same keys.
                self.suspect(now, f"no answer in {self.limits.answer_timeout_s:g} s")
            elif not self._pinged and now >= self._heard + PING_AFTER_BEATS * self._heartbeat_s:
                self._pinged = True
                self._write("ping", {})
            if now >= self._drain_at:
                self.hangup = True
            self.renewal.tick(now)
            if now - self._online_since >= self.limits.proved_s:
                self._backoff.reset()
        self._flush()

    def end(self, error: Exception | None) -> None:
        """Nothing more will be tried; everybody who waits is told why."""
        if self.phase is Phase.ENDED:
            return
        self.phase = Phase.ENDED
        self.error = error
        self.hangup = True
        told = error if error is not None else Closed("this client was closed")
        self.calls.fail_all(told)
        self.streams.fail_all(told)
        self._say(Ended(error))

    # -- what the caller wants ----------------------------------------------------------------------------------------

    def call(self, op: str, fields: Mapping[str, object], wake: Callable[[], None] = silent) -> Call:
        """Put a request on its way. Raises `TooLarge` here, for a server ends the connection that sends such a frame."""
        stream = fields.get("stream")
        call = Call(op, encode(fields), wake, stream if op in ("send", "command") and isinstance(stream, str) else "")
        size = len(call.tail.encode()) + 40
        if size > self._frame_bytes_max:
            raise errors.TooLarge("too_large", f"{size} bytes; the server takes {self._frame_bytes_max}")
        if self.phase is Phase.ENDED:
            raise self.error if self.error is not None else Closed("this client was closed")
        self.calls.put(call)
        self._flush()
        return call

    def cursors(self) -> Cursors:
        return Cursors(self.log, self.streams.cursors())

    # -- Carrier ------------------------------------------------------------------------------------------------------

    def ask(self, op: str, fields: Mapping[str, object], feed: Feed | None) -> int:
        id = self._write(op, fields)
        if feed is not None:
            self._asked[id] = (feed, self._now)
        return id

    def at(self, when: float, act: Callable[[float], None]) -> None:
        self._next_id += 1  # a tie-breaker, so that callables are never compared
        heapq.heappush(self._timers, (when, self._next_id, act))

    def rest_s(self, tries: int, retry_after_s: float | None) -> float:
        ceiling = min(self.limits.backoff_cap_s, self.limits.backoff_base_s * 2.0 ** min(tries - 1, 32))
        return (retry_after_s or 0.0) + self._uniform(0.0, ceiling)

    def suspect(self, now: float, why: str) -> None:
        self._leaving = (why, None)
        self.hangup = True

    # -- inside -------------------------------------------------------------------------------------------------------

    @property
    def _overdue_at(self) -> float:
        """When the oldest request in flight has waited too long. Both tables are in the order of asking."""
        call = self.calls.oldest
        asked = next(iter(self._asked.values()))[1] if self._asked else None
        renewal = self.renewal.flight[1] if self.renewal.flight is not None else None
        oldest = min(since if since is not None else NEVER for since in (call, asked, renewal))
        # Whose quota is used up is read slowly, yet answered: what waits behind the refusals is not forgotten.
        return max(oldest, self._limited_at) + self.limits.answer_timeout_s if oldest != NEVER else NEVER

    def _dispatch(self, now: float, frame: Frame) -> None:
        op = text_of(frame, "op")
        if op == "bye":
            self._bye = frame
        elif self.phase is Phase.OPENING:
            if op == "welcome":
                self._welcome(now, frame)
            elif op == "error":
                self._refused_opening(error_of(frame))
        elif op == "ok":
            self._ok(frame)
        elif op == "error":
            self._error(now, frame)
        elif op == "reset":
            self.streams.reset(frame)
        elif op == "unsub":
            self.streams.let_go(frame)
        elif op == "signal":
            self.streams.signal(now, frame)
        elif op == "mark":
            self.streams.mark(now, frame)
        elif op == "pong":
            self._credentials.keep(frame.get("resume"), now=now)
        elif op == "drain":
            self._credentials.keep(frame.get("resume"), now=now)
            self._drain_at = now + (maybe_seconds(frame, "after_ms") or 0.0) / 1000
        # Any other op is of a newer server, and not for us.

    def _hello(self, token: str) -> None:
        proven = self._proven("token", token)
        fields: dict[str, object] = {
            **proven,
            "streams": self.streams.positions(resume=False, bytes_max=self._room(proven)),
        }
        if self.log:
            fields["log"] = self.log
        self._write("hello", fields)

    def _proven(self, name: str, token: str) -> dict[str, str]:
        """A token as a frame brings it, with the proof that it needs where it is bound to a key."""
        return {name: token} if self._prove is None else {name: token, "dpop": self._prove(self._url, token)}

    def _room(self, proven: Mapping[str, str]) -> int:
        """How many bytes are left beside them in an opening."""
        return self.limits.hello_bytes_max - sum(map(len, proven.values()))

    def _welcome(self, now: float, frame: Frame) -> None:
        log = text_of(frame, "log")
        streams = streams_of(frame)
        self.session, self.principal = text_of(frame, "session"), text_of(frame, "principal")
        self._heartbeat_s = maybe_seconds(frame, "heartbeat") or self.limits.heartbeat_s
        limits = frame.get("limits")
        if isinstance(limits, dict):
            self._frame_bytes_max = maybe_seq(limits, "frame") or self._frame_bytes_max
            self.streams.streams_max = maybe_seq(limits, "streams") or self.streams.streams_max
        ttl_s = maybe_seconds(frame, "resume_ttl") or 0.0
        self._credentials.keep(frame.get("resume"), now=now, ttl_s=ttl_s)
        self._credentials.welcomed()
        self.renewal.told(now, frame)
        self.phase = Phase.ONLINE
        self._online_since = now
        self.stats.welcomes += 1
        resumed = frame.get("resumed") is True
        self.stats.resumes += resumed
        if self.log and self.log != log:
            self.streams.log_changed()
        self.log = log
        missed = self.streams.welcomed(now, streams)
        self.manners.welcomed(now)
        self._say(Online(self.session, self.principal, resumed, missed))

    def _refused_opening(self, error: WireError) -> None:
        if error.code == "resume_rejected":
            self.stats.resumes_rejected += 1
            self._credentials.rejected()
            self.token_wanted = True
        elif error.retryable:
            self._leaving = (str(error), error.retry_after_s)
            self.hangup = True
        elif isinstance(error, errors.Unauthorized) and self._credentials.may_refresh():
            self._leaving = (str(error), None)
            self.hangup = True
        else:
            self.end(error)

    def _ok(self, frame: Frame) -> None:
        id = maybe_seq(frame, "id")
        if id is None:
            return
        if self.renewal.flight is not None and id == self.renewal.flight[0]:
            self._renewed(frame)
            return
        call = self.calls.landed(id)
        if call is not None:
            self.calls.went_well(call)
            call.finish(frame, None)
            return
        asked = self._asked.pop(id, None)
        if asked is not None:
            self.streams.answered(asked[0], id, frame)

    def _renewed(self, frame: Frame) -> None:
        self.renewal.accepted(self._now, frame)
        self._credentials.keep(frame.get("resume"), now=self._now)
        self.stats.refreshes += 1
        self.streams.ended(self._now, streams_of(frame))

    def _error(self, now: float, frame: Frame) -> None:
        error = error_of(frame)
        id = maybe_seq(frame, "id")
        if self.renewal.flight is not None and id == self.renewal.flight[0]:
            self.renewal.refused(now, error)
            return
        call = self.calls.landed(id) if id is not None else None
        asked = self._asked.pop(id, None) if id is not None else None
        if call is not None:
            self._call_refused(now, call, error)
        elif asked is not None and id is not None:
            self.streams.refused(now, asked[0], id, error)
        elif id is None and isinstance(frame.get("stream"), str):
            self.streams.refused_stream(frame, error)

    def _call_refused(self, now: float, call: Call, error: WireError) -> None:
        call.last = error
        if not error.retryable:
            call.finish(None, error)
            return
        self.stats.retries += 1
        if not call.lane or not isinstance(error, errors.RateLimited):
            self.at(now + self.rest_s(call.tries, error.retry_after_s), lambda _now: self.calls.put(call))
            return
        self._limited_at = now
        floor_s = error.retry_after_s
        until = self.calls.limit(now, call, lambda times: self.rest_s(times, floor_s), floor_s or 0.0)
        self.at(until, lambda _now: None)  # for the tick, which writes what may go then

    def _drop(self, now: float) -> None:
        if now - self._online_since >= self.limits.proved_s:
            self._backoff.reset()
        if self.phase is Phase.ONLINE:
            self._credentials.lost(now)
        self.stats.retries += self.calls.grounded()
        self._online_since = self._drain_at = NEVER
        self.token_wanted = False
        self.writes.clear()
        self._asked.clear()
        self.renewal.lost()
        self.streams.lost()
        self.manners.lost()

    def _wait(self, now: float, why: str, retry_after_s: float | None, *, at_once: bool = False) -> None:
        self.phase = Phase.WAITING
        self.hangup = False
        floor_s = retry_after_s or 0.0
        delay_s = floor_s if at_once else self._backoff.next_s(floor_s)
        self._until = now + delay_s
        self._say(Waiting(delay_s, why))

    def _write(self, op: str, fields: Mapping[str, object]) -> int:
        id = self._next_id
        self._next_id += 1
        self.writes.append(spliced(op, id, encode(fields)))
        return id

    def _flush(self) -> None:
        while self.online:
            call = self.calls.next_to_fly(self._now)
            if call is None:
                return
            id = self._next_id
            self._next_id += 1
            self.calls.flown(id, call, self._now)
            self.writes.append(spliced(call.op, id, call.tail))

    def _say(self, status: Status) -> None:
        self.status = status
        self.on_status()
