"""Which frequency tables an encoder uses: for each tensor one of the family, or one of a few made for the patch.

Only a choice: a decoder takes whatever was chosen. Costs are integers (in 64ths of a bit) held by floats, so sums are
exact in any order, and every platform chooses alike. Knows histograms; does not know bytes or positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from ams.core.rans import TOTAL, Ints
from ams.core.rans_numbers import FAMILIES, SYMBOLS, family_frequencies, table_bits, tables_of

Floats = npt.NDArray[np.float64]

UNIT = 64
"""Costs are counted in bits / UNIT."""

IMPOSSIBLE = float(1 << 20)
"""Cost of a symbol that a table does not have."""

GROUPS = (1, 3)
"""How many own tables are tried; more save little (docs/decisions/0010-rans.md)."""


@dataclass(frozen=True, eq=False)
class Choice:
    """Own tables [K, SYMBOLS], and for each tensor the number of its model: below K one of these, else K + family."""

    own: Ints
    of_tensor: Ints


def choose(counts: Ints, expected: Ints) -> Choice:
    """The cheapest choice that was tried for the histograms of some tensors, [A, SYMBOLS].

    A family costs more to say the farther it is from the `expected` one, [A].
    """
    seen = counts.astype(np.float64)
    family = seen @ _family_costs().T + _saying_costs()[expected]
    best_family, family_cost = family.argmin(axis=1), family.min(axis=1)
    best = Choice(np.zeros((0, SYMBOLS), np.int64), best_family)
    least = float(family_cost.sum())
    order = np.argsort(best_family, kind="stable")
    weight = np.cumsum(counts.sum(axis=1)[order])
    for groups in GROUPS:
        if groups > len(counts):
            break
        # Groups of tensors that families code alike, of equal weight; then anew around the tables that they gave.
        member = np.zeros(len(counts), np.int64)
        member[order] = weight * groups // (int(weight[-1]) + 1)
        for _ in range(2):
            of_group = (member == np.arange(groups)[:, None]).astype(np.float64)
            totals = (of_group @ seen).astype(np.int64)
            own = tables_of(totals[totals.any(axis=1)])
            costs = np.column_stack([seen @ _costs()[own].T, family_cost])
            member = costs.argmin(axis=1)
        total = float(costs.min(axis=1).sum()) + UNIT * int(table_bits(own).sum())
        if total < least:
            best, least = Choice(own, np.where(member < len(own), member, len(own) + best_family)), total
    return best


def cheapest_families(counts: Ints) -> list[int]:
    """The families that code some histograms best, [K, SYMBOLS]."""
    found: list[int] = (counts.astype(np.float64) @ _family_costs().T).argmin(axis=1).tolist()
    return found


@cache
def _costs() -> Floats:
    """Cost of a symbol by its frequency, [TOTAL + 1]: -log2, rounded up, by the length of an integer power."""
    return np.array([IMPOSSIBLE] + [float(12 * UNIT + 1 - (f**UNIT).bit_length()) for f in range(1, TOTAL + 1)])


@cache
def _saying_costs() -> Floats:
    """About what a family costs to say where another one is expected, [FAMILIES, FAMILIES]: two bits an octave."""
    away = np.abs(np.arange(FAMILIES)[:, None] - np.arange(FAMILIES))
    costs: Floats = np.array([2.0 * UNIT * number.bit_length() for number in range(FAMILIES)])[away]
    return costs


@cache
def _family_costs() -> Floats:
    """[FAMILIES, SYMBOLS]."""
    return _costs()[family_frequencies()]
