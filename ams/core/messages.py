"""The messages of the wire: one pydantic model per message, the header of an envelope (docs/protocol.md).

Knows names, fields and bounds. Does not know bytes (`envelope`), order (`session`) or sockets. Unknown fields
are ignored, so that a newer peer can say more than we understand.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
    model_validator,
)

from ams.core.card import MODEL_ID_PATTERN
from ams.errors import WireError

PROTOCOL = 1
"""The protocol version that this code speaks; Hello offers a list, Welcome picks one."""

MAX_FRAMES_PER_CLIP = 64
MAX_STREAMS_PER_DEVICE = 16
MAX_PARTS = 1 << 20
MAX_TRANSFER_BYTES = 1 << 34
"""`MAX_PARTS` parts of 16 KiB; what a receiver really takes is far less (`ams.core.transfer`)."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
ModelId = Annotated[str, Field(pattern=MODEL_ID_PATTERN)]
DigestHex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
TransferId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
ClipId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Version = Annotated[int, Field(ge=0, lt=1 << 48)]
Nanoseconds = Annotated[int, Field(ge=0, lt=1 << 63)]
Protocol = Annotated[int, Field(ge=1, lt=1 << 16)]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Text = Annotated[str, Field(max_length=500)]


class Header(BaseModel):
    """Base of all messages."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=(), allow_inf_nan=False)


class Progress(Header):
    """How far a receiver has got with a large message: it wants part `next` of `transfer`."""

    transfer: TransferId
    next: int = Field(ge=0, le=MAX_PARTS)


class StreamHello(Header):
    """One camera of a device: the student it holds and the version that it runs."""

    name: Name
    model_id: ModelId
    version: Version = 0
    digest: DigestHex
    codecs: tuple[Name, ...] = Field(default=("h264",), max_length=8)


class Hello(Header):
    """Device to server, first message: who I am, what I can do, what I run."""

    type: Literal["hello"] = "hello"
    protocols: tuple[Protocol, ...] = Field(default=(PROTOCOL,), min_length=1, max_length=8)
    agent: Text = ""
    device: Name
    token: str = Field(max_length=200)
    boot_id: Name
    sent_ns: Nanoseconds
    features: tuple[Name, ...] = Field(default=(), max_length=32)
    streams: tuple[StreamHello, ...] = Field(min_length=1, max_length=MAX_STREAMS_PER_DEVICE)
    partial: tuple[Progress, ...] = Field(default=(), max_length=8)

    @model_validator(mode="after")
    def _stream_names_differ(self) -> Hello:
        if len({stream.name for stream in self.streams}) != len(self.streams):
            raise ValueError("two streams have the same name")
        return self


class Rates(Header):
    """Server to device: what the controllers want of a stream from now on, in stream time."""

    type: Literal["rates"] = "rates"
    stream: Name
    sampling_hz: float = Field(gt=0, le=30)
    clip_interval_s: float = Field(gt=0, le=600)
    uplink_kbps: float = Field(gt=0, le=100_000)


class StreamWelcome(Header):
    """Server's answer for one stream: its session, its first rates, the limits of its clips."""

    name: Name
    session: str = Field(max_length=129)
    rates: Rates
    max_frames: int = Field(default=MAX_FRAMES_PER_CLIP, ge=1, le=MAX_FRAMES_PER_CLIP)
    max_clip_bytes: int = Field(ge=1024, le=MAX_TRANSFER_BYTES)


class Welcome(Header):
    """Server to device, answer to Hello."""

    type: Literal["welcome"] = "welcome"
    protocol: Protocol = PROTOCOL
    server: Text = ""
    heartbeat_s: float = Field(default=10.0, gt=0, le=600)
    features: tuple[Name, ...] = Field(default=(), max_length=32)
    streams: tuple[StreamWelcome, ...] = Field(max_length=MAX_STREAMS_PER_DEVICE)
    partial: tuple[Progress, ...] = Field(default=(), max_length=8)


class FrameStamp(Header):
    """One frame of a clip: running number, capture time on the stream's clock, version that ran at capture."""

    seq: int = Field(ge=0, lt=1 << 48)
    t_ns: Nanoseconds
    version: Version


class DeviceLabels(Header):
    """The label map that the device itself gave to frame `frame` of the clip; `bytes` at the payload's end."""

    frame: int = Field(ge=0, lt=MAX_FRAMES_PER_CLIP)
    bytes: int = Field(ge=1, le=1 << 20)


class Clip(Header):
    """Device to server: sampled frames as one short video. Payload: the encoded video, then the device's labels."""

    type: Literal["clip"] = "clip"
    stream: Name
    clip_id: ClipId
    model_id: ModelId
    codec: Name = "h264"
    width: int = Field(ge=16, le=4096)
    height: int = Field(ge=16, le=4096)
    boot_id: Name
    sent_ns: Nanoseconds
    frames: tuple[FrameStamp, ...] = Field(min_length=1, max_length=MAX_FRAMES_PER_CLIP)
    labels: DeviceLabels | None = None

    def parts_of(self, payload: bytes) -> tuple[bytes, bytes]:
        """The video and the device's labels (empty without any) of a payload. Raises WireError if it is too short."""
        label_bytes = self.labels.bytes if self.labels else 0
        if len(payload) <= label_bytes:
            raise WireError(f"a payload of {len(payload)} bytes cannot hold a video and {label_bytes} bytes of labels")
        return payload[: len(payload) - label_bytes], payload[len(payload) - label_bytes :]

    @model_validator(mode="after")
    def _frames_are_in_order(self) -> Clip:
        times = [frame.t_ns for frame in self.frames]
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise ValueError("frames of a clip must be in order of capture")
        if self.labels is not None and self.labels.frame >= len(self.frames):
            raise ValueError(f"labels name frame {self.labels.frame} of a clip of {len(self.frames)}")
        return self


class Patch(Header):
    """Server to device: payload is a patch (`ams.core.patch`) that leads from version `base` to `target`."""

    type: Literal["patch"] = "patch"
    stream: Name
    base: Version
    target: Version


class Ack(Header):
    """Server: this clip is durable and admitted. Device: this version is running, with this digest."""

    type: Literal["ack"] = "ack"
    stream: Name
    of: Literal["clip", "patch"]
    clip_id: ClipId | None = None
    version: Version | None = None
    digest: DigestHex | None = None

    @model_validator(mode="after")
    def _names_its_object(self) -> Ack:
        if self.of == "clip" and self.clip_id is None:
            raise ValueError("an ack of a clip needs clip_id")
        if self.of == "patch" and (self.version is None or self.digest is None):
            raise ValueError("an ack of a patch needs version and digest")
        return self


class Nack(Header):
    """Server: this clip is not taken. With `retry_after_s` the device keeps it and tries again."""

    type: Literal["nack"] = "nack"
    stream: Name
    clip_id: ClipId
    code: Name
    text: Text = ""
    retry_after_s: float | None = Field(default=None, gt=0, le=3600)


class Refused(Header):
    """Device: patch `version` was not taken, for `reason`; this is what runs instead."""

    type: Literal["refused"] = "refused"
    stream: Name
    version: Version
    reason: Name
    text: Text = ""
    running_version: Version
    running_digest: DigestHex


class Stats(Header):
    """Device: how it is doing; rates and kbps in stream time since the last Stats, `latency_ms` a median."""

    type: Literal["stats"] = "stats"
    stream: Name
    sent_ns: Nanoseconds
    version: Version
    camera_fps: float = Field(default=0, ge=0)
    inference_fps: float = Field(default=0, ge=0)
    uplink_kbps: float = Field(default=0, ge=0)
    downlink_kbps: float = Field(default=0, ge=0)
    frames_dropped: Count = 0
    clips_dropped: Count = 0
    patches_applied: Count = 0
    patches_refused: Count = 0
    swap_ms: float = Field(default=0, ge=0)
    frames_late: Count = 0
    latency_ms: float = Field(default=0, ge=0)

    @model_serializer(mode="wrap")
    def _leave_out_later_fields_at_zero(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What was recorded before there were these fields is still written as the same bytes."""
        fields: dict[str, Any] = write(self)
        return {name: value for name, value in fields.items() if value or name not in ("frames_late", "latency_ms")}


class Notice(Header):
    """Something worth a line in a log: an unknown message, a clip that could not be used, a limit reached."""

    type: Literal["notice"] = "notice"
    code: Name
    text: Text
    stream: Name | None = None


class Error(Header):
    """The last message before a close: `code` says what is wrong, `text` what to do."""

    type: Literal["error"] = "error"
    code: Name
    text: Text
    retry: bool = False


class Ping(Header):
    """Nothing to say, still here."""

    type: Literal["ping"] = "ping"


class Part(Header):
    """Part `index` of `count` of a message of `size` bytes with SHA-256 `digest`; payload is its slice."""

    type: Literal["part"] = "part"
    transfer: TransferId
    index: int = Field(ge=0, lt=MAX_PARTS)
    count: int = Field(ge=1, le=MAX_PARTS)
    size: int = Field(ge=1, le=MAX_TRANSFER_BYTES)
    digest: DigestHex

    @model_validator(mode="after")
    def _index_is_below_count(self) -> Part:
        if self.index >= self.count:
            raise ValueError(f"part {self.index} of {self.count}")
        return self


class PartAck(Header):
    """The receiver of a transfer wants part `next`; with `rewind` the sender must go back to it."""

    type: Literal["part_ack"] = "part_ack"
    transfer: TransferId
    next: int = Field(ge=0, le=MAX_PARTS)
    rewind: bool = False


AnyMessage = (
    Hello | Welcome | Clip | Patch | Rates | Ack | Nack | Refused | Stats | Notice | Error | Ping | Part | PartAck
)
Message = Annotated[AnyMessage, Field(discriminator="type")]

MESSAGE_TYPES = frozenset(model.model_fields["type"].default for model in get_args(AnyMessage))

message_adapter: TypeAdapter[Message] = TypeAdapter(Message)
