"""How long to wait before the next attempt to connect: longer each time, and never at the same moment as others."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

FIRST_S = 0.5
LONGEST_S = 30.0
REFUSED_S = 60.0
"""After a refusal that trying again does not mend, such as a wrong token; somebody has to act first."""


@dataclass
class Backoff:
    """Doubles from `first_s` to `longest_s`; each wait is drawn from the upper half of its range."""

    first_s: float = FIRST_S
    longest_s: float = LONGEST_S
    refused_s: float = REFUSED_S
    rng: random.Random = field(default_factory=random.Random)
    _attempts: int = 0

    def next_s(self, *, refused: bool = False) -> float:
        """Seconds to wait after one more failure."""
        if refused:
            return self._jittered(self.refused_s)
        wait_s = min(self.longest_s, self.first_s * 2.0 ** min(self._attempts, 30))
        self._attempts += 1
        return self._jittered(wait_s)

    def reset(self) -> None:
        """A connection held: start over."""
        self._attempts = 0

    def _jittered(self, wait_s: float) -> float:
        return wait_s * (0.5 + 0.5 * self.rng.random())
