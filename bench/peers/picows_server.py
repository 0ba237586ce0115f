"""The peer `picows`: a C-speed WebSocket library on uvloop, its server side, one process."""

from __future__ import annotations

import asyncio

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from bench.peers.common import Rooms, listening

rooms: Rooms[Peer] = Rooms()


class Peer(WSListener):
    transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), b"")
            transport.disconnect()
            return
        if frame.msg_type is not WSMsgType.TEXT:
            return
        answer, event, others = rooms.handle(self, frame.get_payload_as_bytes())
        transport.send(WSMsgType.TEXT, answer)
        if event is not None:
            for other in others:
                other.transport.send(WSMsgType.TEXT, event)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        rooms.leave(self)


def made(request: WSUpgradeRequest) -> WSListener:
    return Peer()


async def main() -> None:
    server = await ws_create_server(made, "127.0.0.1", 0, backlog=4096)
    listening(server.sockets[0].getsockname()[1])
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
