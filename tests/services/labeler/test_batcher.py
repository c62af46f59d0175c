"""Batches across clips, and each label map back to its clip."""

from __future__ import annotations

import numpy as np
import pytest

from ams.core.label_map import LabelMaps
from ams.core.preprocess import FramesNHWC
from services.labeler.batcher import Batch, Batcher


def frames(*values: int) -> FramesNHWC:
    """Frames of 2x3 pixels that carry a number."""
    return np.stack([np.full((2, 3, 3), value, np.uint8) for value in values])


def label(batch: Batch[str]) -> LabelMaps:
    """The number of each frame as its label map."""
    return batch.frames_NHWC[..., 0]


def run(batcher: Batcher[str]) -> tuple[list[int], dict[str, list[int]]]:
    """Everything through an obliging teacher: sizes of the batches, and the labels of each clip."""
    sizes, done = [], {}
    while (batch := batcher.next()) is not None:
        sizes.append(len(batch.frames_NHWC))
        for key, labels in batcher.finish(batch, label(batch)):
            done[key] = [int(labels_HW[0, 0]) for labels_HW in labels]
    return sizes, done


def test_nothing_waits_at_first() -> None:
    assert Batcher[str](4).next() is None


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 64])
def test_labels_find_their_clip_whatever_the_batch(size: int) -> None:
    batcher = Batcher[str](size)
    batcher.add("a", frames(1, 2, 3))
    batcher.add("b", frames(4))
    batcher.add("c", frames(5, 6, 7, 8, 9))
    sizes, done = run(batcher)
    assert done == {"a": [1, 2, 3], "b": [4], "c": [5, 6, 7, 8, 9]}
    assert all(count == size for count in sizes[:-1])
    assert sum(sizes) == 9
    assert batcher.frames_waiting == 0


def test_clips_are_served_in_order_of_arrival() -> None:
    batcher = Batcher[str](2)
    batcher.add("a", frames(1, 2, 3))
    batcher.add("b", frames(4))
    batches = [batcher.next(), batcher.next()]
    assert [batch.keys for batch in batches if batch] == [("a",), ("a", "b")]


def test_batches_may_come_back_late() -> None:
    batcher = Batcher[str](2)
    batcher.add("a", frames(1, 2, 3))
    first, second = batcher.next(), batcher.next()
    assert first is not None
    assert second is not None
    assert batcher.finish(first, label(first)) == []
    ((key, labels),) = batcher.finish(second, label(second))
    assert key == "a"
    assert labels.shape == (3, 2, 3)


def test_full_counts_what_is_in_no_batch() -> None:
    batcher = Batcher[str](3)
    batcher.add("a", frames(1, 2))
    assert not batcher.full
    batcher.add("b", frames(3, 4))
    assert batcher.full
    batcher.next()
    assert (batcher.full, batcher.frames_waiting) == (False, 1)


def test_a_dropped_clip_takes_its_frames_along() -> None:
    batcher = Batcher[str](3)
    batcher.add("bad", frames(1, 2, 3, 4))
    batcher.add("good", frames(5))
    batch = batcher.next()
    assert batch is not None
    assert len(batcher.drop("bad")) == 4
    assert batcher.finish(batch, label(batch)) == []
    assert run(batcher)[1] == {"good": [5]}


def test_the_same_key_twice_and_empty_clips_are_refused() -> None:
    batcher = Batcher[str](3)
    batcher.add("a", frames(1))
    with pytest.raises(ValueError, match="'a'"):
        batcher.add("a", frames(2))
    with pytest.raises(ValueError, match="got 0"):
        batcher.add("b", np.zeros((0, 2, 3, 3), np.uint8))


def test_labels_of_another_number_of_frames_are_refused() -> None:
    batcher = Batcher[str](3)
    batcher.add("a", frames(1, 2))
    batch = batcher.next()
    assert batch is not None
    with pytest.raises(ValueError, match="of 2 frames, got 1"):
        batcher.finish(batch, label(batch)[:1])
