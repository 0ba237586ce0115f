"""core.ports: what goes wrong in a store has one of three names, and the adapters have the port's shape."""

from __future__ import annotations

import inspect

import pytest

from core.ports import CorruptLog, Log, LogChecker, Refused, StoreError, Unavailable
from store.memory import MemoryLog
from store.postgres import PostgresLog


def test_each_failure_says_what_to_do_next() -> None:
    """Come back after so long; a rule said no, with its code; stop. All of them are a store's."""
    away = Unavailable("connection refused")
    assert (str(away), away.retry_after_s) == ("connection refused", 1.0)
    assert Unavailable("full", retry_after_s=5.0).retry_after_s == 5.0
    no = Refused("conflict", "it exists already")
    assert (no.code, no.message, str(no)) == ("conflict", "it exists already", "it exists already")
    for error in (away, no, CorruptLog("seq 7 twice")):
        with pytest.raises(StoreError):
            raise error
    assert not isinstance(away, Refused | CorruptLog)


def shape(port: type) -> dict[str, list[tuple[str, object, object]]]:
    """By method, its parameters: name, kind, default."""
    methods = {name: method for name, method in vars(port).items() if inspect.isfunction(method) and name[0] != "_"}
    return {
        name: [(one.name, one.kind, one.default) for one in inspect.signature(method).parameters.values()]
        for name, method in methods.items()
    }


@pytest.mark.parametrize(
    ("port", "adapter"), [(Log, MemoryLog), (Log, PostgresLog), (LogChecker, MemoryLog), (LogChecker, PostgresLog)]
)
def test_an_adapter_can_be_called_as_the_port_says(port: type, adapter: type) -> None:
    """Every method is there, with the same parameters; a protocol's own body does nothing."""
    theirs = {name: shape_of for name, shape_of in shape(adapter).items() if name in shape(port)}
    assert theirs == shape(port)
