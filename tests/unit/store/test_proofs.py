"""store.proofs: a document proves what it says it proves; with anything in it changed it proves nothing. No database."""

from __future__ import annotations

import copy
import random
from typing import Any

import orjson
import pytest

from core.anchors import DOMAIN, FIRST, Anchor, Head, canonical, make
from core.jws import b64url
from core.keys import SigningKey
from store import proofs
from store.chain import batch_hash, event_digest, genesis
from store.layout import partition_of
from store.proofs import Batch, ProofError, build, check

KEY = SigningKey("s1", b"s" * 32)
OTHER = SigningKey("x", b"x" * 32)
EPOCH = "0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11"
PARTITION = partition_of("demo", "chat:ops", 16)
EVENT: dict[str, Any] = {
    "tenant": "demo",
    "stream": "chat:ops",
    "partition": PARTITION,
    "pos": 5,
    "sid": 7,
    "seq": 3,
    "key": "00000000-0000-4000-8000-000000000001",
    "type": "message",
    "by": "user:amy",
    "at_ms": 1_700_000_000_000,
    "body": '{"text":"ž"}',
}
EVENT["digest"] = event_digest(**{name: EVENT[name] for name in EVENT if name != "stream"}).hex()


def batches(start: int = 4) -> tuple[bytes, list[Batch]]:
    """The hash before, and three batches of which the first holds the event at pos 5."""
    previous = genesis(PARTITION) if start == 1 else b"p" * 32
    pos, hash, made = start, previous, []
    for size in (5 - start + 2, 1, 3):
        digests = b"".join(bytes.fromhex(EVENT["digest"]) if p == 5 else b"%032d" % p for p in range(pos, pos + size))
        hash = batch_hash(hash, [digests])
        made.append(Batch(pos, pos + size - 1, hash, digests))
        pos += size
    return previous, made


def anchor(made: list[Batch], key: SigningKey = KEY, **changes: Any) -> Anchor:
    heads = [Head(PARTITION, made[-1].last_pos, made[-1].hash)]
    return make(key, **{"number": 3, "previous": FIRST, "epoch": EPOCH, "at_ms": 1, "heads": heads, **changes})


def document(
    *, start: int = 4, anchored: bool = True, key: SigningKey | None = KEY, anchor_key: SigningKey = KEY, **event: Any
) -> bytes:
    previous, made = batches(start)
    return build(
        epoch=EPOCH,
        partitions=16,
        event={**EVENT, **event},
        previous=previous,
        batches=made,
        anchor=anchor(made, anchor_key) if anchored else None,
        made_ms=1_700_000_100_000,
        key=key,
    )


def test_a_whole_proof_holds() -> None:
    """With the key and the file of anchors at hand everything is proven but what no proof can."""
    _, made = batches()
    proven = check(document(), trusted=[KEY.thumbprint], anchors=[anchor(made).line])
    assert proven.anchor == anchor(made)
    assert proven.signer == KEY.thumbprint
    assert proven.event == EVENT
    assert len(proven.proven) == 5
    assert [line.split(":")[0] for line in proven.unproven] == ["that what was written is true, or complete"]


def test_from_the_first_batch_of_all() -> None:
    """What is before it is the partition's beginning, which everybody can compute."""
    assert check(document(start=1)).proven
    changed = orjson.loads(document(start=1, key=None))
    changed["previous"] = "ab" * 32
    with pytest.raises(ProofError, match="does not follow its beginning"):
        check(orjson.dumps(changed))


def test_what_is_not_proven_is_said() -> None:
    """No key, no file, no signature, no anchor, no body: each is a sentence of its own."""
    assert any("whose key signed the anchor" in line for line in check(document()).unproven)
    assert any("no file of anchors was given" in line for line in check(document()).unproven)
    assert any("nobody signed the document" in line for line in check(document(key=None)).unproven)
    assert any("was not compared with a key" in line for line in check(document()).unproven)
    assert any("no anchor lies past the event" in line for line in check(document(anchored=False)).unproven)
    hidden = check(document(body=None))
    assert any("its body is not here" in line for line in hidden.unproven)
    assert not any("these facts and this body" in line for line in hidden.proven)


def test_a_body_that_was_left_out_may_be_brought() -> None:
    """By whoever has it; any other is refused."""
    body = EVENT["body"].encode()
    assert any("these facts and this body" in line for line in check(document(body=None), body=body).proven)
    assert check(document(), body=body).proven
    for wrong in (b"{}", b"\xff"):
        with pytest.raises(ProofError):
            check(document(body=None), body=wrong)
        with pytest.raises(ProofError, match="body that was given"):
            check(document(), body=wrong)


def test_keys_and_anchors_that_are_not_those_given_are_refused() -> None:
    """A document signed by a stranger, an anchor signed by one, an anchor that is not in the file."""
    trusted = [KEY.thumbprint]
    with pytest.raises(ProofError, match="document is signed by the key"):
        check(document(key=OTHER), trusted=trusted)
    with pytest.raises(ProofError, match="anchor is signed by the key"):
        check(document(anchor_key=OTHER), trusted=trusted)
    assert check(document(key=OTHER, anchor_key=OTHER)).signer == OTHER.thumbprint
    _, made = batches()
    with pytest.raises(ProofError, match="not among those"):
        check(document(), trusted=trusted, anchors=[anchor(made, at_ms=2).line])


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in items:
        found += places(part, (*path, name))
    return found


def changed_values(value: object) -> list[object]:
    if isinstance(value, bool) or value is None:
        return [1, "x"]
    if isinstance(value, int):
        return [value + 1, value - 1, None, float(value)]
    if isinstance(value, str):
        flipped = chr(ord(value[0]) ^ 1) + value[1:] if value else "x"
        return [flipped, value + "A", value[:-1], None, 7]
    return [None, [], {}, value[1:] if isinstance(value, list) else 1]


@pytest.mark.parametrize("anchored", [True, False])
def test_every_field_that_is_changed_is_refused(anchored: bool) -> None:
    """Each value of the document in several ways, each field left out, and fields added: none passes."""
    whole = orjson.loads(document(anchored=anchored))
    assert check(orjson.dumps(whole), trusted=[KEY.thumbprint])
    tried = 0
    for path in places(whole):
        *above, name = path
        for change in changed_values(_at(whole, path)):
            tampered = copy.deepcopy(whole)
            _at(tampered, tuple(above))[name] = change
            if tampered != whole or _at(whole, path).__class__ is not change.__class__:
                tried += 1
                with pytest.raises(ProofError):
                    check(orjson.dumps(tampered), trusted=[KEY.thumbprint])
        tampered = copy.deepcopy(whole)
        del _at(tampered, tuple(above))[name]
        with pytest.raises(ProofError):
            check(orjson.dumps(tampered), trusted=[KEY.thumbprint])
    assert tried > 100
    with pytest.raises(ProofError):
        check(orjson.dumps({**whole, "more": 1}), trusted=[KEY.thumbprint])


# What an unsigned document says beside the chain is found only as far as the chain or the anchor holds it.
_SAID_ONLY = {("made_at",), ("event", "stream"), ("partitions",)}


def test_without_its_signature_the_chain_alone_still_refuses() -> None:
    """The document's own signature left out by a forger: all that the chain holds is found; the rest is called unproven."""
    whole = orjson.loads(document(key=None))
    for path in places(whole):
        *above, name = path
        for change in changed_values(_at(whole, path)):
            tampered = copy.deepcopy(whole)
            _at(tampered, tuple(above))[name] = change
            if path in _SAID_ONLY:
                continue
            if path == ("event", "body") and change is None:
                assert any("its body is not here" in line for line in check(orjson.dumps(tampered)).unproven)
                continue
            with pytest.raises(ProofError):
                check(orjson.dumps(tampered))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        value = value[name]
    return value


def test_any_bit_flipped_is_refused() -> None:
    """In the bytes of the document, wherever it is not mere white space."""
    whole = document()
    meaning = orjson.loads(whole)
    rng = random.Random(4)
    for _ in range(600):
        tampered = bytearray(whole)
        tampered[rng.randrange(len(tampered))] ^= 1 << rng.randrange(8)
        try:
            if orjson.loads(bytes(tampered)) == meaning:
                continue
        except ValueError:
            pass
        with pytest.raises(ProofError):
            check(bytes(tampered), trusted=[KEY.thumbprint])


def test_an_anchor_of_another_log_or_place_is_refused() -> None:
    """The same hashes under another epoch; an anchor of an earlier or a later pos; both an anchor and a head."""
    _, made = batches()
    for wrong, said in (
        (anchor(made, epoch="another"), "another log's"),
        (anchor(made[:2]), "do not lead to what was anchored"),
        (anchor(made, heads=[]), "do not lead to what was anchored"),
    ):
        tampered = orjson.loads(document(key=None))
        tampered["anchor"] = orjson.loads(wrong.line)
        with pytest.raises(ProofError, match=said):
            check(orjson.dumps(tampered))
    tampered = orjson.loads(document(key=None))
    tampered["head"] = [made[-1].last_pos, made[-1].hash.hex()]
    with pytest.raises(ProofError, match="both"):
        check(orjson.dumps(tampered))


def test_what_is_no_proof_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused in a sentence, and within bounds."""
    for data in (b"", b"[]", b"{}", b"null", b'{"readback_proof":2}', b'{"readback_proof":true}', b"[" * 5_000):
        with pytest.raises(ProofError):
            check(data)
    monkeypatch.setattr(proofs, "PROOF_BYTES_MAX", 100)
    with pytest.raises(ProofError, match="larger than 100 bytes"):
        check(document())


def test_a_signature_over_an_anchor_is_none_over_a_proof() -> None:
    """What is signed says what it is: the domain in front of it is another."""
    whole = orjson.loads(document(key=None))
    whole["key"] = b64url(KEY.public_bytes)
    whole["sig"] = b64url(KEY.sign(DOMAIN + canonical(whole)))
    with pytest.raises(ProofError, match="signature does not hold"):
        check(orjson.dumps(whole))
