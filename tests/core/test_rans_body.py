"""Coder 2 of patches: every student and change survives it, in few bytes; its tables are those of the protocol."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams.core import rans_numbers
from ams.core.delta import Delta
from ams.core.grid import LIMIT
from ams.core.layout import Layout
from ams.core.rans import TOTAL
from ams.core.rans_body import HEAD, decode_body, encode_body
from ams.core.rans_models import choose
from ams.core.rans_numbers import (
    FAMILIES,
    RAW_BITS,
    STARTS,
    SYMBOLS,
    RawBits,
    family_frequencies,
    low_bits,
    packed,
    read_table,
    symbols_of,
    table_bits,
    tables_of,
    write_table,
)
from ams.core.steps import SteppedDelta
from tests.core.students import PROPERTY, layout_of


def round_trip(layout: Layout, positions: np.ndarray, values: np.ndarray) -> int:
    """Checks that a change survives, and says how many bytes it took."""
    change = SteppedDelta.of(Delta(positions.astype(np.int64), values.astype(np.int64)), layout)
    body = encode_body(change, layout)
    decoded = decode_body(body, len(positions), layout).delta()
    assert np.array_equal(decoded.positions, positions)
    assert np.array_equal(decoded.values, values)
    return len(body)


def entropy_bytes(layout: Layout, change: SteppedDelta) -> float:
    """Size times entropy of the histogram of quotients, zeros included, summed over tensors."""
    total = 0.0
    ends = np.cumsum(change.counts)
    for slot, count, end in zip(layout.slots, change.counts, ends, strict=True):
        seen = np.unique(change.quotients[end - count : end], return_counts=True)[1]
        seen = np.append(seen, slot.stop - slot.start - count)
        share = seen[seen > 0] / seen.sum()
        total -= (slot.stop - slot.start) * float((share * np.log2(share)).sum()) / 8
    return total


@pytest.mark.parametrize("value", [1, -1, 2 * LIMIT - 1, 1 - 2 * LIMIT, 1 << 24])
def test_a_student_of_one_weight(value: int) -> None:
    layout = layout_of(1)
    assert round_trip(layout, np.zeros(0), np.zeros(0)) == 0
    assert round_trip(layout, np.array([0]), np.array([value])) < 40


def test_one_change_in_a_large_student() -> None:
    assert round_trip(layout_of(100_000, 1_000_000, 7), np.array([1_099_999]), np.array([-3])) < 48


@pytest.mark.parametrize("bits", [1, 8, 16, 24])
def test_all_weights_change(bits: int) -> None:
    layout = layout_of(20_000, 1, 300)
    sizes = np.random.default_rng(bits).integers(1, 1 << bits, layout.size)
    values = np.where(np.arange(layout.size) % 3, sizes, -sizes)
    assert round_trip(layout, np.arange(layout.size), values) < layout.size * (bits + 1) / 8 * 1.02 + 256


def test_four_hundred_tensors_and_a_thousand_changes() -> None:
    rng = np.random.default_rng(2)
    layout = layout_of(*rng.integers(1, 20_000, 400).tolist())
    positions = np.sort(rng.choice(layout.size, 1_000, replace=False))
    took = round_trip(layout, positions, rng.choice([-2, -1, 1, 2], 1_000) << rng.integers(8, 12, 1_000))
    assert took < 2_400  # of which 1,300 are bits of positions


def test_a_thousand_changes_carry_few_states() -> None:
    rng = np.random.default_rng(3)
    layout = layout_of(15_000, 5_000)
    positions = np.sort(rng.choice(layout.size, 1_000, replace=False))
    change = SteppedDelta.of(Delta(positions, rng.choice([-1, 1], 1_000)), layout)
    body = encode_body(change, layout)
    assert 4 << HEAD.unpack_from(body)[0] <= 48
    assert len(body) < 1.08 * entropy_bytes(layout, change) + 64


@pytest.mark.parametrize("spread", [0.4, 1.5, 6.0, 80.0])
def test_it_stays_near_the_entropy(spread: float) -> None:
    rng = np.random.default_rng(4)
    layout = layout_of(*[2_000] * 30, 200_000)
    dense = np.rint(rng.laplace(0, spread, layout.size)) * (rng.random(layout.size) < 0.1)
    positions = np.flatnonzero(dense)
    values = dense[positions].astype(np.int64)
    change = SteppedDelta.of(Delta(positions, values), layout)
    assert round_trip(layout, positions, values) < 1.08 * entropy_bytes(layout, change) + 256


@PROPERTY
@given(
    st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1), st.integers(1, 25)), min_size=1, max_size=12),
    st.integers(0, 2**32 - 1),
)
def test_any_change_survives(tensors: list[tuple[int, float, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    layout = layout_of(*(size for size, _, _ in tensors))
    dense = [
        rng.integers(1 - (1 << bits), 1 << bits, size) * (rng.random(size) < share) for size, share, bits in tensors
    ]
    changes = np.concatenate(dense)
    positions = np.flatnonzero(changes)
    round_trip(layout, positions, changes[positions])


def test_symbols_are_consecutive_and_reach_32_bits() -> None:
    assert SYMBOLS == len(STARTS) == len(RAW_BITS) == 72
    assert STARTS[:19].tolist() == [*range(17), 24, 32]
    assert int(STARTS[-1]) + (1 << int(RAW_BITS[-1])) == 1 << 32


@PROPERTY
@given(st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 40) | st.integers(4_000, 4_200)))
def test_numbers_survive_as_symbols_and_raw_bits(found: list[int]) -> None:
    numbers = np.array(found, np.int64)
    symbols = symbols_of(numbers)
    raw = RawBits(packed(low_bits(numbers, symbols)))
    assert np.array_equal(raw.numbers_of(symbols), numbers)
    raw.finish()


def test_families_are_those_of_the_protocol() -> None:
    """The derivation of docs/protocol.md once more, in plain integers."""
    ratio = list(rans_numbers.FIRST_RATIOS)
    for family in range(FAMILIES):
        if family >= 4:
            wanted = ratio[family - 4] << 32
            root = 1 << 32
            while root * root > wanted:
                root = (root + wanted // root) // 2
            ratio.append(root)
        power = [ratio[family]]
        for _ in range(31):
            power.append(power[-1] * power[-1] >> 32)
        tail, begins = (1 << 32) - 1, []
        for symbol in range(72):
            begins.append(symbol + (((1 << 32) - 1 - tail) * (4096 - 72) >> 32))
            tail = tail * power[RAW_BITS[symbol]] >> 32
        assert family_frequencies()[family].tolist() == np.diff([*begins, 4096]).tolist()


def test_every_family_can_code_everything() -> None:
    assert (family_frequencies() >= 1).all()
    assert (family_frequencies().sum(axis=1) == TOTAL).all()


@PROPERTY
@given(st.lists(st.integers(0, 1) | st.integers(0, 10**7), min_size=1, max_size=SYMBOLS).filter(any))
def test_tables_survive_their_bits(found: list[int]) -> None:
    counts = np.zeros(SYMBOLS, np.int64)
    counts[: len(found)] = found
    (table,) = tables_of(counts[None])
    assert table.sum() == TOTAL
    assert np.array_equal(table > 0, counts > 0)
    bits = write_table(table)
    assert len(bits) <= int(table_bits(table[None])[0]) + 2
    assert np.array_equal(read_table(RawBits(packed(bits))), table)


def test_own_tables_are_made_where_they_pay() -> None:
    counts = np.zeros((3, SYMBOLS), np.int64)
    counts[:, [0, 9]] = 5_000
    assert len(choose(counts, np.full(3, 20)).own) >= 1
    assert len(choose(counts // 2_500, np.full(3, 20)).own) == 0
