"""The echo servers of other libraries under the same suite, so that their results can stand beside ours.

``python -m tests.conformance.peer_servers NAME`` prints its port and serves until terminated. Compression is off
everywhere: the cases about it are not run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os

MESSAGE_BYTES_MAX = 32 * 1024 * 1024


async def trio_websocket() -> None:
    import trio
    from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket
    from trio_websocket import WebSocketServer as Server

    async def echo(request: WebSocketRequest) -> None:
        connection = await request.accept()
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.send_message(await connection.get_message())

    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(
            lambda task_status: serve_websocket(
                echo, "127.0.0.1", 0, None, max_message_size=MESSAGE_BYTES_MAX, task_status=task_status
            )
        )
        print(server.port, flush=True)


async def websockets() -> None:
    # Its bound of 4,096 fragments a message is read when imported. Raised, like the bound of size, so that it is the
    # codec that is tested: 9.3.1 and 9.4.1 send 65,536.
    os.environ["WEBSOCKETS_MAX_FRAGMENTS"] = "131072"
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.exceptions import ConnectionClosed

    async def echo(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    async with serve(echo, "127.0.0.1", 0, compression=None, max_size=MESSAGE_BYTES_MAX) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=("trio-websocket", "websockets"))
    if parser.parse_args().name == "websockets":
        asyncio.run(websockets())
    else:
        import trio

        trio.run(trio_websocket)


if __name__ == "__main__":
    main()
