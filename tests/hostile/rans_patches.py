"""Hostile patches of entropy coder 2, for the student of `patches`: each differs from a sound one in one respect.

The sound one is written number by number, so that what no encoder would write can be written too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ams.core.rans import Run, Tables, encode
from ams.core.rans_body import HEAD
from ams.core.rans_numbers import (
    COUNT_BITS,
    LENGTH_BITS,
    REST,
    SYMBOLS,
    expected_family,
    family_frequencies,
    low_bits,
    packed,
    symbols_of,
)
from tests.hostile import patches

HUGE = (1 << 32) - 1


def bits(*fields: tuple[int, int]) -> bytes:
    """Numbers of so many bits each, lowest bit first."""
    return packed(np.array([(number >> place) & 1 for number, count in fields for place in range(count)], np.uint8))


def table(*lengths: int, used: int | None = None) -> bytes:
    """A table as it is sent, of frequencies of one bit (or none, or the rest)."""
    return bits((len(lengths) if used is None else used, COUNT_BITS), *((length, LENGTH_BITS) for length in lengths))


def patch(
    *,
    exponent: int | None = None,
    lanes: int = 1,
    gap_tables: int = 0,
    value_tables: int = 0,
    step_base: int = 0,
    value_base: int = 20,
    families: Sequence[int] = (20, 20, 20, 20),
    tables: bytes = b"",
    table_bytes: int | None = None,
    counts: Sequence[int] = (2, 0),
    columns: Sequence[int] = (0, 0, 0),
    numbers: Sequence[int] = (1, 0, 0, 1),
    more_words: int = 0,
    claimed_words: int = 0,
    seed: int = 0,
    state: int | None = None,
    raw_tail: bytes = b"",
    cut: int = 0,
    count: int = 2,
) -> bytes:
    """A patch; without arguments a sound one: weight 1 grows by one, weight 2 shrinks by one."""
    runs, raw = [], []
    changed = sum(number > 0 for number in counts)
    gap_family = int(expected_family(np.array(counts[:1]), np.array([patches.LAYOUT.parameters[0].size]))[0])
    each = (len(counts), changed, len(numbers) // 2)
    for part, which, size in ((counts, [0], each[0]), (columns, [1, 2, 3], each[1]), (numbers, [4, 5], each[2])):
        values = np.array(part, np.int64)
        found = symbols_of(values)
        known = [*(family if family < 128 else 0 for family in families), gap_family, value_base % 128]
        frequencies = family_frequencies()[[known[index] for index in which]]
        runs.append((Run(Tables(frequencies), np.repeat(np.arange(len(which)), size)), found))
        raw.append(low_bits(values, found))
    seeds = np.frombuffer(packed(raw[2][: 16 * lanes]).ljust(2 * lanes, b"\0"), "<u2") | np.uint16(seed)
    states, words = encode(runs, seeds)
    words = np.append(words, np.zeros(more_words, np.uint16))
    if state is not None:
        states[0] = state
    head = HEAD.pack(
        lanes.bit_length() - 1 if exponent is None else exponent, gap_tables, value_tables, step_base, value_base,
        bytes(families), len(tables) if table_bytes is None else table_bytes, len(words) + claimed_words,
    )  # fmt: skip
    body = head + tables + states.astype("<u4").tobytes() + words.astype("<u2").tobytes()
    body += packed(np.concatenate([*raw[:2], raw[2][16 * lanes :]])) + raw_tail
    return patches.patch(coder=2, count=count, sections=[body[: len(body) - cut]])


SOUND = patch()
FULL_TABLE = table(*[1] * (SYMBOLS - 1), REST)

CORRUPT: dict[str, bytes] = {
    "nothing after the header": patches.patch(coder=2, sections=[]),
    "half a head": patches.patch(coder=2, sections=[bytes(HEAD.size - 1)]),
    "a body for no changes": patches.patch(coder=2, count=0, sections=[b"\0"]),
    "only zeros": patches.patch(coder=2, sections=[bytes(200)]),
    "only ones": patches.patch(coder=2, sections=[b"\xff" * 200]),
    "the sections of coder 1": patches.patch(
        coder=2,
        sections=[patches.section(patches.STEPS), patches.section(patches.GAPS), patches.section(patches.PLANE)],
    ),
    "the body of coder 2 as coder 1": SOUND[:5] + b"\1" + SOUND[6:],
    "2**16 lanes": patch(exponent=16),
    "2**255 lanes": patch(exponent=255),
    "more lanes than states": patch(exponent=15),
    "fewer lanes than states": patch(lanes=4, exponent=1),
    "too many tables": patch(gap_tables=33, tables=FULL_TABLE * 33),
    "tables that are not there": patch(gap_tables=1),
    "tables beyond the end": patch(gap_tables=1, table_bytes=65_535),
    "tables that nobody announced": patch(tables=FULL_TABLE),
    "a table of too many symbols": patch(value_tables=1, tables=table(*[1] * 72, REST)),
    "a table of no symbols": patch(value_tables=1, tables=table()),
    "a table without a rest": patch(value_tables=1, tables=table(1, 1)),
    "a table with two rests": patch(value_tables=1, tables=table(REST, REST)),
    "a table whose frequencies are too long": patch(value_tables=1, tables=table(REST, 13)),
    "a table that sums to more": patch(
        value_tables=1,
        tables=bits((3, COUNT_BITS), (REST, LENGTH_BITS), (12, LENGTH_BITS), (3, 2), (12, LENGTH_BITS), (3, 2)),
    ),
    "a table that leaves nothing for the rest": patch(
        value_tables=1,
        tables=bits((3, COUNT_BITS), (REST, LENGTH_BITS), (12, LENGTH_BITS), (0, 2), (12, LENGTH_BITS), (0, 2)),
    ),
    "a cut table": patch(value_tables=1, tables=FULL_TABLE[:-4]),
    "bits after the tables": patch(value_tables=1, tables=table(REST) + b"\0"),
    "a family beyond the last": patch(families=(20, 128, 20, 20)),
    "a value family beyond the last": patch(value_base=200),
    "a step base beyond the last": patch(step_base=25),
    "four billion words": patch(claimed_words=HUGE - 10),
    "one word more than there is": patch(claimed_words=1),
    "one word less than there is": patch(more_words=1, claimed_words=-1),
    "a word that is not used": patch(more_words=1),
    "more words than numbers": patch(more_words=100),
    "a state below the lowest": patch(state=65_535),
    "a state of zero": patch(state=0),
    "another state": patch(state=HUGE),
    "a seed where no raw bits are": patch(seed=1),
    "raw bits that nobody needs": patch(raw_tail=b"\0"),
    "a lot of raw bits that nobody needs": patch(raw_tail=bytes(100_000)),
    "raw bits that are missing": patch(numbers=(590, 0, (1 << 20) - 1, 1), cut=1),
    "fewer changes than the header says": patch(counts=(1, 0), numbers=(1, 0), count=2),
    "more changes than the header says": patch(count=1),
    "more changes than the tensor has weights": patch(counts=(601, 0), count=601, numbers=(0,) * 1202),
    "four billion changes in a tensor": patch(counts=(HUGE, 0)),
    "a negative step": patch(columns=(1, 0, 0)),
    "a step that is too large": patch(columns=(50, 0, 0)),
    "a step of four billion": patch(columns=(HUGE, 0, 0)),
    "a gap family below the first": patch(columns=(0, 301, 0)),
    "a gap family beyond the last": patch(columns=(0, 300, 0)),
    "a value family of two billion": patch(columns=(0, 0, HUGE - 1)),
    "a position beyond its tensor": patch(numbers=(1, 598, 0, 1)),
    "a position four billion beyond its tensor": patch(numbers=(HUGE, HUGE, 0, 1)),
    "a value beyond the grid": patch(numbers=(1, 0, 1 << 26, 1)),
    "the largest value": patch(numbers=(1, 0, HUGE, 1)),
    "a value beyond the grid by its step": patch(columns=(48, 0, 0), numbers=(1, 0, 2, 1)),
}
