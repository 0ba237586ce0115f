"""The micro-measurements: they count what they say, and every implementation measured reads and writes the same."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import micro, micro_capture, micro_frames
from core.frames import TEXT, masked_frame


def test_an_operation_is_divided_by_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """``per_call`` divides: an operation of 1,000 ns that does 10 things costs 0.1 us each, best and median alike."""
    now_ns = 0
    monkeypatch.setattr(micro, "perf_counter_ns", lambda: now_ns)

    def operation() -> None:
        nonlocal now_ns
        now_ns += 1000

    assert micro.time_us(operation, per_call=10) == pytest.approx((0.1, 0.1))


def test_frames_are_measured_side_by_side(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each figure has its three implementations, every one of which handled the frames it was timed with."""
    monkeypatch.setattr(micro_frames, "time_us", lambda operation, per_call=1: (operation() and 1.0, 2.0))
    out = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["bench.micro", "frames", "--json", str(out)])
    assert micro.main() == 0
    figures = json.loads(out.read_text())["figures"]
    for what in ("read", "read cut", "write", "read pipelined"):
        rows = {(figure["size"], figure["who"].split()[0]) for figure in figures if figure["what"] == what}
        sizes = {size for size, _ in rows}
        assert rows == {(size, who) for size in sizes for who in ("readback", "websockets", "wsproto")}
        assert "130 B" in sizes
    assert "handshake" in capsys.readouterr().out


def test_a_capture_is_measured_beside_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each case once without a tap and once with it, which saw every frame that it was timed with."""
    seen: list[int] = []

    def once(operation: Callable[[], object], per_call: int = 1) -> tuple[float, float]:
        operation()
        seen.append(per_call)
        return 1.0, 2.0

    monkeypatch.setattr(micro_capture, "time_us", once)
    figures = list(micro_capture.measure())
    cases = [(figure.what, figure.size) for figure in figures]
    assert cases[: len(cases) // 2] == cases[len(cases) // 2 :]
    assert [figure.who for figure in figures] == ["off"] * 5 + ["on"] * 5
    assert micro_capture.JOINED in seen
    bench = micro_capture.Bench(tmp_path, tapped=True)
    assert bench.capture is not None
    bench.sends([micro_capture.event(1)])()
    assert b'"took"' in bench.capture.part.lines[-1]
    bench.reads(masked_frame(TEXT, micro_capture.SEND, micro_capture.MASK))()
    assert b'"asked"' in bench.capture.part.lines[-1]
    bench.capture.close()
