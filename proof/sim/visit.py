"""A simulated client's visit to a node: how it opens its connection, rightly or not, and stays."""

from __future__ import annotations

import random
from typing import Any

import orjson
import trio

from core.frames import TEXT
from proof import history
from proof.sim.told import PROTOCOL, UPGRADE, Frame, Gone, Told


class Visit(Told):
    """From the connection to its end, in whichever way that comes."""

    async def run(self) -> None:
        rng, world = self.rng, self.world
        stage = rng.random()
        if not world.calm and stage < world.swarm.loiterers:
            await self._loiter(rng)
        protocol = PROTOCOL if rng.random() < 0.7 else b""
        await self.link.send(UPGRADE % protocol)
        await self._upgraded()
        await self._open()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.client.talk, self)
            try:
                while True:
                    if self.client.slow and not world.calm and rng.random() < 0.1:
                        with trio.move_on_after(rng.choice((0.05, 0.5, 2.0))):
                            await world.calmed.wait()
                    self._take(await self.frame())
            except Gone:
                pass
            except trio.BrokenResourceError:
                self.ended("network")
            finally:
                nursery.cancel_scope.cancel()

    async def look_in(self) -> None:
        client = self.client
        await self.link.send(UPGRADE % PROTOCOL)
        await self._upgraded()
        token = client.token(3600.0)
        rooms = client.wanted()
        self.records(history.Open(self.now(), self.name, client.name, client.tenant, client.who, self.host.name, "hello",
                                  dict.fromkeys(rooms), history.digest(token)))  # fmt: skip
        await self.say("hello", token=token, streams={room: {} for room in rooms})
        await self._welcome("good")
        for stream in sorted(self.following):
            await self.say("presence", stream=stream)
            self.asked_who.add(stream)
        while True:
            self._take(await self.frame())

    async def _loiter(self, rng: random.Random) -> None:
        """Connect and say too little: nothing, half a handshake, a handshake and no hello."""
        self.records(history.Open(self.now(), self.name, self.client.name, self.client.tenant, self.client.who,
                                  self.host.name, "loiter", hostile=True))  # fmt: skip
        if rng.random() < 0.7:
            await self.link.send(UPGRADE[: rng.randrange(1, len(UPGRADE) - 40)])
        else:
            await self.link.send(UPGRADE % b"")
        while True:
            data = await self.link.receive()
            if not data:
                self.ended("server")
                raise Gone

    # -- opening ----------------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        client, rng, swarm, now_s = self.client, self.rng, self.world.swarm, self.now()
        asked: dict[str, int | None] = {name: client.cursors.get(name, 0) for name in client.wanted()}
        epoch = client.epoch
        quiet = self.world.calm
        if asked and not quiet and rng.random() < swarm.liars:
            if rng.random() < 0.5 and epoch is not None:
                epoch = "00000000-0000-4000-8000-000000000000"
            else:
                asked[rng.choice(list(asked))] = 1_000_000
        how, standing, credential, auth_until_s = "hello", "good", "", client.auth_until_s
        lasting = not quiet or client.auth_until_s > now_s + 30.0  # in the end nobody's identity runs out
        if client.resume is not None and lasting and (quiet or rng.random() < 0.85):
            how, credential = "resume", client.resume
            # What cannot be sure to be honoured is called spent: an earlier try that nobody answered, a time too near.
            soon_s = now_s + self.world.limits.opening_wait_s + 1.0  # when it has been looked at, at the latest
            sure = soon_s < client.resume_until_s and soon_s < client.auth_until_s and not self.world.jumped
            standing = "good" if sure and not client.spent else "spent"
            if not quiet and rng.random() < swarm.thieves:
                if client.used is not None and rng.random() < 0.6:
                    credential, standing = client.used, "used" if self.world.remembers_tokens else "spent"
                else:
                    credential, standing = _forged(credential, rng), "forged"
        elif not quiet and rng.random() < swarm.thieves:
            standing = "expired"
        while True:
            if how == "hello":
                ttl_s = rng.choice((2.0, 5.0)) if client.short_lived and not quiet else 3600.0
                if standing == "expired":
                    ttl_s = -2.0
                credential = client.token(ttl_s)
                auth_until_s = now_s + ttl_s
            streams: dict[str, Any] = dict(asked) if how == "resume" else {n: {"after": a} for n, a in asked.items()}
            self.records(
                history.Open(
                    self.now(), self.name, client.name, client.tenant, client.who, self.host.name, how, dict(asked),
                    history.digest(credential), standing,
                    auth_until_s + 1.0 if not self.world.jumped else None, False, epoch,
                )
            )  # fmt: skip
            fields: Frame = {"resume": credential} if how == "resume" else {"token": credential}
            if epoch is not None:
                fields["log"] = epoch
            self._presented = credential
            if how == "resume" and credential == client.resume:
                client.spent = True
            await self.say(how, **fields, streams=streams)
            if await self._welcome(standing):
                client.auth_until_s = auth_until_s
                return
            # A resume that was rejected: the same connection may say hello.
            if client.resume is not None and standing != "forged" and standing != "used":
                client.resume = None
            how, standing = "hello", "good"

    async def _welcome(self, standing: str) -> bool:
        """Read on to the answer. False: rejected. Raises `Gone` where the connection ends instead."""
        meters = self.world.meters
        while True:
            opcode, payload = await self.frame()
            if opcode == TEXT:
                frame: Frame = orjson.loads(payload)
                if frame["op"] == "welcome":
                    self._welcomed(frame, standing)
                    return True
                if frame["op"] == "error" and frame["code"] == "resume_rejected":
                    self.records(history.Rejected(self.now(), self.name, frame["code"]))
                    meters.seen(f"resume token refused: {'used before' if 'used' in frame['message'] else standing}")
                    return False
                if frame["op"] == "bye" and frame["code"] == "unauthorized" and standing == "expired":
                    meters.seen("hello refused: token expired")
            self._take((opcode, payload))

    def _welcomed(self, frame: Frame, standing: str) -> None:
        client, now = self.client, self.now()
        if frame.get("resumed") and client.resume is not None and client.resume == self._presented:
            client.used = client.resume
        client.resume, client.spent = frame["resume"], False
        client.resume_until_s = now + frame["resume_ttl"] - 0.2
        refused = {name: told["error"] for name, told in frame["streams"].items() if "error" in told}
        self.records(
            history.Welcome(
                now, self.name, frame["session"], bool(frame.get("resumed")), frame["log"],
                history.digest(frame["resume"]), refused,
            )
        )  # fmt: skip
        if client.epoch is not None and client.epoch != frame["log"]:
            client.cursors.clear()
        client.epoch = frame["log"]
        self.welcomed = True
        behind = 0
        for name, told in frame["streams"].items():
            if "error" in told:
                client.cursors.pop(name, None)
                continue
            self._follow(name, told["after"], told["head"])
            behind += told["head"] - told["after"]
        self.world.opened(self, bool(frame.get("resumed")), behind)


def _forged(token: str, rng: random.Random) -> str:
    at = rng.randrange(len(token))
    return token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
