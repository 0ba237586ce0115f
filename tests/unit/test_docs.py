"""The documents say what is so: examples run, names exist, links lead somewhere, numbers are those of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import trio

from core.limits import Limits
from core.wire import Close
from gateway.http import make_app
from gateway.ops import _HANDLERS
from gateway.service import WIRE_CODES
from proof.sim.swarm import TROUBLES
from store.memory_tracks import MemoryTracks
from tests.measure import access, robustness
from tests.nodes import memory_log, serving_node, token
from tests.wire_page import blocks, matches, playing

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("clients/*/*.md"))
    if "node_modules" not in path.parts
)
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
README = (ROOT / "README.md").read_text()
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


async def test_the_examples_of_the_protocol_page_are_what_a_node_does() -> None:
    """Played from top to bottom, each block gets exactly the frames it shows."""
    log = memory_log()
    async with serving_node(log, tracks=MemoryTracks(log)) as node, playing(node) as page:
        for lines in blocks(PROTOCOL):
            await page.play(lines)


async def test_a_wrong_example_fails() -> None:
    """The player itself: a frame that never comes, a field too few, and a frame that is not shown are all noticed."""
    async with serving_node() as node, playing(node) as page:
        await page.play(['amy → {"op":"ping","id":1}', 'amy ← {"op":"pong","id":1,"time":"…"}'])
        with pytest.raises(AssertionError, match="also got what the page does not show"):
            await page.play(['amy → {"op":"ping","id":2}'])
        with pytest.raises(AssertionError, match="but: 200"):
            await page.play(["amy → GET /livez", "amy ← 503 {}"])
    assert not matches({"op": "pong"}, {"op": "pong", "id": 1})
    assert not matches([1], [1, 2])
    assert not matches(1, True)


def test_the_protocol_page_names_every_op_code_close_and_route() -> None:
    """What the gateway knows is on the page: nothing is served that is not described."""
    for op in _HANDLERS:
        assert f'"op":"{op}"' in PROTOCOL, op
    for code in WIRE_CODES:
        assert f"| `{code}` |" in PROTOCOL, code
    for close in Close:
        assert f"| {close.value} | `{close.name.lower()}` |" in PROTOCOL, close
    parts = dict.fromkeys(("office", "reads", "work", "pushes", "collect", "trips"), object())
    routes = make_app(None, **parts).openapi()["paths"]  # type: ignore[arg-type]  # nothing is served here
    for path, methods in routes.items():
        for method in methods:
            assert re.search(rf"`{method.upper()} {re.escape(path)}[`?]", PROTOCOL), (method, path)


def test_the_limits_on_the_protocol_page_are_the_defaults() -> None:
    """A number in the table of limits is the code's."""
    defaults = {field.name: field.default for field in fields(Limits)}
    rows = re.findall(r"^\| `([a-z_]+)` \| ([0-9,.]+) \|", PROTOCOL, re.MULTILINE)
    assert len(rows) >= 15
    for name, number in rows:
        assert float(number.replace(",", "")) == defaults[name], name


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_lead_somewhere(name: str) -> None:
    """Every link and picture of a page that is not on the web exists, and every #part is a heading."""
    page = ROOT / name
    for target in _links(page.read_text()):
        path, _, part = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name} links to {target}"
        if part and file.suffix == ".md":
            assert part in {_slug(heading) for heading in _headings(file.read_text())}, f"{name} links to {target}"


@pytest.mark.parametrize("name", NAMES)
def test_files_and_tests_that_are_named_exist(name: str) -> None:
    """`core/hub.py`, `tests/e2e/test_chat.py`, `test_a_message_reaches_…`: what a page names in code style is there."""
    text = _prose((ROOT / name).read_text())
    for path in re.findall(r"`((?:core|store|gateway|bench|tests|clients|docs|systemd)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), f"{name} names {path}"
    known = _tests()
    for test in re.findall(r"`(test_\w+)`", text):
        assert test in known, f"{name} names {test}"


async def test_the_client_example_of_the_readme_works() -> None:
    """Copied and run as it stands, with a node's address and a token in the places of the reader's."""
    [code] = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    async with serving_node() as node:
        await node.stream("chat:lobby")
        code = code.replace("ws://127.0.0.1:8400", f"ws://127.0.0.1:{node.port}").replace("<token>", token())
        with trio.fail_after(30):
            done = await trio.run_process(
                [sys.executable, "-W", "error", "-c", code],
                capture_stdout=True,
                stderr=subprocess.STDOUT,
                check=False,
            )
        assert (done.returncode, done.stdout.decode()) == (0, "1 user:amy hello\n")


def test_the_figures_have_their_place_in_the_readme() -> None:
    """`readback bench report` writes between two markers, which stand once and in order."""
    begin, end = "<!-- figures:begin -->", "<!-- figures:end -->"
    assert README.count(begin) == README.count(end) == 1
    assert README.index(begin) < README.index(end)


def test_every_decision_is_in_the_index() -> None:
    """docs/decisions/README.md links each page, once."""
    folder = ROOT / "docs" / "decisions"
    pages = {path.name for path in folder.glob("[0-9]*.md")}
    links = _links((folder / "README.md").read_text())
    assert sorted(links) == sorted(pages)


def _prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def _links(text: str) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", _prose(text)) + re.findall(r'(?:src|srcset|href)="([^"]+)"', _prose(text))
    return [target for target in found if not target.startswith(("http://", "https://", "mailto:"))]


def _headings(text: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", _prose(text), re.MULTILINE)


def _slug(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _tests() -> set[str]:
    names: set[str] = set()
    for path in (*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("clients/*/tests/**/test_*.py")):
        names.add(path.stem)
        names.update(re.findall(r"def (test_\w+)\(", path.read_text()))
    return names


@pytest.mark.parametrize("name", robustness.BLOCKS)
def test_the_robustness_page_says_what_was_measured(name: str) -> None:
    """Its tables are those of docs/data and of the code: `python -m tests.measure.robustness --write` puts them anew."""
    page = robustness.PAGE.read_text()
    assert robustness.block_of(page, name).strip() == robustness.BLOCKS[name]().strip()


def test_the_robustness_page_explains_every_trouble() -> None:
    """What a seed may draw is on the page in words."""
    assert set(robustness.MEANINGS) == set(TROUBLES)


def test_the_figures_of_the_simulation_are_of_runs_that_held() -> None:
    """Nothing failed in them, nothing that must be met was missed, and every planted error was found."""
    small, large, crashes = (robustness._json(f"sim-{size}.json") for size in ("small", "large", "crashes"))
    assert small["failed"] == large["failed"] == crashes["failed"] == []
    assert small["runs"] >= 2_000
    assert large["runs"] >= 40
    assert small["never_met"] == []
    mutants = robustness._json("mutants.json")
    assert mutants["seeds_max"] <= 2_000
    assert sum(row["seed"] is not None for row in mutants["mutants"]) >= 25


def test_the_table_of_who_may_do_what_is_the_policys() -> None:
    """docs/access.md is made from the code that decides."""
    assert access.PAGE.read_text() == access.render(), "run: python -m tests.measure.access --write"


def test_every_threat_has_its_test() -> None:
    """docs/threat-model.md numbers its threats without a gap, and each names a test that exists."""
    page = (ROOT / "docs/threat-model.md").read_text()
    rows = re.findall(r"^\| T(\d+) \|.*\| `(tests/[^`]+)` \|$", page, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    assert len(rows) >= 40
    for number, reference in rows:
        file, _, test = reference.partition("::")
        assert (ROOT / file).exists(), f"T{number}: {file}"
        assert not test or f"def {test}(" in (ROOT / file).read_text(), f"T{number}: {reference}"
