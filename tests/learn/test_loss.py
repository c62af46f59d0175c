"""The loss: subset, ignored pixels, probabilities, and a batch in which nothing counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf

from ams.learn.loss import NOT_COUNTED, pixel_loss, target_table


@pytest.fixture
def scores() -> torch.Tensor:
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()


def test_target_table_knows_only_the_subset() -> None:
    table = target_table((4, 1))
    assert table[[4, 1]].tolist() == [0, 1]
    assert (np.delete(table, [4, 1]) == NOT_COUNTED).all()


def test_is_the_mean_over_counted_pixels(scores: torch.Tensor) -> None:
    targets = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    targets[0, :2] = NOT_COUNTED
    log_p = nnf.log_softmax(scores, dim=1)
    counted = targets != NOT_COUNTED
    by_hand = -log_p.permute(0, 2, 3, 1)[counted].gather(1, targets[counted][:, None]).mean()
    torch.testing.assert_close(pixel_loss(scores, targets), by_hand)


def test_pixels_that_do_not_count_have_no_gradient(scores: torch.Tensor) -> None:
    targets = torch.zeros(2, 4, 5, dtype=torch.int64)
    targets[:, 1] = NOT_COUNTED
    torch.autograd.backward(pixel_loss(scores, targets))
    assert scores.grad is not None
    assert bool((scores.grad[:, :, 1] == 0).all())
    assert bool((scores.grad[:, :, 0] != 0).any())


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_nothing_counted_gives_zero_and_no_nan(scores: torch.Tensor, kind: str) -> None:
    loss = pixel_loss(scores.sigmoid(), torch.full((2, 4, 5), NOT_COUNTED), kind=kind)  # type: ignore[arg-type]
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert scores.grad is not None
    assert bool((scores.grad == 0).all())


def test_probabilities_are_renormalised_over_the_subset() -> None:
    p = torch.tensor([0.2, 0.1, 0.0, 0.7]).view(1, 4, 1, 1)
    loss = pixel_loss(p[:, :2], torch.zeros(1, 1, 1, dtype=torch.int64), kind="probabilities")
    assert loss.item() == pytest.approx(-np.log(0.2 / 0.3), rel=1e-5)
    certain = pixel_loss(p[:, 1:3], torch.ones(1, 1, 1, dtype=torch.int64), kind="probabilities")
    assert np.isfinite(certain.item())
