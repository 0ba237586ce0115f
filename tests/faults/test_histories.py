"""The judge finds what it is there to find, in histories made up for it."""

from __future__ import annotations

import pytest

from tests.faults.histories import History, Seen, findings

LOG = {"chat:ops": [Seen(n, f"k{n}", f"text {n}") for n in range(1, 5)]}


def good() -> History:
    """Two followers, one of whom moved after seq 2; all four events acknowledged."""
    history = History()
    one = history.begin("amy", "a", {"chat:ops": 0})
    one.events["chat:ops"] = LOG["chat:ops"][:2]
    two = history.begin("amy", "b", {"chat:ops": 2})
    two.events["chat:ops"] = LOG["chat:ops"][2:]
    history.begin("bob", "b", {"chat:ops": 1}).events["chat:ops"] = LOG["chat:ops"][1:]
    for event in LOG["chat:ops"]:
        history.acknowledge("chat:ops", event.key, event.seq)
    return history


def test_a_good_history_has_no_findings() -> None:
    """Over a move, with a repeated acknowledgement."""
    history = good()
    history.acknowledge("chat:ops", "k3", 3)
    assert findings(history, LOG) == []
    assert history.cursor("amy", "chat:ops") == 4


def test_who_left_need_not_have_seen_the_end() -> None:
    """But what it saw must be right."""
    history = good()
    history.lives["bob"][0].events["chat:ops"] = LOG["chat:ops"][1:3]
    assert findings(history, LOG, gone=["bob"]) == []
    history.lives["bob"][0].events["chat:ops"] = LOG["chat:ops"][2:3]
    assert findings(history, LOG, gone=["bob"]) == ["bob on b, chat:ops: got seq 3 after 1"]


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ("lost", "bob on b, chat:ops: got seq 4 after 2"),
        ("twice", "bob on b, chat:ops: got seq 3 after 3"),
        ("other", "bob on b, chat:ops: got Seen(seq=3, key='k3', what='changed'), the log holds"),
        ("invented", "bob on b, chat:ops: got seq 5, the log ends at 4"),
        ("behind", "bob, chat:ops: stands at 3, the log's head is 4"),
        ("between", "amy on b, chat:ops: came back with 1, but had seen 2"),
        ("unlogged", "chat:ops k9: acknowledged at [9], in the log at []"),
        ("two answers", "chat:ops k3: acknowledged at [3, 4], in the log at [3]"),
    ],
)
def test_each_damage_is_named(change: str, finding: str) -> None:
    """With who, where and what."""
    history = good()
    bobs = history.lives["bob"][0].events["chat:ops"] = list(LOG["chat:ops"][1:])
    match change:
        case "lost":
            del bobs[1]
        case "twice":
            bobs.insert(2, bobs[1])
        case "other":
            bobs[1] = bobs[1]._replace(what="changed")
        case "invented":
            bobs.append(Seen(5, "k5", "text 5"))
        case "behind":
            del bobs[2]
        case "between":
            history.lives["amy"][1].after["chat:ops"] = 1
        case "unlogged":
            history.acknowledge("chat:ops", "k9", 9)
        case "two answers":
            history.acknowledge("chat:ops", "k3", 4)
    assert any(line.startswith(finding) for line in findings(history, LOG)), findings(history, LOG)


def test_a_damaged_log_is_named() -> None:
    """A hole in its seqs, a key used twice."""
    assert findings(History(), {"chat:ops": [Seen(1, "k1", ""), Seen(3, "k1", "")]}) == [
        "chat:ops: the log's seqs are not 1 to 2",
        "chat:ops: the log holds a key twice",
    ]
