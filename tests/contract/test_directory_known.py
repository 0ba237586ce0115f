"""The directory's port: the keys of many devices in one call."""

from __future__ import annotations

from core.directory import Directory
from tests.directories import NOTE, NOW, TRUCK, VAN, enrol


async def test_many_are_known_as_each_is(directory: Directory) -> None:
    """Of any tenants, in the order asked, twice where asked twice; who is unknown, or no name at all, is nobody."""
    await enrol(directory, TRUCK)
    await enrol(directory, VAN)
    await enrol(directory, TRUCK, tenant="other")
    await directory.revoke_device("demo", VAN, at_ms=NOW, note=NOTE)
    asked = [
        ("other", TRUCK),
        ("demo", "device:nobody"),
        ("demo", VAN),
        ("de\0mo", TRUCK),
        ("demo", TRUCK),
        ("demo", "\ud800"),
        ("other", VAN),
        ("demo", TRUCK),
        ("'; select 1; --", ""),
    ]
    found = await directory.known(asked)
    assert found == [await directory.device(*each) for each in asked]
    assert [each is not None for each in found] == [True, False, True, False, True, False, False, True, False]
    assert found[2] is not None
    assert found[2].revoked
    assert await directory.known([]) == []
