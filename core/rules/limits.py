"""The bounds of rules, each with its unit and its reason."""

from __future__ import annotations

from typing import Final

FILE_BYTES_MAX: Final = 1_048_576
"""Of one file of rules."""

RULES_MAX: Final = 500
"""Rules that apply to one tenant, all versions counted: each event is held against those of its stream."""

ID_CHARS_MAX: Final = 48
"""Of a rule's id, so that ``rule:<id>:<step>`` is a timer's name."""

CEL_CHARS_MAX: Final = 1_000
LOOPS_MAX: Final = 2
"""Calls of ``all``, ``exists``, ``exists_one``, ``map``, ``filter`` in one expression: each may multiply the work by the
length of a list."""

INPUT_VALUES_MAX: Final = 20_000
"""JSON values that one evaluation is handed; a seat map of 300 seats has some 3,000."""

INPUT_ITEMS_MAX: Final = 2_000
"""Items of one list or object in them, as two loops over it are four million rounds, about a second."""

ACTIONS_MAX: Final = 16
"""Actions of one rule, each recipient of a notification counted."""

TEXT_CHARS_MAX: Final = 4_000
"""Of a message or a notification as it goes out."""

BODY_BYTES_MAX: Final = 16_384
"""Of a command's or a webhook's body as it goes out."""

VIA_MAX: Final = 8
"""Rules in the chain that led to an event; with as many, no rule acts on it."""

AGAIN_MAX: Final = 1
"""Times a rule may be in that chain and still act."""

MEMORY_BYTES_MAX: Final = 65_536
"""What all rules together remember of a stream, as JSON."""

TRIGGER_BYTES_MAX: Final = 4_096
"""Body of the event that began a wait; a larger one is not remembered."""

FIRING_BYTES_MAX: Final = 16_384
"""Inputs kept of one firing."""

WAITS_MAX: Final = 48
"""Timers of rules in one stream; a stream has 64 in all (`core.flight.timers`)."""

WAIT_MAX_MS: Final = 366 * 86_400_000
"""Of any window, offset or delay."""

MOVED_LEAST_MS: Final = 1_000
"""A wait whose end moves by less stays as it is, so that estimates may be corrected as often as they are."""

LATE_MAX_MS: Final = 86_400_000
"""What was due longer ago than this, when it is first known or its timer fires, is old news and does nothing. Schedules, of
which the next time comes anyhow, run all the same."""
