"""The collector, kept off the hot path: what lives as long as the process is not walked again and again.

CPython's full collection walks every tracked object; with tens of thousands of connections that is a pause of tens of
milliseconds for garbage that hardly exists, since the hot path makes no reference cycles. So what exists once the node
serves is frozen, and the youngest generation is made large.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 50_000


def freeze() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)
