"""Strides and output kinds."""

from __future__ import annotations

import numpy as np
import pytest

from ams.errors import ModelError
from ams.models.propose import propose_output_kind, propose_stride


@pytest.mark.parametrize(
    ("size", "output", "stride"),
    [((256, 512), (256, 512), 1), ((256, 512), (16, 32), 16), ((257, 513), (17, 33), 16), ((96, 96), (32, 32), 3)],
)
def test_stride(size: tuple[int, int], output: tuple[int, int], stride: int) -> None:
    assert propose_stride(size, output) == stride


@pytest.mark.parametrize("output", [(512, 1024), (128, 512), (1, 1)])
def test_stride_that_does_not_fit_is_refused(output: tuple[int, int]) -> None:
    with pytest.raises(ModelError, match="stride"):
        propose_stride((256, 512), output)


def test_output_kind() -> None:
    scores = np.random.default_rng(0).uniform(size=(1, 3, 4, 4)).astype(np.float32)
    assert propose_output_kind(scores) == "logits"
    assert propose_output_kind(scores / scores.sum(axis=1, keepdims=True)) == "probabilities"
    assert propose_output_kind(-scores) == "logits"
