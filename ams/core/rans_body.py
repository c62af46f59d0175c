"""Entropy coder 2 of patches: interleaved rANS under tables of each tensor. The bytes after a patch's header.

    offset  size  what
    0       1     lanes are 2**this, 0 to 15
    1       1     G, number of tables for gaps that are sent
    2       1     V, number of tables for values that are sent
    3       1     step base
    4       1     value family base
    5       4     families of the four columns: counts, steps, gap models, value models
    9       2     X, bytes of the tables that are sent
    11      4     W, number of words
    15      X     these tables, first those of gaps (`rans_numbers.read_table`)
    15+X    ...   states u32 each, W words u16 each, raw bits to the end

A patch that changes nothing has no body. Coded are three runs of numbers: how many weights change in each tensor;
of each tensor with changes, column by column, its step, gap model and value model; then all gaps and all values.
A gap counts the unchanged weights since the last change of its tensor; a value is twice (size minus 1) of a quotient,
plus 1 where its sign differs from the quotient's before.

The decoder checks every length, count and range before it allocates or writes. Does not know a patch's header.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ams.core.layout import Layout
from ams.core.rans import Decoder, Ints, Run, Symbols, Tables, encode
from ams.core.rans_models import Choice, cheapest_families, choose
from ams.core.rans_numbers import (
    FAMILIES,
    SYMBOLS,
    RawBits,
    expected_family,
    family_frequencies,
    low_bits,
    packed,
    read_table,
    symbols_of,
    write_table,
)
from ams.core.steps import MAX_STEP, SteppedDelta
from ams.errors import CorruptPatchError

HEAD = struct.Struct("<5B4sHI")
SEED_BITS = 16
NO_BITS = np.zeros(0, np.uint8)
MAX_LANES_EXPONENT = 15
MAX_ROWS = 1 << 14
"""Numbers of a lane: bounds how long a decoder runs."""

MAX_OWN = 32
"""Tables that are sent, of gaps and of values each."""

NUMBERS_PER_LANE = 160
"""An encoder takes as many lanes as get this many numbers each: a lane costs one or two bytes, a row a fixed time."""

MAX_ENCODER_LANES_EXPONENT = 11


def encode_body(change: SteppedDelta, layout: Layout) -> bytes:
    """The bytes; the same change always gives the same bytes, on every platform."""
    if not len(change.positions):
        return b""
    sizes = _sizes(layout)
    changed = np.flatnonzero(change.counts)
    counts = change.counts[changed]
    numbers = np.concatenate([_gaps(change, layout, changed), _values(change.quotients)])
    symbols = symbols_of(numbers)
    lanes = 1 << (exponent := _lanes_exponent(4 * len(sizes) + len(numbers)))

    histograms = _histograms(symbols, np.tile(counts, 2))
    of_gaps, of_values = histograms[: len(changed)], histograms[len(changed) :]
    steps = change.steps[changed]
    step_base = int(np.median(steps))
    (value_base,) = cheapest_families(of_values.sum(axis=0, keepdims=True))
    expected = expected_family(counts, sizes[changed]), np.full(len(changed), value_base)
    gaps, values = choose(of_gaps, expected[0]), choose(of_values, expected[1])
    columns = [
        change.counts,
        _zigzag(steps - step_base),
        _column(gaps, expected[0]),
        _column(values, expected[1]),
    ]
    column_symbols = [symbols_of(column) for column in columns]
    families = cheapest_families(np.array([np.bincount(column, minlength=SYMBOLS) for column in column_symbols]))
    side, side_symbols = np.concatenate(columns[1:]), np.concatenate(column_symbols[1:])
    raw = low_bits(numbers, symbols)
    seeds = np.frombuffer(packed(raw[: SEED_BITS * lanes]).ljust(2 * lanes, b"\0"), "<u2")
    raw = np.concatenate(
        [low_bits(columns[0], column_symbols[0]), low_bits(side, side_symbols), raw[SEED_BITS * lanes :]]
    )
    states, words = encode(
        [
            (_family_run(families[:1], len(sizes)), column_symbols[0]),
            (_family_run(families[1:], len(changed)), side_symbols),
            (_model_run(gaps, values, counts), symbols),
        ],
        seeds,
    )
    tables = packed(np.concatenate([NO_BITS, *(write_table(t) for choice in (gaps, values) for t in choice.own)]))
    head = HEAD.pack(
        exponent, len(gaps.own), len(values.own), step_base, value_base, bytes(families), len(tables), len(words)
    )
    return b"".join([head, tables, states.astype("<u4").tobytes(), words.astype("<u2").tobytes(), packed(raw)])


def _lanes_exponent(numbers: int) -> int:
    """How many lanes an encoder takes, as a power of two."""
    sensible = min(MAX_ENCODER_LANES_EXPONENT, (numbers // NUMBERS_PER_LANE).bit_length() - 1)
    return max(0, sensible, (numbers // MAX_ROWS).bit_length())


def decode_body(body: bytes, count: int, layout: Layout) -> SteppedDelta:
    """The change of `count` weights that some bytes hold. Raises CorruptPatchError."""
    sizes = _sizes(layout)
    if not count:
        if body:
            raise CorruptPatchError("a patch that changes nothing has nothing after its header")
        nothing = np.zeros(0, np.int64)
        return SteppedDelta(nothing, np.zeros(len(sizes), np.int64), np.zeros(len(sizes), np.int64), nothing)
    parts = _Parts.of(body, most=4 * len(sizes) + 2 * count)
    decoder, raw = Decoder(parts.states, parts.words), RawBits(parts.raw)

    counts = raw.numbers_of(decoder.take(_family_run(parts.families[:1], len(sizes))))
    if np.any(counts > sizes) or int(counts.sum()) != count:
        raise CorruptPatchError(f"the tensors change in {int(counts.sum())} weights, the header says {count}")
    changed = np.flatnonzero(counts)
    columns = raw.numbers_of(decoder.take(_family_run(parts.families[1:], len(changed)))).reshape(3, len(changed))
    steps = np.zeros(len(sizes), np.int64)
    steps[changed] = parts.step_base + _unzigzag(columns[0])
    if steps.min() < 0 or steps.max() > MAX_STEP:
        raise CorruptPatchError(f"a step of 2**{int(steps.max())}, or below 1; the largest is 2**{MAX_STEP}")

    expected = expected_family(counts[changed], sizes[changed])
    gaps = _choice(columns[1], parts.gap_tables, expected)
    values = _choice(columns[2], parts.value_tables, np.full(len(changed), parts.value_base))

    symbols = decoder.take(_model_run(gaps, values, counts[changed]))
    raw.put_first(decoder.finish().astype("<u2").tobytes())
    numbers = raw.numbers_of(symbols)
    raw.finish()
    positions = _positions(numbers[:count], counts, sizes, layout)
    return SteppedDelta(positions, counts, steps, _quotients(numbers[count:]))


@dataclass(frozen=True, eq=False)
class _Parts:
    """The parts of a body, cut where its head says, within what its length allows."""

    step_base: int
    value_base: int
    families: list[int]
    gap_tables: Ints
    value_tables: Ints
    states: npt.NDArray[np.uint32]
    words: npt.NDArray[np.uint16]
    raw: bytes

    @classmethod
    def of(cls, body: bytes, *, most: int) -> _Parts:
        """The parts of a body that holds up to `most` numbers. Raises CorruptPatchError."""
        if len(body) < HEAD.size:
            raise CorruptPatchError(f"a body has at least {HEAD.size} bytes, got {len(body)}")
        exponent, gap_count, value_count, step_base, value_base, families, table_bytes, words = HEAD.unpack_from(body)
        if exponent > MAX_LANES_EXPONENT or most >> exponent > MAX_ROWS:
            raise CorruptPatchError(f"2**{exponent} lanes for up to {most} numbers")
        if max(gap_count, value_count) > MAX_OWN:
            raise CorruptPatchError(f"{gap_count} and {value_count} tables, at most {MAX_OWN} are taken")
        if max(*families, value_base) >= FAMILIES or step_base > MAX_STEP:
            raise CorruptPatchError("a family or step of the head is beyond the last one")
        states_at = HEAD.size + table_bytes
        words_at = states_at + (4 << exponent)
        raw_at = words_at + 2 * words
        if words > most or raw_at > len(body) or len(body) - raw_at > 4 * most:
            raise CorruptPatchError(f"{len(body)} bytes for {words} words of up to {most} numbers")
        bits = RawBits(body[HEAD.size : states_at])
        own = np.array([read_table(bits) for _ in range(gap_count + value_count)], np.int64).reshape(-1, SYMBOLS)
        bits.finish()
        return cls(
            step_base,
            value_base,
            list(families),
            own[:gap_count],
            own[gap_count:],
            np.frombuffer(body, "<u4", 1 << exponent, states_at),
            np.frombuffer(body, "<u2", words, words_at),
            body[raw_at:],
        )


def _sizes(layout: Layout) -> Ints:
    return np.array([parameter.size for parameter in layout.parameters], np.int64)


def _family_run(families: list[int], each: int) -> Run:
    """Columns of `each` numbers, every column under one family."""
    return Run(Tables(family_frequencies()[families]), np.repeat(np.arange(len(families)), each))


def _model_run(gaps: Choice, values: Choice, counts: Ints) -> Run:
    """All gaps, then all values, each under the model of its tensor. Only tables that are used are built."""
    tables: list[Ints] = []
    at: list[Ints] = []
    for choice in (gaps, values):
        used, place = np.unique(choice.of_tensor, return_inverse=True)
        at.append(place + sum(len(table) for table in tables))
        own = used[used < len(choice.own)]
        tables += [choice.own[own], family_frequencies()[used[len(own) :] - len(choice.own)]]
    return Run(Tables(np.concatenate(tables)), np.repeat(np.concatenate(at), np.tile(counts, 2)))


def _histograms(symbols: Symbols, counts: Ints) -> Ints:
    """How often each symbol comes in pieces of these lengths, [len(counts), SYMBOLS]."""
    cells = np.repeat(np.arange(len(counts)) * SYMBOLS, counts) + symbols
    return np.bincount(cells, minlength=len(counts) * SYMBOLS).reshape(-1, SYMBOLS)


def _gaps(change: SteppedDelta, layout: Layout, changed: Ints) -> Ints:
    """Unchanged weights between each position and the one before it in its tensor, or the tensor's begin, [N]."""
    gaps = np.diff(change.positions, prepend=-1) - 1
    first = (np.cumsum(change.counts) - change.counts)[changed]
    gaps[first] = change.positions[first] - layout.starts[changed]
    return gaps


def _positions(gaps: Ints, counts: Ints, sizes: Ints, layout: Layout) -> Ints:
    """Positions of gaps, [N]. Raises CorruptPatchError when a tensor's last one is beyond it."""
    ends = np.cumsum(gaps + 1)
    last = np.append(0, ends)[np.cumsum(counts)]
    before = np.append(0, last[:-1])
    if np.any(last - before > sizes):
        raise CorruptPatchError("a position is beyond its tensor")
    positions: Ints = ends + np.repeat(layout.starts - before - 1, counts)
    return positions


def _values(quotients: Ints) -> Ints:
    turned = np.diff(quotients < 0, prepend=False)
    return 2 * (np.abs(quotients) - 1) + turned


def _quotients(values: Ints) -> Ints:
    turns = np.cumsum(values & 1)
    quotients: Ints = ((values >> 1) + 1) * (1 - 2 * (turns & 1))
    return quotients


def _zigzag(numbers: Ints) -> Ints:
    return (numbers << 1) ^ (numbers >> 63)


def _unzigzag(numbers: Ints) -> Ints:
    return (numbers >> 1) ^ -(numbers & 1)


def _column(choice: Choice, expected: Ints) -> Ints:
    """Models as numbers: an own one as itself, a family by its difference to the expected one, [A]."""
    own = len(choice.own)
    return np.where(choice.of_tensor < own, choice.of_tensor, own + _zigzag(choice.of_tensor - own - expected))


def _choice(column: Ints, tables: Ints, expected: Ints) -> Choice:
    """The models of a column of numbers. Raises CorruptPatchError for a family that there is not."""
    own = len(tables)
    family = expected + _unzigzag(column - own)
    is_own = column < own
    if np.any(~is_own & ((family < 0) | (family >= FAMILIES))):
        raise CorruptPatchError("a family is beyond the last one")
    return Choice(tables, np.where(is_own, column, own + family))
