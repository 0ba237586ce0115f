"""``readback eta``: train arrival times on history, replay trips, and score what was said. What each command takes and says.

For: whoever wants to know how good the arrival times are, at a terminal or in a pipeline (`gateway.cli_errors` has the exit
codes). Promises as `gateway.cli` does: it imports nothing heavy before a command runs. Does not: hold logic (`gateway.eta`).
"""

from __future__ import annotations

import typer

eta_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train arrival times on history, replay trips, and score what was said. docs/eta.md says how.",
)


@eta_app.callback()
def _group() -> None:
    """So that a single command keeps its own name."""
