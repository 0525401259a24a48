"""The outcome of a move: what became of each entry, counted, with a line for each that was left.

An entry is reported as moved only after the destination has it on the disk.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import TextIO

MOVED = "moved"
UNCHANGED = "already there"
NEWER = "newer at the destination, kept"
DIFFERENT = "different at the destination, kept (see --overwrite)"
EXPIRED = "expired"
GONE = "removed by another program during the move"
PICKLED = "pickled, left (see --pickle)"
UNSUPPORTED = "of a type that the destination's codec refuses, left"
UNREADABLE = "unreadable, left"
CUT = "with a key that the source may have cut short, moved"

_ORDER = (
    MOVED,
    UNCHANGED,
    NEWER,
    DIFFERENT,
    EXPIRED,
    GONE,
    PICKLED,
    UNSUPPORTED,
    UNREADABLE,
    CUT,
)
# The command fails if it left these. What another program stored later at the destination is right.
_LEFT = (DIFFERENT, PICKLED, UNSUPPORTED, UNREADABLE)


class Outcome:
    """Counts entries by what became of them; describes those that were left to ``log``."""

    def __init__(self, log: TextIO | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self._log = log if log is not None else sys.stderr

    def count(self, what: str, name: str = "", reason: str = "") -> None:
        """Counts an entry; prints its name and the reason if there is one."""
        self.counts[what] += 1
        if reason:
            print(f"{name}: {reason}", file=self._log)

    def summary(self) -> str:
        """Returns one line for each count that is not 0; always one for what was moved."""
        rows = [(self.counts[what], what) for what in _ORDER if self.counts[what] or what == MOVED]
        width = max(len(str(count)) for count, _ in rows)
        return "\n".join(f"{count:>{width}} {what}" for count, what in rows)

    def exit_code(self) -> int:
        """Returns 1 if entries were left that are not at the destination, else 0."""
        return 1 if any(self.counts[what] for what in _LEFT) else 0
