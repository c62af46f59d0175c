"""Masked Adam against torch's own, its mask and its moments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ams.errors import ModelError
from ams.learn.adam import AdamState, MaskedAdam

SIZE = 50


def gradients(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(SIZE, generator=generator) for _ in range(count)]


def test_without_a_mask_it_is_adam() -> None:
    weights, reference = torch.ones(SIZE), torch.nn.Parameter(torch.ones(SIZE))
    own, theirs = MaskedAdam(SIZE, lr=0.01), torch.optim.Adam([reference], lr=0.01)
    for gradient in gradients(10):
        own.step(weights, gradient)
        reference.grad = gradient.clone()
        theirs.step()
    torch.testing.assert_close(weights, reference.detach(), rtol=1e-6, atol=1e-7)


def test_only_masked_weights_move_and_they_move_as_in_adam() -> None:
    mask = torch.arange(SIZE) % 3 == 0
    masked, free = torch.ones(SIZE), torch.ones(SIZE)
    one, other = MaskedAdam(SIZE), MaskedAdam(SIZE)
    for gradient in gradients(10):
        one.step(masked, gradient, mask)
        other.step(free, gradient)
    assert bool((masked[~mask] == 1).all())
    torch.testing.assert_close(masked[mask], free[mask])


def test_moments_change_everywhere() -> None:
    optimizer = MaskedAdam(SIZE)
    optimizer.step(torch.zeros(SIZE), torch.ones(SIZE), torch.zeros(SIZE, dtype=torch.bool))
    state = optimizer.state()
    assert state.steps == 1
    assert (state.first != 0).all()
    assert (state.second != 0).all()


def test_a_checkpoint_goes_on_as_if_nothing_had_happened() -> None:
    steps = gradients(6)
    weights, again = torch.zeros(SIZE), torch.zeros(SIZE)
    optimizer = MaskedAdam(SIZE)
    for gradient in steps[:3]:
        optimizer.step(weights, gradient)
    again.copy_(weights)
    restored = MaskedAdam(SIZE)
    restored.load_state(optimizer.state())
    for gradient in steps[3:]:
        optimizer.step(weights, gradient)
        restored.step(again, gradient)
    assert torch.equal(weights, again)


def test_state_is_a_copy() -> None:
    optimizer = MaskedAdam(SIZE)
    state = optimizer.state()
    optimizer.step(torch.zeros(SIZE), torch.ones(SIZE))
    assert state.steps == 0
    assert (state.first == 0).all()
    assert optimizer.steps == 1
    assert not optimizer.is_cold


def test_a_checkpoint_of_another_student_is_refused() -> None:
    with pytest.raises(ModelError, match="50 weights"):
        MaskedAdam(SIZE).load_state(AdamState(1, np.zeros(7, np.float32), np.zeros(7, np.float32)))
