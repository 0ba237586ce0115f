"""The Autobahn suite against our codec: what the RFC's own testers find."""

from __future__ import annotations

import glob
import json
import re
import shutil
import subprocess
import sys

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


def test_the_table_is_what_the_results_say() -> None:
    """A line for each implementation with the counts of the file, and every case that is not plainly OK named."""
    results = json.loads(autobahn.RESULTS.read_text())
    lines = autobahn.table(results).splitlines()
    assert lines[0] == "| implementation | OK | non-strict | informational | failed |"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2 : 2 + len(results["servers"])]]
    assert [row[0].split()[0] for row in rows] == list(autobahn.SERVERS)
    notes = re.findall(r"\d+(?:\.\d+)+", " ".join(lines))
    for row, server in zip(rows, results["servers"], strict=True):
        assert row[1:] == [str(server["core"][column]) for column in ("ok", "non_strict", "informational", "failed")]
        assert sum(map(int, row[1:])) == autobahn.CORE_CASES
        assert set(server["notable"]) <= set(notes)


def test_our_own_published_counts_pass() -> None:
    """What is published of this codec is good enough to be."""
    ours = json.loads(autobahn.RESULTS.read_text())["servers"][0]
    assert ours["server"] == "readback"
    assert autobahn.passes(ours), ours


def test_the_table_of_the_page_is_this_one() -> None:
    """docs/robustness.md shows what docs/data/autobahn.json says, to the letter."""
    shown = autobahn.table_in((autobahn.ROOT / "docs" / "robustness.md").read_text())
    if shown is None:
        pytest.skip("docs/robustness.md has no marks for the table of the Autobahn suite")
    assert shown == autobahn.table(json.loads(autobahn.RESULTS.read_text()))


def test_the_table_is_found_between_its_marks() -> None:
    """And only there: a page without them has none."""
    assert autobahn.table_in(f"a\n{autobahn.BEGIN}\n| x |\n{autobahn.END}\nb") == "| x |"
    assert autobahn.table_in("a\n| x |\n") is None


def test_the_table_can_be_printed_for_the_page() -> None:
    """``--table`` gives the piece with its marks, ready to be put there, and runs no suite."""
    command = [sys.executable, "-m", "tests.conformance.autobahn", "--table"]
    printed = subprocess.run(command, cwd=autobahn.ROOT, capture_output=True, text=True, check=True).stdout
    assert autobahn.table_in(printed) == autobahn.table(json.loads(autobahn.RESULTS.read_text()))
