"""Options that commands share: which installation is meant, and which database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="A TOML file of settings.", show_default=False)
]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="FOLDER", help="Where `dev` keeps its Postgres and keys.", show_default=False),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database-url", metavar="URL", help="The Postgres that holds the log.", show_default=False),
]
