"""Pages with made parts: what stands between ``<!-- made: NAME -->`` and ``<!-- end -->`` is the code's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

PART_RE: Final = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(page: str, made: Mapping[str, str]) -> str:
    """The page with its made parts made anew."""
    return PART_RE.sub(lambda found: f"{found[1]}\n{made[found[2]]}\n\n{found[3]}", page)


def written(page: Path, render: Callable[[str], str], arguments: list[str], usage: str | None) -> int:
    """``--write`` writes the page; without it 1 says that it is not as it would be made."""
    if arguments == ["--write"]:
        page.write_text(render(page.read_text()))
    elif arguments:
        print(usage)
        return 2
    return 0 if page.read_text() == render(page.read_text()) else 1
