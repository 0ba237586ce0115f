"""The peer `websockets`: its asyncio server on uvloop, compression and keep-alive off, its own `broadcast` for events."""

from __future__ import annotations

import asyncio

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

from bench.peers.common import Rooms, listening

rooms: Rooms[ServerConnection] = Rooms()


async def handle(connection: ServerConnection) -> None:
    try:
        async for message in connection:
            answer, event, others = rooms.handle(connection, message)
            await connection.send(answer, text=True)
            if event is not None:
                broadcast(others, event, text=True)
    except ConnectionClosed:
        pass
    finally:
        rooms.leave(connection)


async def main() -> None:
    # backlog as the other peers; ping_interval off because the others send none within a run
    async with serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=4096) as server:
        listening(next(iter(server.sockets)).getsockname()[1])
        await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
