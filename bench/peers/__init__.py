"""The servers that Readback is measured beside, each speaking the nearest equivalent of its wire.

Every peer takes ``hello``, ``sub``, ``send`` and ``ping`` as JSON text frames and answers as `docs/protocol.md` says, with
its own library's idioms and best-known settings (no compression, uvloop where it is asyncio). None of them is durable: a
``send`` gets a number from a counter in memory. Each prints ``listening <port>`` once it accepts connections.
"""
