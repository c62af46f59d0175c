"""Numbers below 2**32 as symbols and raw low bits, and frequency tables for the symbols.

The symbols are the numbers 0 to 15, then two per octave: symbol 16 is 16 to 23 and three raw bits, 17 is 24 to 31, 18
is 32 to 47 and four raw bits, and so on. Tables are either of a fixed family of geometric distributions, derived with
integers, or made for one patch. Knows numbers and frequencies; does not know what the numbers mean.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from ams.core.rans import FREQUENCY_BITS, TOTAL, Ints, Symbols
from ams.errors import CorruptPatchError

Bits = npt.NDArray[np.uint8]
"""Bits, one a byte."""

SYMBOLS = 72
DIRECT = 16
"""Symbols that are numbers."""

NUMBER_BITS = 32

RAW_BITS: Ints = np.array([0] * DIRECT + [3 + i // 2 for i in range(SYMBOLS - DIRECT)])
"""How many raw bits follow each symbol, [SYMBOLS]."""

STARTS: Ints = np.cumsum(1 << RAW_BITS) - (1 << RAW_BITS)
"""The smallest number of each symbol, [SYMBOLS]."""

FAMILIES = 128
FIRST_RATIOS = (78_665_070, 148_652_825, 253_857_248, 398_132_549)
"""Floor of 2**32 * exp(-2**((8 - k) / 4)), k = 0 to 3: how fast the first four geometric distributions fall."""

COUNT_BITS = 7
LENGTH_BITS = 4
SIGNIFICANT_BITS = 3
"""Of a frequency in a table that is sent; the most frequent symbol gets what is left of the total."""

REST = 15
"""In place of a frequency's length: this symbol gets the rest."""

_SMALL = 4096
_SYMBOL_OF_SMALL = (np.searchsorted(STARTS, np.arange(_SMALL), side="right") - 1).astype(np.uint8)


def symbols_of(numbers: Ints) -> Symbols:
    """The symbol of each number below 2**32."""
    symbols = _SYMBOL_OF_SMALL.take(numbers, mode="clip")
    large = np.flatnonzero(numbers >= _SMALL)
    symbols[large] = np.searchsorted(STARTS, numbers[large], side="right") - 1
    return symbols


def low_bits(numbers: Ints, symbols: Symbols) -> Bits:
    """The raw bits of some numbers, plane by plane: bit j of all numbers that have more than j, j = 0, 1, ..."""
    planes, bit = [np.zeros(0, np.uint8)], 0
    at = np.flatnonzero(symbols >= DIRECT)
    found = symbols[at]
    left, widths = numbers[at] - STARTS.take(found), RAW_BITS.take(found)
    while len(left):
        planes.append((left >> bit).astype(np.uint8) & np.uint8(1))
        bit += 1
        deeper = (widths > bit).nonzero()[0]
        left, widths = left[deeper], widths[deeper]
    return np.concatenate(planes)


class RawBits:
    """Reads raw bits; the first is the lowest of the first byte."""

    def __init__(self, data: bytes) -> None:
        self._bits = unpacked(data)
        self._used = 0
        self._seeds = 0

    def put_first(self, seeds: bytes) -> None:
        """The bits of `seeds` come next, and after them what is left."""
        self._bits = np.concatenate([unpacked(seeds), self._bits[self._used :]])
        self._used, self._seeds = 0, 8 * len(seeds)

    def take(self, count: int) -> Bits:
        """The next bits, one a byte. Raises CorruptPatchError when there are not as many."""
        if count > len(self._bits) - self._used:
            raise CorruptPatchError("the raw bits end too soon")
        self._used += count
        return self._bits[self._used - count : self._used]

    def number(self, bits: int) -> int:
        """The next bits as a number, lowest first."""
        return sum(int(bit) << place for place, bit in enumerate(self.take(bits)))

    def numbers_of(self, symbols: Symbols) -> Ints:
        """The numbers of some symbols, with the raw bits that they need."""
        numbers: Ints = STARTS.take(symbols)
        at = np.flatnonzero(symbols >= DIRECT)
        widths, bit = RAW_BITS.take(symbols[at]), 0
        while len(at):
            numbers[at] += self.take(len(at)).astype(np.int64) << bit
            bit += 1
            deeper = (widths > bit).nonzero()[0]
            at, widths = at[deeper], widths[deeper]
        return numbers

    def finish(self) -> None:
        """Raises CorruptPatchError when more is left than zeros, in seeds or up to the end of a byte."""
        if len(self._bits) - max(self._used, self._seeds) > 7 or self._bits[self._used :].any():
            raise CorruptPatchError("extra data after the raw bits")


def packed(bits: Bits) -> bytes:
    """Bits as bytes that `RawBits` reads."""
    return np.packbits(bits, bitorder="little").tobytes()


def unpacked(data: bytes) -> Bits:
    """All bits of some bytes."""
    return np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")


@cache
def ratios() -> tuple[int, ...]:
    """How fast each family falls, times 2**32: the square is the one four families before, rounded."""
    found = list(FIRST_RATIOS)
    while len(found) < FAMILIES:
        found.append(math.isqrt(found[-4] << 32))
    return tuple(found)


@cache
def family_frequencies() -> Ints:
    """Frequencies of all families, [FAMILIES, SYMBOLS]: geometric, at least 1 for every symbol."""
    powers = np.zeros((NUMBER_BITS, FAMILIES), np.uint64)
    powers[0] = ratios()
    for bit in range(1, NUMBER_BITS):
        powers[bit] = powers[bit - 1] * powers[bit - 1] >> np.uint64(32)
    one = np.uint64((1 << 32) - 1)
    tail = np.full(FAMILIES, one)
    begins = np.full((SYMBOLS + 1, FAMILIES), TOTAL, np.int64)
    for symbol in range(SYMBOLS):
        begins[symbol] = symbol + ((one - tail) * np.uint64(TOTAL - SYMBOLS) >> np.uint64(32)).astype(np.int64)
        tail = tail * powers[RAW_BITS[symbol]] >> np.uint64(32)
    frequencies: Ints = np.diff(begins, axis=0).T.copy()
    return frequencies


def expected_family(changed: Ints, sizes: Ints) -> Ints:
    """The last family in which a gap of 0 is at least as likely as a change of a weight, [T]."""
    likely = ((1 << 32) - np.array(ratios(), np.int64)).astype(np.uint64)
    at_least = likely * sizes[:, None].astype(np.uint64) >= (changed.astype(np.uint64) << np.uint64(32))[:, None]
    last: Ints = np.maximum(at_least.sum(axis=1) - 1, 0)
    return last


def tables_of(counts: Ints) -> Ints:
    """Frequencies for histograms, both [K, SYMBOLS], as `write_table` can write them; 0 where nothing was counted."""
    each = np.arange(len(counts))
    most = counts.argmax(axis=1)
    found = np.maximum(counts * TOTAL // np.maximum(counts.sum(axis=1, keepdims=True), 1), counts > 0)
    found[each, most] = 0
    found = _rounded(found)
    for row in np.flatnonzero(found.sum(axis=1) >= TOTAL):  # when many were rounded up
        while found[row].sum() >= TOTAL:
            largest = found[row].argmax()
            found[row, largest] = _rounded(found[row, largest] - (found[row, largest] >> SIGNIFICANT_BITS) - 1)
    found[each, most] = TOTAL - found.sum(axis=1)
    return found


def table_bits(tables: Ints) -> Ints:
    """How many bits `write_table` takes for each of some tables, [K]; the rest counted as any frequency."""
    used = SYMBOLS - (tables[:, ::-1] > 0).argmax(axis=1)
    mantissas = np.clip(_lengths(tables) - 1, 0, SIGNIFICANT_BITS - 1).sum(axis=1)
    bits: Ints = COUNT_BITS + LENGTH_BITS * used + mantissas
    return bits


def write_table(frequencies: Ints) -> Bits:
    """A table as bits: how many symbols, and of each the length of its frequency and its leading bits."""
    used = int(np.flatnonzero(frequencies)[-1]) + 1
    odd = np.flatnonzero(frequencies != _rounded(frequencies))
    rest = int(odd[0]) if len(odd) else int(frequencies.argmax())  # `tables_of` leaves one odd one at most
    bits = _bits(used, COUNT_BITS)
    for symbol, frequency in enumerate(frequencies[:used].tolist()):
        if symbol == rest:
            bits += _bits(REST, LENGTH_BITS)
            continue
        length = frequency.bit_length()
        mantissa = min(max(length - 1, 0), SIGNIFICANT_BITS - 1)
        bits += _bits(length, LENGTH_BITS) + _bits(frequency >> max(length - 1 - mantissa, 0), mantissa)
    return np.array(bits, np.uint8)


def read_table(bits: RawBits) -> Ints:
    """The frequencies of a table, [SYMBOLS], from its bits. Raises CorruptPatchError."""
    used = bits.number(COUNT_BITS)
    if used > SYMBOLS:
        raise CorruptPatchError(f"a table of {used} symbols, there are {SYMBOLS}")
    frequencies = np.zeros(SYMBOLS, np.int64)
    rest = -1
    for symbol in range(used):
        length = bits.number(LENGTH_BITS)
        if length == REST and rest < 0:
            rest = symbol
        elif length > FREQUENCY_BITS:
            raise CorruptPatchError("a table's frequency is longer than 12 bits, or a second one takes the rest")
        elif length:
            mantissa = min(length - 1, SIGNIFICANT_BITS - 1)
            frequencies[symbol] = ((1 << mantissa) | bits.number(mantissa)) << (length - 1 - mantissa)
    left = TOTAL - int(frequencies.sum())
    if rest < 0 or left < 1:
        raise CorruptPatchError("a table's frequencies do not sum to 4096")
    frequencies[rest] = left
    return frequencies


def _bits(number: int, count: int) -> list[int]:
    """The lowest bits of a number, lowest first."""
    return [(number >> place) & 1 for place in range(count)]


_LENGTH_OF = np.array([number.bit_length() for number in range(TOTAL + 1)])


def _lengths(frequencies: Ints) -> Ints:
    """How many bits each frequency has."""
    lengths: Ints = _LENGTH_OF.take(frequencies)
    return lengths


def _rounded(frequencies: Ints) -> Ints:
    """The nearest numbers that have few significant bits."""
    drop = np.maximum(_lengths(frequencies) - SIGNIFICANT_BITS, 0)
    rounded: Ints = ((frequencies + ((1 << drop) >> 1)) >> drop) << drop
    return rounded
