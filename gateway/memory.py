"""The collector, kept off the hot path: what lives long is not walked again and again, and each pause is measured.

CPython's full collection walks every tracked object; with tens of thousands of connections that is a pause of tens of
milliseconds for garbage that hardly exists, since the hot path makes no reference cycles (tests/e2e/test_overload.py
holds it to that). So what exists once the node serves is frozen, the youngest generation is made large, and what came to
stay since then is frozen in its turn while the node is calm (`tidy`).

A frozen object is still freed when its last reference goes, as nearly all are. What is frozen while it hangs in a cycle
and is dropped later stays for good: what a cold path (an HTTP request, a reconnect of the store) had in hand at that
moment. `tidy` collects before it freezes and waits for `YOUNG_OBJECTS` twice over, which makes that rare and small; after
`FREEZES_MAX` of them it walks everything once, so that even this is bounded.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

YOUNG_OBJECTS: Final = 10_000
"""More came than went since the last young collection: 2 to 4 ms of walking."""
YOUNG_COLLECTIONS: Final = 10
"""Collections of the youngest generation after which what they left is worth freezing."""
FREEZES_MAX: Final = 200


class Collector:
    """What this process has frozen. One a process, as the collector is; use `COLLECTOR`."""

    def __init__(self) -> None:
        self.frozen = False
        self.freezes = 0
        self.cleanings = 0
        """How often everything was walked for what had been frozen in a cycle."""

    def freeze(self) -> None:
        """All that is here now is here to stay: called once a node serves."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS, 100, 50)
        self.frozen = True
        self.freezes = 1

    def tidy(self) -> bool:
        """Freeze what has come to stay, where there may be enough of it. A pause of about 0.1 ms a thousand objects that
        came since the last time, so call it while nobody waits. Nothing is done before `freeze`."""
        if not self.frozen or gc.get_count()[1] < YOUNG_COLLECTIONS:
            return False
        if self.freezes >= FREEZES_MAX:
            gc.unfreeze()
            self.freezes = 0
            self.cleanings += 1
        gc.collect()  # of what is not frozen
        gc.freeze()
        self.freezes += 1
        return True


COLLECTOR: Final = Collector()


def freeze() -> None:
    COLLECTOR.freeze()


@contextmanager
def watching(observe: Callable[[int, float], None]) -> Iterator[None]:
    """Call ``observe(generation, seconds)`` after every collection of this process for the length of the block."""
    began_s = 0.0

    def collected(phase: str, info: dict[str, Any]) -> None:
        nonlocal began_s
        if phase == "start":
            began_s = time.perf_counter()
        else:
            observe(info["generation"], time.perf_counter() - began_s)

    gc.callbacks.append(collected)
    try:
        yield
    finally:
        gc.callbacks.remove(collected)
