"""``readback work`` with leases and claims that run out in a second or two, so that a case about them takes no half minute.

Run as ``python -m tests.faults.work_process work …``; all else is the product's own command line.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from core.work_limits import WorkLimits

LIMITS: Final = replace(WorkLimits(), lease_s=2.0, beat_s=0.4, task_s=2.0, batch_events=50)


def main() -> None:
    import gateway.serve
    from gateway.cli import main as readback

    gateway.serve.WorkLimits = lambda: LIMITS  # type: ignore[assignment,misc]  # called without arguments there
    readback()


if __name__ == "__main__":
    main()
