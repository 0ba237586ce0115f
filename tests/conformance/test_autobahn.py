"""The Autobahn suite against our codec: what the RFC's own testers find."""

from __future__ import annotations

import glob
import shutil

import pytest

from tests.conformance import autobahn


@pytest.mark.slow
def test_codec_passes_autobahn() -> None:
    """All 247 core cases and the 54 of speed and size: none failed, at most 5 non-strict."""
    try:
        cases = autobahn.run("readback")
    except autobahn.Unavailable as missing:
        pytest.skip(str(missing))
    counts = autobahn.summary("readback", cases)
    assert autobahn.passes(counts), counts


def test_missing_python27_is_a_reason_to_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no Python 2.7 starts, the runner says so instead of failing the codec."""
    monkeypatch.setattr(shutil, "which", lambda name: "/nonexistent/python2.7")
    monkeypatch.setattr(glob, "glob", lambda pattern: [])
    with pytest.raises(autobahn.Unavailable, match=r"no Python 2\.7"):
        autobahn.find_python27()


def test_summary_counts_the_worse_of_verdict_and_close() -> None:
    """A case that answered rightly but did not close is a failed case, and is named."""
    fine = {"behavior": "OK", "behaviorClose": "OK", "duration": 1}
    cases = {
        "1.1.1": fine,
        "6.4.1": {**fine, "behavior": "NON-STRICT"},
        "7.1.1": {**fine, "behaviorClose": "UNCLEAN"},
        "7.1.6": {**fine, "behavior": "INFORMATIONAL", "behaviorClose": "INFORMATIONAL"},
        "9.1.1": {**fine, "duration": 2000},
    }
    counts = autobahn.summary("readback", cases)
    assert counts["core"] == {"cases": 4, "ok": 1, "non_strict": 1, "informational": 1, "failed": 1}
    assert counts["performance"]["failed"] == 0
    assert counts["performance"]["seconds"] == 2.0
    assert counts["notable"] == {"6.4.1": "NON-STRICT", "7.1.1": "UNCLEAN"}
    assert not autobahn.passes(counts)
