"""bench.gen.words: who stays away, and whether what the nodes say of who is there is so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from bench.gen.crowd import Client, Crowd
from bench.gen.dialect import Dialect
from bench.gen.raw import GONE, OPEN, Swarm
from bench.gen.words import Words

JOB = {"ports": [1, 2], "payload": 40, "return_s": 0.0, "seed": 1, "connections": 4}


class Answered(Client):
    """Connected in imagination; a question about who is there is answered at once, with what the test says."""

    online: tuple[str, ...] = ()
    """Names that every node's list holds."""

    def send(self, payload: bytes, opcode: int = 1) -> None:
        message = orjson.loads(payload)
        named = [{"by": who, "value": "online", "devices": 1} for who in self.online]
        self.asked.pop(message["id"])({"op": "ok", "id": message["id"], "online": named, "count": len(named)})


def asked(
    word: Callable[[Words], Awaitable[dict[str, Any]]], online: tuple[str, ...] = (), gone: int = 0
) -> dict[str, Any]:
    """The answer of a crowd of four in one room on two nodes, the last ``gone`` of them not connected."""

    async def play() -> dict[str, Any]:
        swarm = Swarm(1)
        crowd = Crowd(JOB, swarm)
        for number in range(4):
            client = Answered(crowd, Dialect(), number, "token", ["chat:a"])
            client.who, client.port, client.online = f"user:b{number}", JOB["ports"][number % 2], online  # type: ignore[index]
            client.state = OPEN if number < 4 - gone else GONE
            crowd.clients.append(client)
        told = await word(Words(crowd))
        swarm.close()
        return told

    return asyncio.run(play())


def who(words: Words) -> Awaitable[dict[str, Any]]:
    return words.answer({"do": "presence"})


def test_presence_is_right_where_every_node_names_those_who_are_there() -> None:
    """One question a room and node, compared with who is connected."""
    everybody = ("user:b0", "user:b1", "user:b2", "user:b3")
    assert asked(who, everybody) == {"wrong": 0, "asked": 2, "unanswered": 0}


def test_presence_is_wrong_by_each_who_is_gone_and_named_still() -> None:
    """On either node."""
    everybody = ("user:b0", "user:b1", "user:b2", "user:b3")
    assert asked(who, everybody, gone=1)["wrong"] == 2
    assert asked(who, everybody[:3], gone=1)["wrong"] == 0
    assert asked(who, everybody[:2], gone=1)["wrong"] == 2


def test_every_nth_client_of_a_node_stays_away() -> None:
    """The harness knows how many, and the others do come back."""

    async def word(words: Words) -> dict[str, Any]:
        told = await words.answer({"do": "away", "port": 1, "every": 2})
        return {**told, "who": [client.number for client in words.crowd.clients if client.away]}

    assert asked(word) == {"clients": 2, "away": 1, "who": [0]}


def test_who_is_on_the_way_back_is_missing() -> None:
    """Those told to stay away are not."""

    async def word(words: Words) -> dict[str, Any]:
        for client in words.crowd.clients[2:]:
            client.gone_ns = 5
        words.crowd.clients[3].away = True
        return await words.answer({"do": "standing"})

    assert asked(word, gone=2) == {"open": {"1": 1, "2": 1}, "missing": 1}
