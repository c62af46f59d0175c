"""Ten thousand random changes of all recorded bytes: the documented error or a sound result, soon, in little memory."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from ams.core.session import Role
from ams.core.transfer import Outgoing
from tests.fuzz import promises, seeds
from tests.golden import content
from tests.hostile.mutations import mutated

CHANGED = 10_000
BATCHES = 10
CONNECTIONS = 600
SCRIPTS = 300
MAX_CPU_S = 1.0
"""For one message, on a machine of any speed and load: processor time of this thread, not time on the wall."""

MAX_ALLOCATED_BYTES = 64 * 1024 * 1024

CORPUS = [*promises.FILES.values(), *seeds.WITH_PAYLOAD.values()]


@pytest.fixture(autouse=True)
def _the_weights_stay_as_they_are() -> Iterator[None]:
    versions = (content.VERSION0, content.VERSION1, content.VERSION2)
    before = [version.copy() for version in versions]
    yield
    assert all(np.array_equal(now, then) for now, then in zip(versions, before, strict=True))


@contextmanager
def measured() -> Iterator[Callable[[Callable[[], None], str], None]]:
    """Runs things, each of which may take little time and memory; what breaks a promise is named by its hex."""

    def run(thing: Callable[[], None], what: str) -> None:
        tracemalloc.reset_peak()
        held, _ = tracemalloc.get_traced_memory()
        began_s = time.thread_time()
        try:
            thing()
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error} for {what}")
        took_s = time.thread_time() - began_s
        _, peak = tracemalloc.get_traced_memory()
        assert took_s < MAX_CPU_S, what
        assert peak - held < MAX_ALLOCATED_BYTES, what

    tracemalloc.start()
    try:
        yield run
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", sorted(seeds.SEEDS))
def test_the_seeds_pass(name: str) -> None:
    seen: promises.Seen = Counter()
    for data in seeds.SEEDS[name].values():
        getattr(promises, f"take_{name}")(data, seen)
    assert seen[{"envelope": "envelope read", "patch": "patch applied", "parts": "message whole"}[name]] > 3


@pytest.mark.parametrize("batch", range(BATCHES))
def test_changed_messages(batch: int) -> None:
    rng = random.Random(batch)
    seen: promises.Seen = Counter()
    with measured() as run:
        for _ in range(CHANGED // BATCHES):
            data = mutated(rng, CORPUS)

            def take(data: bytes = data) -> None:
                promises.take_envelope(data, seen)
                promises.take_patch(data, seen)
                promises.take_label_maps(data, seen)

            run(take, data.hex())
    # Enough of them get past the first check.
    assert seen["envelope read"] > 50
    assert seen["envelope refused"] > 200
    assert seen["patch sound"] > 5
    assert seen["patch refused: digest"] > 0
    assert seen["patch corrupt"] > 200


def test_changed_messages_on_a_connection() -> None:
    """A few sound messages, and a changed one among them."""
    rng = random.Random(1)
    messages = list(seeds.MESSAGES.values())
    seen: promises.Seen = Counter()
    with measured() as run:
        for number in range(CONNECTIONS):
            pieces = [rng.choice(messages) for _ in range(3)] + [mutated(rng, CORPUS) for _ in range(3)]
            rng.shuffle(pieces)
            role = rng.choice(list(Role))

            def take(pieces: list[bytes] = pieces, role: Role = role) -> None:
                promises.take_connection(pieces, role, seen)

            run(take, f"connection {number}, {role}")
    assert seen["connection ended"] > 50
    assert seen["connection heard"] > 50


def test_parts_changed_and_out_of_order() -> None:
    rng = random.Random(2)
    seen: promises.Seen = Counter()
    with measured() as run:
        for number in range(SCRIPTS):
            script = b"".join(_steps(rng))
            run(lambda script=script: promises.take_parts(script, seen), f"script {number}: {script.hex()}")
    assert seen["message whole"] > SCRIPTS / 10
    assert seen["part refused"] > SCRIPTS / 10
    assert seen["connection ended"] > SCRIPTS / 10


def _steps(rng: random.Random) -> Iterator[bytes]:
    """Parts of one or two messages, mostly in order and as they are."""
    chosen = [rng.randrange(len(promises.LARGE)) for _ in range(rng.choice((1, 2)))]
    at = dict.fromkeys(chosen, 0)
    for _ in range(rng.randint(4, 20)):
        which = rng.choice(chosen)
        outgoing: Outgoing = promises.LARGE[which]
        index = at[which] if rng.random() < 0.9 else rng.randrange(outgoing.count)
        at[which] = min(index + 1, outgoing.count - 1)
        action = rng.randrange(16) if rng.random() < 0.08 else 0
        yield bytes([which, index, action, rng.randrange(256)])
