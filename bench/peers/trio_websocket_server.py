"""The peer `trio-websocket`: a task a connection, as its documentation shows; a broadcast awaits each send in turn."""

from __future__ import annotations

import functools

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from bench.peers.common import Rooms, listening

rooms: Rooms[WebSocketConnection] = Rooms()


async def handle(request: WebSocketRequest) -> None:
    connection = await request.accept()
    try:
        while True:
            answer, event, others = rooms.handle(connection, await connection.get_message())
            await connection.send_message(answer.decode())
            if event is not None:
                text = event.decode()
                for other in list(others):
                    try:
                        await other.send_message(text)
                    except ConnectionClosed:
                        rooms.leave(other)
    except ConnectionClosed:
        pass
    finally:
        rooms.leave(connection)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(serve_websocket, handle, "127.0.0.1", 0, None))
        listening(server.port)


if __name__ == "__main__":
    trio.run(main)
