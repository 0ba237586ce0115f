"""What a judge knows of its subject, as a text small enough to be kept with every subject's last position.

For: `plausible.Judge.state` and `restore`, when a subject's fixes go on at another node. Promises: at most STATE_MAX
characters, none of which JSON escapes; `unpack` of what `pack` made is the same value, for coordinates of 7 decimals and
accuracies, speeds and headings of 2 (times more than 17 years apart do not fit and are let go); whatever else it is given,
`ValueError`.
"""

from __future__ import annotations

from base64 import b85decode, b85encode
from struct import Struct, error
from typing import Final, NamedTuple

VERSION: Final = 1
STATE_MAX: Final = 386

_HEAD: Final = Struct("<BBBBBBIHqqqqqqqB")
_SAMPLE: Final = Struct("<iiI")
_TIME: Final = 5
"""Bytes of a difference of times."""
_TIME_MAX: Final = 1 << (8 * _TIME - 1)
_NO_SPEED: Final = 0xFFFFFFFF
_NO_HEADING: Final = 0xFFFF
_STALLED, _CONTESTED, _OLD, _RUN, _HEARD = 1, 2, 4, 8, 16


class Sample(NamedTuple):
    """A fix as far as later ones are judged by it."""

    at_ms: int
    lat: float
    lon: float
    acc_m: float


class Kept(NamedTuple):
    """Fields as `plausible.Judge` has them, and `clocks.Clock.state`."""

    seen: tuple[int, ...]
    recent: tuple[Sample, ...]
    speed_mps: float | None
    heading_deg: float | None
    stalled: bool
    held_ms: int
    contested: bool
    trust: int
    old: Sample | None
    old_trust: int
    run: int
    run_last: Sample | None
    due_ms: int
    clock: tuple[int, int, int, int, int, int | None, int]


def pack(kept: Kept) -> str:
    offset, least, first, low, since, now, clock_run = kept.clock
    flags = (
        _STALLED * kept.stalled
        | _CONTESTED * kept.contested
        | _OLD * (kept.old is not None)
        | _RUN * (kept.run_last is not None)
        | _HEARD * (now is not None)
    )
    base = kept.recent[-1].at_ms if kept.recent else since
    recent = [sample for sample in kept.recent if base - sample.at_ms < _TIME_MAX]
    last = kept.seen[-1] if kept.seen else 0
    seen = [last - at_ms for at_ms in kept.seen if -_TIME_MAX <= last - at_ms < _TIME_MAX]
    parts = [
        bytes((VERSION,)),
        _HEAD.pack(
            flags,
            len(recent),
            len(seen),
            kept.trust,
            kept.old_trust,
            kept.run,
            _NO_SPEED if kept.speed_mps is None else round(kept.speed_mps * 100),
            _NO_HEADING if kept.heading_deg is None else round(kept.heading_deg * 100),
            base,
            kept.due_ms - base,
            offset,
            least,
            first,
            first - low,
            (now or 0) - since,
            clock_run,
        ),
        since.to_bytes(8, "little", signed=True),
        last.to_bytes(8, "little", signed=True),
        _difference(base - kept.held_ms if kept.held_ms else _TIME_MAX),
    ]
    samples = [*recent, *(sample for sample in (kept.old, kept.run_last) if sample is not None)]
    parts += [_difference(base - sample.at_ms) + _placed(sample) for sample in samples]
    parts += [_difference(ago) for ago in seen]
    return b85encode(b"".join(parts)).decode()


def unpack(text: object) -> Kept:
    if not isinstance(text, str):
        raise ValueError("a judge's state is a text")
    try:
        return _unpack(b85decode(text))
    except (error, IndexError, ValueError):
        raise ValueError("not what a judge's state looks like") from None


def _unpack(data: bytes) -> Kept:
    if data[0] != VERSION:
        raise ValueError
    head = _HEAD.unpack_from(data, 1)
    flags, recents, seens, trust, old_trust, run, speed, heading = head[:8]
    base, due, offset, least, first, under, heard, clock_run = head[8:]
    at = 1 + _HEAD.size
    since, last = (int.from_bytes(data[place : place + 8], "little", signed=True) for place in (at, at + 8))
    at += 16
    held = int.from_bytes(data[at : at + _TIME], "little", signed=True)
    at += _TIME
    samples = []
    for _ in range(recents + bool(flags & _OLD) + bool(flags & _RUN)):
        ago = int.from_bytes(data[at : at + _TIME], "little", signed=True)
        lat, lon, acc = _SAMPLE.unpack_from(data, at + _TIME)
        samples.append(Sample(base - ago, lat / 10_000_000, lon / 10_000_000, acc / 100))
        at += _TIME + _SAMPLE.size
    if len(data) != at + seens * _TIME:
        raise ValueError
    seen = (
        last - int.from_bytes(data[at + n * _TIME : at + (n + 1) * _TIME], "little", signed=True) for n in range(seens)
    )
    return Kept(
        seen=tuple(seen),
        recent=tuple(samples[:recents]),
        speed_mps=None if speed == _NO_SPEED else speed / 100,
        heading_deg=None if heading == _NO_HEADING else heading / 100,
        stalled=bool(flags & _STALLED),
        held_ms=0 if held == _TIME_MAX - 1 else base - held,
        contested=bool(flags & _CONTESTED),
        trust=trust,
        old=samples[recents] if flags & _OLD else None,
        old_trust=old_trust,
        run=run,
        run_last=samples[-1] if flags & _RUN else None,
        due_ms=base + due,
        clock=(offset, least, first, first - under, since, since + heard if flags & _HEARD else None, clock_run),
    )


def _difference(ms: int) -> bytes:
    return max(-_TIME_MAX, min(ms, _TIME_MAX - 1)).to_bytes(_TIME, "little", signed=True)


def _placed(sample: Sample) -> bytes:
    return _SAMPLE.pack(round(sample.lat * 10_000_000), round(sample.lon * 10_000_000), round(sample.acc_m * 100))
