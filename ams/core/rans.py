"""Interleaved rANS: symbols to 16-bit words and back, many lanes at a time, each symbol under a table of its own.

Asymmetric numeral systems, range variant (J. Duda, arXiv:1311.2540). Lanes are independent coders that share one
sequence of words; a run of symbols is dealt to them in rows, symbol i to lane i modulo their number, so that numpy
works on a whole row at once. An encoder's state begins as `LOW` plus a seed of 16 bits, which the decoder gets back at
the end: so a lane costs one byte more or less, not three. Integers only, so every platform gives the same bytes.

Knows states, words and frequency tables; does not know what the symbols mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ams.errors import CorruptPatchError

Ints = npt.NDArray[np.int64]
Symbols = npt.NDArray[np.uint8]

FREQUENCY_BITS = 12
TOTAL = 1 << FREQUENCY_BITS
"""What the frequencies of a table sum to."""

WORD_BITS = 16
LOW = 1 << WORD_BITS
"""A state is at least this between two symbols, and below `LOW << WORD_BITS`."""

MASK = TOTAL - 1
WORD_MASK = (1 << WORD_BITS) - 1
OVERFLOW_SHIFT = 2 * WORD_BITS - FREQUENCY_BITS
"""A state at or above `frequency << OVERFLOW_SHIFT` has no room for a symbol of that frequency."""


@dataclass(frozen=True, eq=False)
class Tables:
    """Frequencies [K, S], each row summing to `TOTAL`."""

    frequencies: Ints

    @cached_property
    def begins(self) -> Ints:
        """Sum of the frequencies of the symbols before each, [K, S]."""
        return np.cumsum(self.frequencies, axis=1) - self.frequencies

    @cached_property
    def symbol_of_slot(self) -> Symbols:
        """Which symbol holds each of the `TOTAL` slots of each table, [K * TOTAL]."""
        tables, symbols = self.frequencies.shape
        return np.repeat(np.tile(np.arange(symbols, dtype=np.uint8), tables), self.frequencies.ravel())

    @cached_property
    def steps_of_slot(self) -> npt.NDArray[np.uint32]:
        """Frequency of a slot's symbol (upper 16 bits) and place of the slot within it (lower), [K * TOTAL]."""
        packed = ((self.frequencies << 16) - self.begins).astype(np.uint32).ravel()  # modulo 2**32, as the sum below
        slots = np.tile(np.arange(TOTAL, dtype=np.uint32), len(self.frequencies))
        return np.repeat(packed, self.frequencies.ravel()) + slots


@dataclass(frozen=True, eq=False)
class Run:
    """`table[i]` is the table under which symbol i of a run is coded, [n]."""

    tables: Tables
    table: Ints


def encode(
    runs: Sequence[tuple[Run, Symbols]], seeds: npt.NDArray[np.uint16]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint16]]:
    """The states that a decoder starts from, as many as `seeds`, and its words. Every symbol must have a frequency."""
    lanes = len(seeds)
    state = LOW + seeds.astype(np.uint32)
    blocks: list[npt.NDArray[np.uint32]] = []
    for run, symbols in reversed(runs):
        at = run.table * run.tables.frequencies.shape[1] + symbols
        frequency = run.tables.frequencies.ravel().astype(np.uint32).take(at)
        begin = run.tables.begins.ravel().astype(np.uint32).take(at)
        for start in range((len(at) - 1) // lanes * lanes, -1, -lanes):
            f = frequency[start : start + lanes]
            x = state[: len(f)]
            full = ((x >> OVERFLOW_SHIFT) >= f).nonzero()[0]
            if len(full):
                spilled = x[full]
                blocks.append(spilled)  # its upper half is cut off at the end
                x[full] = spilled >> WORD_BITS
            x += x // f * (TOTAL - f)  # with the line below: (x // f << 12) + x % f + begin
            x += begin[start : start + lanes]
    words = np.concatenate(blocks[::-1]) if blocks else np.zeros(0, np.uint32)
    return state, words.astype(np.uint16)


class Decoder:
    """Takes runs of symbols out of states and words, in the order in which they were given to `encode`."""

    def __init__(self, states: npt.NDArray[np.uint32], words: npt.NDArray[np.uint16]) -> None:
        """Raises CorruptPatchError for a state that no encoder leaves."""
        if int(states.min(initial=LOW)) < LOW:
            raise CorruptPatchError(f"a coder's state is below {LOW}")
        self._state = states.astype(np.uint32)
        self._words = words.astype(np.uint32)
        self._used = 0

    def take(self, run: Run) -> Symbols:
        """The symbols of the next run. Raises CorruptPatchError when the words end before."""
        state, words, used = self._state, self._words, self._used
        steps_of_slot, lanes = run.tables.steps_of_slot, len(self._state)
        slots = run.table << FREQUENCY_BITS
        for start in range(0, len(slots), lanes):
            slot = slots[start : start + lanes]
            x = state[: len(slot)]
            slot += x & MASK
            step = steps_of_slot.take(slot)
            x >>= FREQUENCY_BITS
            x *= step >> WORD_BITS
            x += step & WORD_MASK
            hungry = (x < LOW).nonzero()[0]
            count = len(hungry)
            if count:
                fed = words[used : used + count]
                if len(fed) < count:
                    raise CorruptPatchError("the coded words end too soon")
                used += count
                x[hungry] = (x[hungry] << WORD_BITS) | fed
        self._used = used
        return run.tables.symbol_of_slot.take(slots)

    def finish(self) -> npt.NDArray[np.uint16]:
        """The seeds. Raises CorruptPatchError unless every word was used and every lane is back where it began."""
        if self._used != len(self._words) or np.any(self._state >> WORD_BITS != 1):
            raise CorruptPatchError("the coded words do not end where they should")
        return (self._state & WORD_MASK).astype(np.uint16)
