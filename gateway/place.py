"""Where a node stands on its machine: its name, its service manager, and those who share its ports."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.config import Config, Secrets
from gateway.systemd import Inherited, Notifier


@dataclass(frozen=True, slots=True)
class Place:
    """The default is a node by itself, started by hand.

    ``share_ports``: siblings listen on the same numbers. ``worker`` names the node among those that share its ports, who
    answer each other in ``folder``. ``reload`` gives log level and keys as they are now; without it, nothing is reloaded.
    """

    notifier: Notifier = field(default_factory=lambda: Notifier({}))
    inherited: Inherited | None = None
    share_ports: bool = False
    worker: str = ""
    folder: Path | None = None
    reload: Callable[[], tuple[Config, Secrets]] | None = None


def node_name(config: Config, worker: str = "") -> str:
    """What people call this node: the setting, or the machine's name; and which worker of it."""
    name = config.node or re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:48] or "node"
    return f"{name}-{worker}" if worker else name
