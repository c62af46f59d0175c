"""What the recorded bytes mean: the fixed content that `record.py` wrote and `test_golden.py` expects.

Never change what is here for a protocol that is in use; add a folder for the next one.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from ams.core.card import InputSpec, ModelCard, OutputSpec, Parameter, ParameterKind, model_id
from ams.core.grid import LIMIT
from ams.core.layout import Layout
from ams.core.messages import (
    Ack,
    Clip,
    DeviceLabels,
    Error,
    FrameStamp,
    Hello,
    Message,
    Nack,
    Notice,
    Part,
    PartAck,
    Ping,
    Progress,
    Rates,
    Refused,
    Stats,
    StreamHello,
    StreamWelcome,
    Welcome,
)
from ams.core.messages import Patch as PatchHeader
from ams.core.patch import Patch

FOLDER = "protocol-1"
SKELETON = b"not a real graph, only fixed bytes"

PARAMETERS = (
    Parameter(name="stem.weight", shape=(2, 3, 1, 1), kind=ParameterKind.WEIGHT, exponent=-20),
    Parameter(name="stem.scale", shape=(2,), kind=ParameterKind.NORM_AFFINE, exponent=-18),
    Parameter(name="stem.mean", shape=(2,), kind=ParameterKind.NORM_STAT),
    Parameter(name="head.weight", shape=(300,), kind=ParameterKind.WEIGHT, exponent=-21),
)
LAYOUT = Layout(tuple(p for p in PARAMETERS if p.kind.streamed))
VERSION0 = (np.arange(308, dtype=np.int32) - 150) * 6553

VERSION1 = VERSION0.copy()
VERSION1[[0, 5]] += np.array([4, -8], np.int32)
VERSION1[7] += 3
VERSION1[[8, 300]] += np.array([32, -1024], np.int32)
"""Changes in all three tensors, gaps of 0, 1, 4 and 291 (which needs a continuation byte), steps 2, 0 and 5."""

VERSION2 = VERSION1.copy()
VERSION2[[3, 307]] += np.array([70_000, -1], np.int32)
"""The head now needs single units: three byte planes in the keyframe."""

CARD = ModelCard(
    name="golden",
    role="student",
    classes=("road", "car", "sky"),
    palette=((128, 64, 128), (0, 0, 142), (70, 130, 180)),
    class_map={"straße": "road", "truck": "car"},
    subset=("road", "car"),
    input=InputSpec(
        name="image", height=64, width=128, channels="bgr", scale=1 / 127.5, mean=(1.0, 1.0, 1.0), std=(0.5, 1.0, 2.0)
    ),
    output=OutputSpec(name="logits", kind="probabilities", stride=4),
    licence="Apache-2.0",
    parameters=PARAMETERS,
    weights_digest=LAYOUT.digest(VERSION0).hex(),
)
MODEL_ID = model_id(CARD, SKELETON)

PATCHES = {
    "patch": Patch.between(LAYOUT, MODEL_ID, (1, VERSION0), (2, VERSION1)),
    "keyframe": Patch.between(LAYOUT, MODEL_ID, (0, VERSION0), (3, VERSION2)),
    "empty": Patch.between(LAYOUT, MODEL_ID, (3, VERSION2), (4, VERSION2)),
}
"""Base weights: `VERSION0` for the first two (version 1 has the weights of the model file), `VERSION2` for the last."""

DENSE = np.clip(VERSION0 + (np.arange(308) * 7919 % 31 - 15) ** 3 * 64, 1 - LIMIT, LIMIT - 1).astype(np.int32)
"""Nearly all weights changed, in values from 64 to 216,000: what makes an encoder send tables of its own."""

RANS_PATCHES = PATCHES | {"dense": Patch.between(LAYOUT, MODEL_ID, (0, VERSION0), (5, DENSE))}
"""What is also recorded as entropy coder 2 has it."""

LABELS_NHW: npt.NDArray[np.uint8] = np.zeros((2, 6, 8), np.uint8)
LABELS_NHW[:, 3:, 2:7] = 1
LABELS_NHW[1, :2] = 2
LABELS_NHW[:, 5, 7] = 255

_RATES = Rates(stream="front", sampling_hz=0.5, clip_interval_s=10.0, uplink_kbps=200.0)
_CLIP_ID = "00112233445566778899aabbccddeeff"
_DIGEST = LAYOUT.digest(VERSION1).hex()
_LARGE = hashlib.sha256(b"a large message").hexdigest()

MESSAGES: dict[str, tuple[Message, bytes]] = {
    "hello": (
        Hello(
            protocols=(1, 2),
            agent="golden/1.0",
            device="cam-07",
            token="not-a-secret",
            boot_id="3f2a",
            sent_ns=123_456_789_012,
            features=("resume",),
            streams=(
                StreamHello(name="front", model_id=MODEL_ID, version=2, digest=_DIGEST, codecs=("h264", "jpeg")),
                StreamHello(name="rear", model_id=MODEL_ID, digest=LAYOUT.digest(VERSION0).hex()),
            ),
            partial=(Progress(transfer=_LARGE[:32], next=17),),
        ),
        b"",
    ),
    "welcome": (
        Welcome(
            server="gateway/1.0",
            heartbeat_s=10.0,
            features=("resume",),
            streams=(
                StreamWelcome(
                    name="front", session="cam-07/front", rates=_RATES, max_frames=32, max_clip_bytes=1_000_000
                ),
            ),
            partial=(Progress(transfer=_LARGE[:32], next=3),),
        ),
        b"",
    ),
    "clip": (
        Clip(
            stream="front",
            clip_id=_CLIP_ID,
            model_id=MODEL_ID,
            codec="h264",
            width=640,
            height=360,
            boot_id="3f2a",
            sent_ns=123_456_789_012,
            frames=(
                FrameStamp(seq=300, t_ns=110_000_000_000, version=1),
                FrameStamp(seq=330, t_ns=111_000_000_000, version=2),
            ),
            labels=DeviceLabels(frame=1, bytes=6),
        ),
        b"\x00\x00\x00\x01 video labels",
    ),
    "clip_without_labels": (
        Clip(
            stream="front",
            clip_id=_CLIP_ID,
            model_id=MODEL_ID,
            codec="jpeg",
            width=64,
            height=36,
            boot_id="3f2a",
            sent_ns=1,
            frames=(FrameStamp(seq=0, t_ns=0, version=0),),
        ),
        b"\x04\x00\x00\x00\xff\xd8\xff\xd9",
    ),
    "patch": (PatchHeader(stream="front", base=1, target=2), b"the bytes of a patch"),
    "rates": (_RATES, b""),
    "ack_clip": (Ack(stream="front", of="clip", clip_id=_CLIP_ID), b""),
    "ack_patch": (Ack(stream="front", of="patch", version=2, digest=_DIGEST), b""),
    "nack": (
        Nack(stream="front", clip_id=_CLIP_ID, code="credit", text="8 clips wait already", retry_after_s=2.5),
        b"",
    ),
    "refused": (
        Refused(
            stream="front",
            version=2,
            reason="digest",
            text="other weights than promised",
            running_version=1,
            running_digest=LAYOUT.digest(VERSION0).hex(),
        ),
        b"",
    ),
    "stats": (
        Stats(
            stream="front",
            sent_ns=123_456_789_012,
            version=2,
            camera_fps=30.0,
            inference_fps=29.5,
            uplink_kbps=180.25,
            downlink_kbps=40.0,
            frames_dropped=3,
            clips_dropped=1,
            patches_applied=7,
            patches_refused=1,
            swap_ms=8.5,
        ),
        b"",
    ),
    "stats-late": (
        Stats(
            stream="front",
            sent_ns=123_456_789_012,
            version=2,
            camera_fps=30.0,
            inference_fps=29.5,
            frames_dropped=3,
            frames_late=12,
            latency_ms=21.75,
        ),
        b"",
    ),
    "notice": (Notice(code="clip", text="clip cannot be decoded: Straße", stream="front"), b""),
    "error": (Error(code="broker_unavailable", text="try again", retry=True), b""),
    "ping": (Ping(), b""),
    "part": (Part(transfer=_LARGE[:32], index=3, count=7, size=100_000, digest=_LARGE), bytes(range(64))),
    "part_ack": (PartAck(transfer=_LARGE[:32], next=4, rewind=True), b""),
}
