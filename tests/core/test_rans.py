"""The entropy coder: runs of symbols come back, and words or states that are not an encoder's are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ams.core.rans import TOTAL, Decoder, Run, Tables, encode
from ams.errors import CorruptPatchError
from tests.core.students import PROPERTY


@st.composite
def tables(draw: st.DrawFn) -> Tables:
    """One to five tables of up to 30 symbols; some symbols have no frequency, some have all of it."""
    count, symbols = draw(st.integers(1, 5)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frequencies = np.zeros((count, symbols), np.int64)
    for row in frequencies:
        cuts = np.sort(rng.integers(0, TOTAL + 1, symbols - 1))
        row[:] = np.diff(np.concatenate([[0], cuts, [TOTAL]]))
    return Tables(frequencies)


@st.composite
def runs(draw: st.DrawFn) -> list[tuple[Run, np.ndarray]]:
    """Runs of none to some hundred symbols that their tables can code."""
    found = []
    for _ in range(draw(st.integers(0, 3))):
        coded = draw(tables())
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        count = draw(st.integers(0, 300))
        table = rng.integers(0, len(coded.frequencies), count)
        slots = rng.integers(0, TOTAL, count)
        found.append((Run(coded, table), coded.symbol_of_slot[table * TOTAL + slots]))
    return found


@PROPERTY
@given(runs(), st.sampled_from([1, 2, 8, 64, 512]), st.integers(0, 2**32 - 1))
def test_symbols_and_seeds_come_back(coded: list[tuple[Run, np.ndarray]], lanes: int, seed: int) -> None:
    seeds = np.random.default_rng(seed).integers(0, 1 << 16, lanes).astype(np.uint16)
    states, words = encode(coded, seeds)
    decoder = Decoder(states, words)
    for run, symbols in coded:
        assert np.array_equal(decoder.take(run), symbols)
    assert np.array_equal(decoder.finish(), seeds)


def sample(lanes: int = 4) -> tuple[Run, np.ndarray, np.ndarray, np.ndarray]:
    """A run of 400 symbols of four kinds with its states and words."""
    coded = Tables(np.array([[2048, 1024, 512, 512]]))
    symbols = np.random.default_rng(3).integers(0, 4, 400).astype(np.uint8)
    run = Run(coded, np.zeros(400, np.int64))
    states, words = encode([(run, symbols)], np.zeros(lanes, np.uint16))
    return run, symbols, states, words


def test_it_takes_what_the_entropy_says() -> None:
    rng = np.random.default_rng(5)
    coded = Tables(np.array([[4000, 64, 32], [1024, 1024, 2048]]))
    table = np.arange(20_000) // 10_000
    symbols = coded.symbol_of_slot[table * TOTAL + rng.integers(0, TOTAL, 20_000)]
    _, words = encode([(Run(coded, table), symbols)], np.zeros(8, np.uint16))
    bits = -np.log2(coded.frequencies[table, symbols] / TOTAL).sum()
    assert 16 * len(words) < 1.002 * bits


def test_a_symbol_that_is_certain_costs_nothing() -> None:
    certain = Run(Tables(np.array([[0, TOTAL]])), np.zeros(1000, np.int64))
    states, words = encode([(certain, np.ones(1000, np.uint8))], np.zeros(2, np.uint16))
    assert len(words) == 0
    assert Decoder(states, words).take(certain).all()


def test_the_bytes_are_those_that_were_recorded() -> None:
    _, _, states, words = sample(2)
    assert states.tolist() == [17252303, 550741875]
    assert words[:4].tolist() == [14750, 36061, 63893, 53230]
    assert len(words) == 55


def test_words_that_end_too_soon() -> None:
    run, _, states, words = sample()
    with pytest.raises(CorruptPatchError, match="too soon"):
        Decoder(states, words[:-1]).take(run)


def test_words_that_are_left() -> None:
    run, _, states, words = sample()
    decoder = Decoder(states, np.append(words, np.uint16(0)))
    decoder.take(run)
    with pytest.raises(CorruptPatchError, match="do not end"):
        decoder.finish()


def test_a_state_that_does_not_come_back() -> None:
    run, _, states, words = sample()
    states[1] ^= 1 << 20
    decoder = Decoder(states, np.append(words, np.zeros(9, np.uint16)))
    decoder.take(run)
    with pytest.raises(CorruptPatchError, match="do not end"):
        decoder.finish()


def test_a_state_that_no_encoder_leaves() -> None:
    _, _, states, words = sample()
    states[0] = (1 << 16) - 1
    with pytest.raises(CorruptPatchError, match="below"):
        Decoder(states, words)
