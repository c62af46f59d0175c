"""The ports: what the services need from a broker and a clock, as Protocols over core types.

Two adapters keep these promises, `ams.broker.redis` and `ams.broker.memory`; one contract suite runs on both
(tests/broker). Every method may raise BrokerUnavailableError; callers keep what they have and try again.
Where an operation touches two keys, it writes first and acknowledges second, so a crash repeats and never loses;
readers drop repetitions by clip id or version.

`sid` is a session id, `<device>/<stream>`. `process` and `owner` name a running process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class QueuedClip:
    """One clip of the work queue. `meta` is the JSON of a Clip header, `payload` its bytes, unparsed."""

    sid: str
    clip_id: str
    meta: bytes
    payload: bytes
    entry_id: str = ""
    deliveries: int = 1


@dataclass(frozen=True)
class LabelledClip:
    """A clip with its teacher's labels: the horizon in durable form.

    `meta` and `payload` as in QueuedClip; `labels` is `ams.core.label_map` coded, [frames, H, W] in the student's
    classes; `confidence`, coarse and optional, is coded the same way. A clip that could not be used has `error`
    set and no labels.
    """

    sid: str
    clip_id: str
    meta: bytes
    payload: bytes
    labels: bytes
    confidence: bytes = b""
    error: str = ""
    entry_id: str = ""


@dataclass(frozen=True)
class PatchEntry:
    """One entry of a session's patch log, in order of (fence, version).

    `takeover` marks that an owner with this fence has begun (no patch, version is the one it starts from).
    """

    kind: Literal["takeover", "patch", "keyframe"]
    fence: int
    base: int
    version: int
    digest: str = ""
    patch: bytes = b""
    entry_id: str = ""


@dataclass(frozen=True)
class UpstreamEvent:
    """What a session's owner must hear: `kind` is applied, refused, resume, stats or command; `body` is JSON."""

    kind: str
    body: bytes
    entry_id: str = ""


@dataclass(frozen=True)
class Lease:
    """Ownership of a session: `fence` grows with every new owner."""

    sid: str
    owner: str
    fence: int


class ClipQueue(Protocol):
    """Work queue of clips for one teacher, read by a group of labelers."""

    async def admit(self, clip: QueuedClip, *, credit: int) -> bool:
        """Make a clip durable and queue it. False when the session already has `credit` clips waiting.

        Admitting the same clip again is allowed and does not count twice.
        """
        ...

    async def take(self, consumer: str, *, count: int, wait_s: float) -> Sequence[QueuedClip]:
        """Up to `count` clips for this consumer, waiting at most `wait_s` for the first. May be empty."""
        ...

    async def reclaim(self, consumer: str, *, count: int, idle_s: float) -> Sequence[QueuedClip]:
        """Clips that a consumer, this one included, took and did not finish within `idle_s`; `deliveries` counts."""
        ...

    async def done(self, clip: QueuedClip) -> None:
        """The clip is dealt with: take it from the queue and give the session its credit back."""
        ...

    async def bury(self, clip: QueuedClip, reason: str) -> None:
        """The clip cannot be dealt with: move it to the dead-letter stream, with the reason."""
        ...

    async def depth(self) -> int:
        """Number of clips that wait or are being worked on."""
        ...


class LabelLog(Protocol):
    """Labelled clips of each session, oldest first."""

    async def append(self, clip: LabelledClip) -> str:
        """Add a clip; returns its entry id. The same clip may come twice."""
        ...

    async def read(self, sid: str, *, after: str = "", count: int = 64) -> Sequence[LabelledClip]:
        """Clips after an entry id (all from the oldest with the empty string), without waiting."""
        ...

    async def trim(self, sid: str, *, before: str) -> None:
        """Drop all entries older than `before`."""
        ...


class PatchLog(Protocol):
    """The patches of each session: what any gateway sends and any next owner rebuilds from."""

    async def append(self, sid: str, entry: PatchEntry) -> str:
        """Add an entry with id `<fence>-<n>`. Raises FencedError when a higher fence has written here."""
        ...

    async def read(self, sid: str, *, after: str = "", count: int = 256) -> Sequence[PatchEntry]:
        """Entries after an entry id (all from the oldest with the empty string), without waiting."""
        ...

    async def trim(self, sid: str, *, before: str) -> None:
        """Drop all entries older than `before`; the owner trims up to a keyframe only."""
        ...


class Upstream(Protocol):
    """Events from a session's device to its owner."""

    async def post(self, sid: str, event: UpstreamEvent) -> None:
        """Add an event; the oldest go when the stream is full."""
        ...

    async def read(self, sid: str, *, after: str = "", count: int = 256) -> Sequence[UpstreamEvent]:
        """Events after an entry id, without waiting."""
        ...


@dataclass(frozen=True)
class ScoreEntry:
    """One line of a session's record: `kind` is clip or phase, `body` the JSON of a ClipScore or PhaseRecord."""

    kind: str
    body: bytes
    entry_id: str = ""


class ScoreLog(Protocol):
    """What each session's clips scored and its phases gained, oldest first."""

    async def append(self, sid: str, kind: str, body: bytes) -> None:
        """Add a line; the oldest go when the stream is full."""
        ...

    async def read(self, sid: str, *, after: str = "", count: int = 1024) -> Sequence[ScoreEntry]:
        """Lines after an entry id (all from the oldest with the empty string), without waiting."""
        ...


class SessionDirectory(Protocol):
    """Which sessions exist, when they were last seen, and the latest state of each."""

    async def touch(self, sid: str, now_s: float) -> None:
        """Note that a session was seen at `now_s` (Unix seconds)."""
        ...

    async def seen_since(self, since_s: float) -> Sequence[str]:
        """Session ids seen at or after `since_s`, latest first, at most 10,000."""
        ...

    async def forget_before(self, before_s: float) -> int:
        """Drop sessions last seen before `before_s`; returns how many."""
        ...

    async def update(self, sid: str, fields: Mapping[str, str]) -> None:
        """Set fields of a session's state; latest wins, the whole expires a day after its last change."""
        ...

    async def state(self, sid: str) -> dict[str, str]:
        """The state of a session; empty when unknown."""
        ...


class Leases(Protocol):
    """Who owns which session."""

    async def acquire(self, sid: str, owner: str, *, ttl_s: float) -> Lease | None:
        """Take a free session; None when another owner holds it. Each success has a higher fence than all before."""
        ...

    async def renew(self, lease: Lease, *, ttl_s: float) -> bool:
        """Keep a session for another `ttl_s`; False when it is no longer ours."""
        ...

    async def release(self, lease: Lease) -> None:
        """Let a session go, if it is still ours."""
        ...

    async def owner(self, sid: str) -> str | None:
        """The current owner, or None."""
        ...


class Doorbell(Protocol):
    """Wakes a process up. Rings may be lost: whoever waits also sweeps slowly."""

    async def ring(self, process: str, sid: str) -> None:
        """Tell `process` that something happened in `sid`."""
        ...

    async def wait(self, process: str, *, wait_s: float) -> set[str]:
        """Session ids that rang for `process` since the last wait; empty after `wait_s` without a ring."""
        ...


class Devices(Protocol):
    """Enrolled devices: the SHA-256 of each one's token, never the token."""

    async def enrol(self, device: str, token_hash: str) -> None:
        """Add a device, or replace its token."""
        ...

    async def token_hash(self, device: str) -> str | None:
        """Hex SHA-256 of the device's token, or None for an unknown or revoked device."""
        ...

    async def revoke(self, device: str) -> None:
        """The device may no longer connect."""
        ...


@dataclass(frozen=True)
class Broker:
    """All ports of one broker, as `ams.broker.connect` returns them. `clips(teacher)` is one teacher's queue."""

    clips: Callable[[str], ClipQueue]
    labelled: LabelLog
    patches: PatchLog
    upstream: Upstream
    scores: ScoreLog
    directory: SessionDirectory
    leases: Leases
    bell: Doorbell
    devices: Devices
    connection: BrokerConnection


class BrokerConnection(Protocol):
    """The connection behind the ports."""

    async def ping(self) -> None:
        """Raises BrokerUnavailableError when the broker does not answer."""
        ...

    async def close(self) -> None:
        """Give all connections back."""
        ...


class Clock(Protocol):
    """Stream time: seconds that pass `speed` times as fast as the wall clock's."""

    def now_s(self) -> float:
        """Seconds since an arbitrary start, never backwards."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for so many stream seconds."""
        ...
