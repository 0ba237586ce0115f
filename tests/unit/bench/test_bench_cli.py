"""bench.cli: a wrong command line is answered with what would be right; an unmeasurable run ends with status 1."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_results import result
from typer.testing import CliRunner, Result

from bench import cli, model, report
from bench.load import LoadError
from bench.scenarios import arrivals as arrivals_scenario
from bench.scenarios import echo as echo_scenario
from bench.scenarios import flights as flights_scenario
from bench.scenarios import noisy as noisy_scenario
from bench.scenarios.common import Context


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments), env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})


def test_every_scenario_is_a_command() -> None:
    """What the issue names can be called by that name."""
    said = ran("--help").output
    for name in ("floor", "echo", "fanout", "chat", "resume-storm", "jitter", "idle", "slow", "noisy-neighbour"):
        assert name in said
    for name in ("flights", "arrivals", "soak"):
        assert name in said
    for name in ("all", "report"):
        assert name in said
    for name in ("cluster", "drain", "presence-storm", "redis-loss", "node-loss", "cluster-all"):
        assert name in said


def test_an_unknown_peer_is_answered_with_those_that_exist() -> None:
    """Status 2, and the list."""
    made = ran("echo", "--peer", "morse")
    assert made.exit_code == 2
    assert "no peer 'morse'" in made.output
    assert "trio-websocket" in made.output


def test_a_peer_that_does_not_fit_is_answered_with_those_that_do() -> None:
    """Resuming with cursors has no equivalent in most peers."""
    made = ran("resume-storm", "--peer", "ws")
    assert made.exit_code == 2
    assert "ws has no equivalent of this scenario" in made.output


@pytest.mark.parametrize(
    "arguments", [("echo", "--connections", "0"), ("fanout", "--seconds", "1000"), ("chat", "--rounds", "x")]
)
def test_a_number_out_of_bounds_is_refused(arguments: tuple[str, ...]) -> None:
    """Every load is bounded in count and in time."""
    assert ran(*arguments).exit_code == 2


def test_a_quick_run_of_all_never_replaces_real_figures(tmp_path: Path) -> None:
    """It must be told where to write."""
    made = ran("all", "--quick")
    assert made.exit_code == 2
    assert "--data" in made.output
    assert ran("all", "--only", "nothing", "--data", str(tmp_path)).exit_code == 2


def test_a_report_without_results_says_what_to_run(tmp_path: Path) -> None:
    """Status 1, and the command that makes some."""
    made = ran("report", "--data", str(tmp_path), "--out", str(tmp_path / "page.md"))
    assert made.exit_code == 1
    assert "readback bench all" in made.output


def test_a_report_writes_the_page(tmp_path: Path) -> None:
    """From whatever results there are."""
    model.write(result(), tmp_path / "bench-fanout.json")
    made = ran("report", "--data", str(tmp_path), "--out", str(tmp_path / "page.md"))
    assert made.exit_code == 0
    assert (tmp_path / "page.md").read_text().startswith("# Benchmarks")


def test_a_run_that_cannot_be_measured_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 1 with the reason, no traceback."""

    def fail(ctx: Context, **parameters: object) -> model.Result:
        raise LoadError("the generator fell over")

    monkeypatch.setattr(echo_scenario, "run", fail)
    made = ran("echo", "--peer", "picows")
    assert made.exit_code == 1
    assert "the generator fell over" in made.output


def test_a_target_that_is_missed_is_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A figure is a statement about a machine; the command measured it, and that is its job."""
    monkeypatch.setattr(echo_scenario, "run", lambda ctx, **parameters: result())
    path = tmp_path / "echo.json"
    made = ran("echo", "--json", str(path))
    assert made.exit_code == 0
    assert "NO" in made.output
    assert model.from_json(path.read_bytes()) == result()


def test_jitter_over_several_nodes_is_of_readback_alone() -> None:
    """The option is there, and bounded."""
    assert ran("jitter", "--nodes", "99").exit_code == 2
    for name in ("cluster", "drain", "presence-storm", "redis-loss", "node-loss"):
        assert ran(name, "--rounds", "0").exit_code == 2, name


def test_the_scenarios_of_several_nodes_are_a_command_of_their_own(tmp_path: Path) -> None:
    """Which writes the same page, and knows only them."""
    assert ran("cluster-all", "--quick").exit_code == 2
    made = ran("cluster-all", "--only", "echo", "--data", str(tmp_path))
    assert made.exit_code == 2
    assert "jitter-cluster" in made.output


@pytest.mark.parametrize("name", ["noisy-neighbour", "flights", "arrivals"])
def test_all_runs_scenarios_without_peers_too(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Into the file that the page is made from; what they are told on the way is what `all` was told."""
    heard: list[Context] = []

    def run(ctx: Context, **parameters: object) -> model.Result:
        heard.append(ctx)
        return result(name)

    for scenario in (arrivals_scenario, flights_scenario, noisy_scenario):
        monkeypatch.setattr(scenario, "run", run)
    page = tmp_path / "page.md"
    made = ran("all", "--only", name, "--rounds", "2", "--data", str(tmp_path), "--out", str(page))
    assert made.exit_code == 0, made.output
    assert [(ctx.rounds, ctx.peers) for ctx in heard] == [(2, ("readback",))]
    assert model.from_json((tmp_path / f"bench-{name}.json").read_bytes()).scenario == name
    assert page.read_text().count("Not measured yet.") == len(report.ORDER) - 1
