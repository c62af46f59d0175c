"""The version history of one student: the exact weights of every version that a device may still run.

The trainer's record of the device (invariant: one model, bit for bit). Keeps the newest weights whole and the steps
that led there as sparse deltas, so that any version in the log can be rebuilt and any two be joined by a patch.
Versions only grow. Bounded: the oldest steps are forgotten, a device that is older gets a keyframe.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from ams.core.delta import Delta
from ams.core.layout import IntVector, Layout
from ams.core.patch import VERSION_LIMIT, Patch
from ams.errors import BaseMismatchError, CorruptPatchError

MAX_STEPS = 64
MAX_UNACKNOWLEDGED = 2
"""Versions that may be published without the device having said that it runs them."""

BELIEVABLE_VERSION = VERSION_LIMIT // 2
"""No stream ever gets here: at one version a second it would take four million years."""


class VersionHistory:
    """Weights by version, from the model file (version 0) to the newest published one."""

    def __init__(self, layout: Layout, model_id: str, version0: IntVector) -> None:
        self._layout = layout
        self._model_id = model_id
        self._version0 = version0
        self._latest = version0
        self._steps: OrderedDict[int, tuple[int, Delta]] = OrderedDict()  # target: (base, change)
        self.version = 0
        self.acknowledged = 0

    @property
    def model_id(self) -> str:
        """The student whose weights these are."""
        return self._model_id

    @property
    def latest(self) -> IntVector:
        """Weights of the newest version; not to be written to."""
        return self._latest

    @property
    def may_publish(self) -> bool:
        """False while too many versions wait for the device's word."""
        return len([v for v in self._steps if v > self.acknowledged]) < MAX_UNACKNOWLEDGED

    def publish(self, delta: Delta) -> Patch:
        """The patch to a new version whose weights are the newest ones plus `delta`.

        Raises CorruptPatchError, and publishes nothing, when a weight would leave the grid: no device would take it.
        """
        summed = delta.added_to(self._latest)
        if not self._layout.in_range(summed):
            raise CorruptPatchError("a weight would leave the grid; quantise the change first")
        weights = summed.astype(np.int32, copy=False)
        patch = Patch(self.version, self.version + 1, self._model_id, self._layout.digest(weights), delta)
        self._remember(patch.target, patch.base, delta)
        self._latest, self.version = weights, patch.target
        return patch

    def replay(self, patch: Patch) -> None:
        """Take over a patch that an earlier owner published; an old one changes nothing.

        Raises PatchError if it does not fit what is known.
        """
        if patch.target <= self.version:
            return
        start = self.weights_at(patch.base)
        weights = patch.apply(start, self._layout, model_id=self._model_id, version=patch.base)
        self._remember(patch.target, self.version, Delta.between(self._latest, weights))
        self._latest, self.version = weights, patch.target

    def knows(self, version: int) -> bool:
        """Whether `weights_at(version)` would answer."""
        return self._way_back_to(version) is not None

    def weights_at(self, version: int) -> IntVector:
        """Weights of a version. Raises BaseMismatchError for one that was never published or is forgotten."""
        way = self._way_back_to(version)
        if way is None:
            raise BaseMismatchError(f"version {version} is not in the history (newest is {self.version})")
        if version == 0:
            return self._version0
        return Delta.total(step.negated() for step in way).added_to(self._latest).astype(np.int32, copy=False)

    def rebase(self, running: int) -> Patch:
        """The cumulative patch from the version that a device runs to the newest; a keyframe when it is unknown.

        Its target is always larger than `running`: a device that runs the newest version, or claims a later one,
        gets the newest weights under a new number, as from `keyframe`.
        """
        if running >= self.version:
            return self.keyframe(above=running)
        base = running if self.knows(running) else 0
        return Patch.between(self._layout, self._model_id, (base, self.weights_at(base)), (self.version, self._latest))

    def keyframe(self, *, above: int = 0) -> Patch:
        """A patch from the model file to the newest weights, as a version larger than `above`.

        For a device that is ahead of this record (a broker lost data) or that holds other weights under the same
        number: since versions only grow, the same content gets a new number. A claim beyond `BELIEVABLE_VERSION` is
        ignored, or one lie would use all numbers up.
        """
        if above > BELIEVABLE_VERSION:
            above = 0
        if self.version <= above:
            self._remember(above + 1, self.version, Delta.none())
            self.version = above + 1
        return Patch.between(self._layout, self._model_id, (0, self._version0), (self.version, self._latest))

    def roll_back(self, version: int) -> Patch:
        """A new version with the content of an old one: versions only grow."""
        return self.publish(Delta.between(self._latest, self.weights_at(version)))

    def acknowledge(self, version: int, digest: bytes) -> bool:
        """The device says that it runs `version` with `digest`; False when the digest is not ours."""
        if not self.knows(version) or self._layout.digest(self.weights_at(version)) != digest:
            return False
        self.acknowledged = max(self.acknowledged, version)
        return True

    def _way_back_to(self, version: int) -> list[Delta] | None:
        """The steps from the newest version back to an older one; None when there is no known way."""
        if version == 0:
            return []
        at, way = self.version, []
        while at != version:
            step = self._steps.get(at)
            if step is None or at < version:
                return None
            at = step[0]
            way.append(step[1])
        return way

    def _remember(self, target: int, base: int, change: Delta) -> None:
        self._steps[target] = (base, change)
        while len(self._steps) > MAX_STEPS:
            self._steps.popitem(last=False)
