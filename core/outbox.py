"""Bytes onto wires: what a turn gathered for a port leaves in one ``send``, and what a socket refuses is taken back.

The lower half of the hub. A port's turn gathers in ``port.out``: answers, and `Chunk`s of events that its streams share
with everybody else. `flush` sends it. Where the socket takes less, the tail of the one frame that was cut in half stays
as ``port.rest``, answers wait in ``port.replies`` (bounded by not reading that client's requests, see gateway.shard),
events become cursors again, markers and signals keys: nothing else is kept for a slow client. `pump` goes on when the
socket can be written.

Order on a wire: the cut frame, answers, events, markers, signals.
"""

from __future__ import annotations

from core.stream import LIVE, Chunk, Latest, Port, Stream


class Outbox:
    """Knows ports and bytes. What an event is to its stream, `core.replay.Replay` knows."""

    def __init__(self) -> None:
        self.touched: list[Port] = []
        """Ports that have gathered something this turn."""

    def _behind(self, port: Port, stream: Stream, cursor: int) -> None:
        """The port stands at ``cursor`` of a stream and must be brought forward."""
        raise NotImplementedError

    def _gather(self, port: Port, out: list[bytes]) -> None:
        """Add to ``out`` what the port lags behind."""
        raise NotImplementedError

    def _latest(self, port: Port) -> None:
        """Markers and signals that were noted for the port may go now."""
        raise NotImplementedError

    def _not_now(self, port: Port, latest: Latest, at: int) -> None:
        """Markers and signals that the port could not be given, from the frame ``at`` on: note their keys."""
        raise NotImplementedError

    def _touch(self, port: Port) -> None:
        if port.out is None:
            port.out = []
            self.touched.append(port)

    def reply(self, port: Port, frame: bytes) -> None:
        """An answer, sent with the turn's other bytes; waits its turn on a blocked port."""
        if port.blocked:
            if port.closed:
                return
            if port.replies is None:
                port.replies = []
            port.replies.append(frame)
            port.reply_bytes += len(frame)
        elif port.out is None:
            port.out = [frame]
            self.touched.append(port)
        else:
            port.out.append(frame)

    def flush(self) -> None:
        """Send what the turn gathered: one ``send`` a port."""
        touched = self.touched
        while touched:
            self.touched = []
            for port in touched:
                out = port.out
                port.out = None
                if port.closed or out is None:
                    continue
                if port.blocked:  # blocked since it was touched
                    self._cut(port, out, 0)
                    continue
                if port.lag:
                    self._gather(port, out)
                if out:
                    # One `send`, without a call around it: this loop is most of what a delivery costs beside the kernel.
                    data = out[0] if len(out) == 1 else b"".join(out)
                    try:
                        sent = port.send(data)
                    except BlockingIOError:
                        sent = 0
                    except OSError:
                        self._broken(port)
                        continue
                    if sent != len(data):
                        self._cut(port, out, sent)
                if (port.mark_keys or port.signal_keys) and not port.blocked and not port.closed:
                    self._latest(port)
            touched = self.touched

    def _broken(self, port: Port) -> None:
        port.closed = port.blocked = True
        port.broken()

    def _cut(self, port: Port, out: list[bytes], sent: int) -> None:
        """The socket took ``sent`` bytes of ``out``. Keep the cut frame's tail; events go back to being cursors."""
        if not port.blocked:
            port.blocked = True
            port.stall()
        for item in out:
            if sent >= len(item):
                sent -= len(item)
            elif isinstance(item, Chunk | Latest):
                at = 0
                while sent >= len(item.frames[at]):
                    sent -= len(item.frames[at])
                    at += 1
                if sent:
                    port.rest = item.frames[at][sent:]
                    at += 1
                    sent = 0
                if isinstance(item, Latest):
                    self._not_now(port, item, at)
                    continue
                seq = item.first + at
                cursor = port.subs.get(item.stream)
                if cursor is not None and (cursor == LIVE or cursor > seq - 1):
                    self._behind(port, item.stream, seq - 1)
            elif sent:
                port.rest = item[sent:]
                sent = 0
            else:
                self.reply(port, item)

    def pump(self, port: Port) -> None:
        """The socket can be written again, or there is more in a ring: cut frame, answers, then the rest of the turn."""
        if port.closed:
            return
        if port.blocked:
            waiting = [port.rest] if port.rest is not None else []
            if port.replies is not None:
                waiting += port.replies
            port.rest = port.replies = None
            port.reply_bytes = 0
            port.blocked = False
            if waiting and not self._resend(port, waiting):
                return
            port.flow()
        self._touch(port)

    def _resend(self, port: Port, waiting: list[bytes]) -> bool:
        """Like in `flush`, for a port whose ``stall`` still stands: a cut says nothing new to the socket's watcher."""
        data = b"".join(waiting)
        try:
            sent = port.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._broken(port)
            return False
        if sent == len(data):
            return True
        port.blocked = True
        self._cut(port, waiting, sent) if sent else self._put_back(port, waiting)
        return False

    def _put_back(self, port: Port, waiting: list[bytes]) -> None:
        """Nothing was taken: the first may be half a frame, so it must stay first."""
        port.rest = waiting[0]
        for frame in waiting[1:]:
            self.reply(port, frame)
