"""Proof of a single event: what leads from it to a signed anchor, as one document that can be checked anywhere.

The document is JSON: the event with the digest that the chain has of it, the hash before its batch, and the digests of its
batch and of every batch from there to the anchor, so that each hash can be computed (`store.chain`). Whoever made it may sign
the whole; that vouches for what the chain does not hold, the stream's name above all, as far as that signer is believed.

Promises: `check` never raises anything but `ProofError`, takes nothing on trust that is not in its answer's ``unproven``, and
needs no log and no network. Does not: prove that what was written is true, nor that nothing was left out before it was
written, nor the time beyond the anchor's word.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from core.anchors import Anchor, Head, canonical, parse
from core.jws import b64url, unb64url
from core.keys import PublicKey, SigningKey, parse_jwk
from core.model import KEY_RE, PRINCIPAL_RE, STREAM_RE, TENANT_RE, TYPE_RE
from core.wire import at_bytes
from store.chain import batch_hash, event_digest, genesis
from store.layout import PARTITIONS_MAX, partition_of

DOMAIN: Final = b"readback proof v1\n"
PROOF_BYTES_MAX: Final = 16_777_216
DIGESTS_MAX: Final = 250_000
"""Events from the proven one to the anchor: 11 MB. A partition of 1,000 events/s writes 60,000 in a minute."""

_INT_MAX: Final = 2**63 - 1
_FIELDS: Final = frozenset(
    ("readback_proof", "made_at", "epoch", "partitions", "event", "previous", "batches", "anchor", "head")
)
_EVENT: Final = ("tenant", "stream", "partition", "pos", "sid", "seq", "key", "type", "by", "at_ms", "body", "digest")


class ProofError(Exception):
    """The document proves nothing; says why."""


class Batch(NamedTuple):
    """``digests`` are 32 bytes an event, in order."""

    first_pos: int
    last_pos: int
    hash: bytes
    digests: bytes


@dataclass(frozen=True, slots=True)
class Proven:
    """What a document shows. ``proven`` and ``unproven`` are sentences for people."""

    event: Mapping[str, Any]
    anchor: Anchor | None
    signer: str | None
    """Thumbprint of the key that signed the document, if one did."""
    proven: tuple[str, ...]
    unproven: tuple[str, ...]


def build(
    *,
    epoch: str,
    partitions: int,
    event: Mapping[str, object],
    previous: bytes,
    batches: Sequence[Batch],
    anchor: Anchor | None,
    made_ms: int,
    key: SigningKey | None,
) -> bytes:
    """The document. ``event`` has the fields of `_EVENT`, ``digest`` in hex; without an anchor the last batch is the head."""
    document: dict[str, Any] = {
        "readback_proof": 1,
        "made_at": at_bytes(made_ms).decode(),
        "epoch": epoch,
        "partitions": partitions,
        "event": {name: event[name] for name in _EVENT},
        "previous": previous.hex(),
        "batches": [[b.first_pos, b.last_pos, b.hash.hex(), b64url(b.digests)] for b in batches],
        "anchor": None if anchor is None else orjson.loads(anchor.line),
        "head": [batches[-1].last_pos, batches[-1].hash.hex()] if anchor is None else None,
    }
    if key is not None:
        document["key"] = b64url(key.public_bytes)
        document["sig"] = b64url(key.sign(DOMAIN + canonical(document)))
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def check(
    data: bytes,
    *,
    trusted: Collection[str] = (),
    anchors: Collection[bytes] | None = None,
    body: bytes | None = None,
) -> Proven:
    """What the document proves. ``trusted`` are thumbprints: what was signed by another key is refused; without any, whose
    signature it is stays unproven. ``anchors`` are lines among which the anchor must be; ``body`` stands in for one that was
    left out. Raises `ProofError`."""
    document = _parse(data)
    signer = _signature(document, trusted)
    event = _event(document["event"], body)
    partitions, partition, pos = document["partitions"], event["partition"], event["pos"]
    if not _is_int(partitions, 1, PARTITIONS_MAX):
        raise ProofError("partitions is no number of partitions")
    if partition != partition_of(event["tenant"], event["stream"], partitions):
        raise ProofError(f"a stream of this name is not in partition {partition}")
    digest = bytes.fromhex(event["digest"])
    shown = event["body"] is not None
    if shown and digest != event_digest(**{n: event[n] for n in _EVENT if n not in ("stream", "digest")}):
        raise ProofError("the event's digest is not that of its facts and body")
    batches = _batches(document["batches"])
    first = batches[0]
    if not first.first_pos <= pos <= first.last_pos:
        raise ProofError("the event is not in the first batch")
    at = 32 * (pos - first.first_pos)
    if first.digests[at : at + 32] != digest:
        raise ProofError("the event's digest is not in its batch")
    end = _follow(_hash(document["previous"], "previous"), batches, partition)
    if document["anchor"] is None:
        anchor = None
        head = document["head"]
        if not isinstance(head, list) or head != [end.pos, end.hash.hex()]:
            raise ProofError("the batches do not lead to the head that is named")
    else:
        if document["head"] is not None:
            raise ProofError("both an anchor and a head are named")
        anchor = _anchor(document["anchor"], document["epoch"], end, trusted, anchors)
    return Proven(event, anchor, signer, *_said(event, shown, anchor, signer, document, trusted, anchors))


# -- parts of the document --------------------------------------------------------------------------------------------------


def _parse(data: bytes) -> dict[str, Any]:
    if len(data) > PROOF_BYTES_MAX:
        raise ProofError(f"larger than {PROOF_BYTES_MAX} bytes")
    try:
        document = orjson.loads(data)
    except ValueError:
        raise ProofError("not JSON") from None
    if not isinstance(document, dict) or not _is_int(document.get("readback_proof"), 1, 1):
        raise ProofError("not a proof of this version")
    extra = document.keys() - _FIELDS
    if not document.keys() >= _FIELDS or extra not in (set(), {"key", "sig"}):
        raise ProofError("its fields are not those of a proof")
    if not isinstance(document["epoch"], str) or not isinstance(document["made_at"], str):
        raise ProofError("epoch and made_at are texts")
    return document


def _signature(document: dict[str, Any], trusted: Collection[str]) -> str | None:
    if "sig" not in document:
        return None
    unsigned = {name: value for name, value in document.items() if name != "sig"}
    key = parse_jwk({"kty": "OKP", "crv": "Ed25519", "x": document["key"]})
    signature = unb64url(document["sig"]) if isinstance(document["sig"], str) else None
    if not isinstance(key, PublicKey) or signature is None or not key.verify(DOMAIN + canonical(unsigned), signature):
        raise ProofError("the document's signature does not hold: it was changed after it was made")
    if trusted and key.thumbprint not in trusted:
        raise ProofError(f"the document is signed by the key {key.thumbprint}, which is not one that was given")
    return key.thumbprint


def _event(event: object, body: bytes | None) -> dict[str, Any]:
    if not isinstance(event, dict) or event.keys() != set(_EVENT):
        raise ProofError("the event's fields are not those of an event")
    for name, pattern in (
        ("tenant", TENANT_RE),
        ("stream", STREAM_RE),
        ("key", KEY_RE),
        ("type", TYPE_RE),
        ("by", PRINCIPAL_RE),
    ):
        if not isinstance(event[name], str) or not pattern.match(event[name]):
            raise ProofError(f"the event's {name} is none")
    for name in ("partition", "at_ms", "pos", "sid", "seq"):
        if not _is_int(event[name], 0 if name in ("partition", "at_ms") else 1, _INT_MAX):
            raise ProofError(f"the event's {name} is none")
    if event["body"] is not None and not isinstance(event["body"], str):
        raise ProofError("the event's body is no text")
    _hash(event["digest"], "the event's digest")
    if body is None:
        return event
    try:
        given = body.decode()
    except UnicodeDecodeError:
        raise ProofError("the body that was given is no text") from None
    if event["body"] not in (None, given):
        raise ProofError("the body that was given is not the event's")
    return {**event, "body": given}


def _batches(value: object) -> list[Batch]:
    if not isinstance(value, list) or not value:
        raise ProofError("there are no batches")
    batches: list[Batch] = []
    for item in value:
        if not isinstance(item, list) or len(item) != 4:
            raise ProofError("a batch is [first, last, hash, digests]")
        first, last, hash, text = item
        digests = unb64url(text) if isinstance(text, str) else None
        if not _is_int(first, 1, _INT_MAX) or not _is_int(last, first, _INT_MAX) or digests is None:
            raise ProofError("a batch is [first, last, hash, digests]")
        if len(digests) != 32 * (last - first + 1):
            raise ProofError(f"the batch from pos {first} does not have a digest an event")
        batches.append(Batch(first, last, _hash(hash, "a batch's hash"), digests))
    return batches


def _follow(previous: bytes, batches: Sequence[Batch], partition: int) -> Head:
    """Through all batches, each of which must have the hash that its events and the one before it give."""
    if batches[0].first_pos == 1 and previous != genesis(partition):
        raise ProofError("the partition's first batch does not follow its beginning")
    pos = batches[0].first_pos - 1
    for batch in batches:
        if batch.first_pos != pos + 1:
            raise ProofError(f"the batch from pos {batch.first_pos} does not follow pos {pos}")
        previous = batch_hash(previous, (batch.digests,))
        if previous != batch.hash:
            raise ProofError(f"the batch from pos {batch.first_pos} does not have the hash of its events")
        pos = batch.last_pos
    return Head(partition, pos, previous)


def _anchor(
    value: object, epoch: str, end: Head, trusted: Collection[str], anchors: Collection[bytes] | None
) -> Anchor:
    anchor = parse(canonical(value)) if isinstance(value, dict) else "not a record"
    if isinstance(anchor, str):
        raise ProofError(f"the anchor: {anchor}")
    if anchor.epoch != epoch:
        raise ProofError("the anchor is another log's")
    if anchor.head(end.partition) != end:
        raise ProofError("the batches do not lead to what was anchored")
    if trusted and anchor.thumbprint not in trusted:
        raise ProofError(f"the anchor is signed by the key {anchor.thumbprint}, which is not one that was given")
    if anchors is not None and anchor.line not in anchors:
        raise ProofError("the anchor is not among those that were given")
    return anchor


def _said(
    event: Mapping[str, Any],
    shown: bool,
    anchor: Anchor | None,
    signer: str | None,
    document: Mapping[str, Any],
    trusted: Collection[str],
    anchors: Collection[bytes] | None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    proven: list[str] = []
    unproven: list[str] = []
    place = f"pos {event['pos']} of partition {event['partition']} of the log {document['epoch']}"
    if shown:
        proven.append(
            f"these facts and this body are the event at {place}, seq {event['seq']} of stream number {event['sid']}"
        )
    else:
        proven.append(f"an event with the digest {event['digest']} is at {place}")
        unproven.append(
            "what that event says: its body is not here, and the facts beside it cannot be held to the digest"
        )
    if anchor is None:
        unproven.append(
            "that the log still says so: no anchor lies past the event; the batches lead to the head of then"
        )
    else:
        proven.append(f"it was there when anchor {anchor.number} was written, at {anchor.at} by the gateway's clock")
        if trusted:
            proven.append(f"the anchor was signed by the key {anchor.thumbprint}, which is one that was given")
        else:
            unproven.append(f"whose key signed the anchor: {anchor.thumbprint} was not compared with one that is known")
        if anchors is None:
            unproven.append("that the anchor is kept where it should be: no file of anchors was given")
        else:
            proven.append("the anchor is among those that were given")
    name = (
        f"that stream number {event['sid']} is {event['stream']} of {event['tenant']}"
        if shown
        else "the names of the stream"
    )
    if signer is None:
        unproven.append(f"{name}: the stream's name is not in the chain, and nobody signed the document")
    elif trusted:
        proven.append(f"the signer of the document, the key {signer} that was given, vouches for {name}")
    else:
        unproven.append(
            f"{name}: the document's signer {signer} says so, and was not compared with a key that is known"
        )
    unproven.append(
        "that what was written is true, or complete: a gateway that lies before it writes is not found by this"
    )
    return tuple(proven), tuple(unproven)


def _hash(value: object, what: str) -> bytes:
    if isinstance(value, str) and len(value) == 64:
        try:
            hash = bytes.fromhex(value)
        except ValueError:
            pass
        else:
            if hash.hex() == value:
                return hash
    raise ProofError(f"{what} is no hash")


def _is_int(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
