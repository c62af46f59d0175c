"""The publisher: which coder a device is spoken to in, and what happens to a log that it cannot read."""

from __future__ import annotations

import numpy as np
import pytest

from ams.core.delta import Delta
from ams.core.patch import CODER_OFFSET, FEATURE_RANS, GAP_ZSTD, RANS, Patch
from ams.models.bundle import ModelBundle
from services.trainer.publisher import Publisher


def change(seed: int = 0) -> Delta:
    rng = np.random.default_rng(seed)
    return Delta(np.sort(rng.choice(200, 20, replace=False)).astype(np.int64), rng.integers(1, 50, 20) << 4)


@pytest.fixture
def publisher(bundle: ModelBundle) -> Publisher:
    return Publisher("dev/cam0", 1, bundle)


def coders(publisher: Publisher) -> list[int]:
    return [entry.patch[CODER_OFFSET] for entry in publisher.outgoing]


def test_a_device_of_which_nothing_is_known_gets_the_coder_that_all_know(publisher: Publisher) -> None:
    publisher.publish(change())
    assert coders(publisher) == [GAP_ZSTD]


def test_a_device_that_says_so_gets_the_better_one(publisher: Publisher) -> None:
    publisher.speak([FEATURE_RANS, "something-newer"])
    publisher.publish(change())
    publisher.speak([FEATURE_RANS])
    publisher.publish(change(1))
    assert coders(publisher) == [RANS, RANS]


def test_an_older_device_on_the_same_session_gets_a_keyframe_that_it_can_read(
    publisher: Publisher, bundle: ModelBundle
) -> None:
    publisher.speak([FEATURE_RANS])
    publisher.publish(change())
    before = publisher.history.latest.copy()
    publisher.speak([])
    publisher.speak([])  # said again, answered once
    assert coders(publisher) == [RANS, GAP_ZSTD]
    keyframe = Patch.decode(publisher.outgoing[-1].patch, bundle.layout)
    assert keyframe.is_keyframe
    got = keyframe.apply(bundle.version0, bundle.layout, model_id=bundle.model_id, version=0)
    assert np.array_equal(got, before)


def test_the_next_owner_knows_what_the_log_is_written_in(publisher: Publisher, bundle: ModelBundle) -> None:
    publisher.speak([FEATURE_RANS])
    publisher.publish(change())
    heir = Publisher("dev/cam0", 2, bundle)
    for entry in publisher.outgoing:
        heir.replay(entry)
    heir.speak([])
    assert coders(heir) == [GAP_ZSTD], "a keyframe"


def test_a_size_is_that_of_the_patch(publisher: Publisher) -> None:
    for features in ([], [FEATURE_RANS]):
        publisher.speak(features)
        size = publisher.size_of(change(2))
        assert size == len(publisher.publish(change(2)).patch)
