"""IATA delay codes: which there are, what they are about, and the one form in which they are kept.

- Two digits, the codes of AHM 730 (``31``). Their two-letter equivalents (``GD``) are read, and kept as digits. 00 to 09 are
  an airline's own to define, 06 and 09 as AHM 730 suggests; numbers that it gives no meaning are no codes.
- Two digits and a letter, the subcodes of AHM 731 as the DLA element of a movement message has them (``31C``). What the letter
  means is the airline's, so any is taken.
- Three letters: process, reason, stakeholder, the scheme of AHM 732 (``DBN``). Its tables are IATA's and not public; any three
  letters are taken, and nothing is said of their meaning.

Source: IATA Airport Handling Manual, AHM 730, 731, 732 and 780 (movement message); the numbers and letters as listed at
https://ansperformance.eu/definition/iata-delay-codes/ and https://en.wikipedia.org/wiki/IATA_delay_codes. The words are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

GROUPS: Final[Mapping[str, str]] = {
    "0": "the airline's own",
    "1": "passengers and baggage",
    "2": "cargo and mail",
    "3": "aircraft and ramp handling",
    "4": "technical and equipment",
    "5": "damage, failed systems",
    "6": "flight operations and crew",
    "7": "weather",
    "8": "air traffic and authorities",
    "9": "reactionary and other",
}
"""By first digit."""

CODES: Final[Mapping[str, tuple[str, str]]] = {
    **{f"{own:02}": ("", "defined by the airline") for own in (0, 1, 2, 3, 4, 5, 7, 8)},
    "06": ("OA", "own aircraft at the gate"),
    "09": ("SG", "ground time planned too short"),
    "11": ("PD", "check-in past its deadline"),
    "12": ("PL", "crowded check-in"),
    "13": ("PE", "mistake at check-in"),
    "14": ("PO", "overbooked"),
    "15": ("PH", "boarding, somebody missing"),
    "16": ("PS", "comfort or publicity"),
    "17": ("PC", "meals ordered late or wrongly"),
    "18": ("PB", "sorting of baggage"),
    "19": ("PW", "help with reduced mobility"),
    "21": ("CD", "cargo papers"),
    "22": ("CP", "cargo brought late"),
    "23": ("CC", "cargo accepted late"),
    "24": ("CI", "cargo packed badly"),
    "25": ("CO", "cargo overbooked"),
    "26": ("CU", "late in the warehouse"),
    "27": ("CE", "mail papers or packing"),
    "28": ("CL", "mail brought late"),
    "29": ("CA", "mail accepted late"),
    "31": ("GD", "load sheet or manifest late"),
    "32": ("GL", "loading or unloading"),
    "33": ("GE", "loading equipment"),
    "34": ("GS", "servicing equipment"),
    "35": ("GC", "cleaning"),
    "36": ("GF", "fuelling"),
    "37": ("GB", "catering delivery"),
    "38": ("GU", "unit load devices"),
    "39": ("GT", "ground technical equipment"),
    "41": ("TD", "defect of the aircraft"),
    "42": ("TM", "scheduled maintenance overran"),
    "43": ("TN", "unscheduled maintenance"),
    "44": ("TS", "spare parts"),
    "45": ("TA", "parts flown to another station"),
    "46": ("TC", "changed for technical reasons"),
    "47": ("TL", "no spare aircraft"),
    "48": ("TV", "cabin layout changed"),
    "51": ("DF", "damaged in flight operations"),
    "52": ("DG", "damaged on the ground"),
    "55": ("ED", "departure control system"),
    "56": ("EC", "cargo system"),
    "57": ("EF", "flight plan system"),
    "58": ("EO", "other system"),
    "61": ("FP", "flight plan"),
    "62": ("FF", "operational requirement"),
    "63": ("FT", "cockpit or whole crew late"),
    "64": ("FS", "cockpit crew short"),
    "65": ("FR", "cockpit crew's special request"),
    "66": ("FL", "cabin crew late"),
    "67": ("FC", "cabin crew short"),
    "68": ("FA", "cabin crew's special request"),
    "69": ("FB", "captain's security check"),
    "71": ("WO", "weather at departure"),
    "72": ("WT", "weather at destination"),
    "73": ("WR", "weather on the way or at an alternate"),
    "75": ("WI", "de-icing of the aircraft"),
    "76": ("WS", "clearing the airport of snow, water, sand"),
    "77": ("WG", "ground handling in bad weather"),
    "81": ("AT", "flow control, capacity on the way"),
    "82": ("AX", "flow control, staff or equipment on the way"),
    "83": ("AE", "flow control, destination restricted"),
    "84": ("AW", "flow control, weather at destination"),
    "85": ("AS", "compulsory security"),
    "86": ("AG", "immigration, customs, health"),
    "87": ("AF", "airport facilities"),
    "88": ("AD", "destination restricted"),
    "89": ("AM", "departure airport restricted"),
    "91": ("RL", "waited for another flight's load"),
    "92": ("RT", "through check-in mistake"),
    "93": ("RA", "aircraft came late"),
    "94": ("RS", "cabin crew came late from another flight"),
    "95": ("RC", "crew came late from another flight"),
    "96": ("RO", "operations control's decision"),
    "97": ("MI", "strike within the airline"),
    "98": ("MO", "strike outside the airline"),
    "99": ("MX", "none of these"),
}
"""AHM 730 by number: letters, and what it is about."""

REASONS_MAX: Final = 8
MINUTES_MAX: Final = 5_999
"""99 hours and 59 minutes: four digits in a movement message."""

_BY_LETTERS: Final = {letters: code for code, (letters, _) in CODES.items() if letters}
_CODE_RE: Final = re.compile(r"(\d\d)([A-Z]?)\Z", re.ASCII)
_TRIPLE_RE: Final = re.compile(r"[A-Z]{3}\Z")


class Code(NamedTuple):
    """``code`` as it is kept; ``group`` and ``meaning`` are empty of AHM 732."""

    code: str
    scheme: Literal["AHM 730", "AHM 731", "AHM 732"]
    group: str
    meaning: str


def parse(text: object) -> Code | None:
    """``None`` where it is no code of any of the three schemes. Small letters are as good as large ones."""
    if not isinstance(text, str):
        return None
    text = text.upper()
    if _TRIPLE_RE.match(text) is not None:
        return Code(text, "AHM 732", "", "")
    found = _CODE_RE.match(_BY_LETTERS.get(text, text))
    if found is None or found[1] not in CODES:
        return None
    number, sub = found.groups()
    return Code(number + sub, "AHM 731" if sub else "AHM 730", GROUPS[number[0]], CODES[number][1])
