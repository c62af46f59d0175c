"""The agent: one camera, one student, one uplink, and the threads between them.

    source thread -> inference thread -> encoder thread -> event loop <-> gateway
                          ^      |                             |
                     model slot  '-> preview (if watched)      |
                          ^                                    |
                          '---------------  patch thread  <----'

The inference thread takes the newest frame, runs the student and samples. It waits for the camera and for nothing
else: what it hands on goes through a queue of bounded length whose oldest entry is dropped. Knows no socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ams.clock import ScaledClock
from ams.core.messages import MAX_FRAMES_PER_CLIP, Rates, Stats, StreamWelcome
from ams.errors import BackendError
from ams.video import resize
from ams.video.reader import FrameHWC
from edge_agent.backoff import Backoff
from edge_agent.counters import Counters, Mark
from edge_agent.model_slot import ModelSlot, Refusal
from edge_agent.packer import ClipPacker
from edge_agent.preview import Preview
from edge_agent.runtime import LabelsHW
from edge_agent.sampler import SampledClip, Sampler
from edge_agent.shot import Shot
from edge_agent.sources import Frame, Source
from edge_agent.spool import Spool
from edge_agent.totals import totals
from edge_agent.uplink import Identity, Uplink

log = logging.getLogger(__name__)

FIRST_SAMPLING_HZ = 1.0
FIRST_CLIP_INTERVAL_S = 10.0
FIRST_UPLINK_KBPS = 200.0
"""What holds until the server says otherwise: the paper's T_update, its highest sampling rate, its uplink."""

CLIPS_WAITING = 2
"""Clips that may wait for the encoder."""

POLL_REAL_S = 0.2
"""How long a thread waits before it looks whether the agent is to stop."""

STOP_DRAIN_REAL_S = 2.0
"""How long a stop from outside waits for the last clips."""


@dataclass(frozen=True)
class Sizes:
    """Pixels of the student's input and of the frames that are sent."""

    input_width: int
    input_height: int
    clip_width: int
    clip_height: int


class Agent:
    """Runs one stream until its source ends or `stop` is called."""

    def __init__(
        self,
        source: Source,
        slot: ModelSlot,
        packer: ClipPacker,
        spool: Spool,
        identity: Identity,
        clock: ScaledClock,
        sizes: Sizes,
        *,
        drain_real_s: float,
        preview: Preview | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self.counters = Counters()
        self._source = source
        self._slot = slot
        self._packer = packer
        self._clock = clock
        self._sizes = sizes
        self._preview = preview
        self._stream = identity.stream
        self._drain_real_s = drain_real_s
        self._sampler = Sampler(sampling_hz=FIRST_SAMPLING_HZ, clip_interval_s=FIRST_CLIP_INTERVAL_S)
        self._max_frames = MAX_FRAMES_PER_CLIP
        self._sampled: queue.Queue[SampledClip] = queue.Queue(CLIPS_WAITING)
        self._stopping = threading.Event()
        self._source_done = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started_s = 0.0
        self._mark = Mark(0.0)
        self._uplink = Uplink(
            identity, slot, spool, self.counters, clock,
            on_welcome=self._on_welcome, on_rates=self._on_rates, report=self._report, backoff=backoff,
        )  # fmt: skip

    def stop(self) -> None:
        """Finish the frame at hand, send what there is and return from `run` soon. From any thread."""
        self._drain_real_s = min(self._drain_real_s, STOP_DRAIN_REAL_S)
        self._stopping.set()

    async def run(self) -> dict[str, float | int | str]:
        """Run to the end; returns the totals. Raises BackendError when no version of the model runs any more."""
        self._loop = asyncio.get_running_loop()
        self._source.start()
        self._started_s = self._clock.now_s()
        self._mark = Mark(self._started_s)
        try:
            async with asyncio.TaskGroup() as group:
                uplink = group.create_task(self._uplink.run())
                packing = group.create_task(asyncio.to_thread(self._pack_clips))
                await asyncio.to_thread(self._infer)
                ended = Mark.of(self._count_frames(), self._clock.now_s())
                await packing  # its clips were handed to the loop before its end was
                if not await self._uplink.clips.drained(self._drain_real_s):
                    log.warning("the last clips did not reach the gateway within %.0f s", self._drain_real_s)
                uplink.cancel()
        except ExceptionGroup as group:
            _, others = group.split(BackendError)
            if others is None:
                raise group.exceptions[0] from None
            raise
        finally:
            self._stopping.set()
            self._source_done.set()
            self._source.close()
        return totals(self.counters, Mark(self._started_s), ended, self._slot.current)

    # -- the inference thread ----------------------------------------------------------------------------------

    def _infer(self) -> None:
        index = -1
        try:
            while not self._stopping.is_set():
                frame = self._source.latest(index, timeout_s=POLL_REAL_S)
                if frame is not None:
                    index = frame.index
                    self._infer_on(frame)
                elif self._source.ended:
                    break
            last = self._sampler.flush()
            if last is not None:
                self._hand_over(last)
        finally:
            self._source_done.set()

    def _infer_on(self, frame: Frame) -> None:
        image_HWC = resize(frame.image[None], width=self._sizes.input_width, height=self._sizes.input_height)[0]
        self._slot.canary_HWC = image_HWC
        version, labels_HW = self._predict(image_HWC)
        ready_ns = self._clock.now_ns()
        self.counters.labelled(frame.t_ns, ready_ns, period_s=self._source.period_s)
        self._show(frame, ready_ns, version, image_HWC, labels_HW)
        complete = self._sampler.close_if_complete(frame.t_ns)
        if complete is not None:
            self._hand_over(complete)
        if self._sampler.is_due(frame.t_ns):
            width, height = self._sizes.clip_width, self._sizes.clip_height
            if (height, width) != image_HWC.shape[:2]:
                image_HWC = resize(frame.image[None], width=width, height=height)[0]
            self._sampler.add(frame.t_ns, version, image_HWC, labels_HW)

    def _show(self, frame: Frame, ready_ns: int, version: int, image_HWC: FrameHWC, labels_HW: LabelsHW) -> None:
        """Let people watch; costs one reference, and nothing while nobody does."""
        if self._preview is None or not self._preview.watched:
            return
        self._preview.show(
            Shot(
                captured_ns=frame.t_ns,
                ready_ns=ready_ns,
                version=version,
                image_HWC=image_HWC,
                labels_HW=labels_HW,
                caption=frame.caption,
                frames=self._source.frames,
                late=self.counters.frames_late,
                dropped=self._source.dropped,
                label_times=self.counters.label_times,
            )
        )

    def _predict(self, image_HWC: FrameHWC) -> tuple[int, LabelsHW]:
        """The version that ran and its label map. A version that fails gives way to the one before it."""
        running = self._slot.current
        try:
            return running.version, running.runtime.predict(image_HWC)
        except BackendError as error:
            if not self._slot.roll_back():
                raise
            log.error("version %d failed, back to version %d: %s", running.version, self._slot.current.version, error)
            before = self._slot.current
            outcome = Refusal("backend", str(error)[:500], before.version, before.digest)
            self._in_loop(partial(self._uplink.patches.report_reverted, running.version, outcome))
            return before.version, before.runtime.predict(image_HWC)

    def _hand_over(self, clip: SampledClip) -> None:
        """Give a clip to the encoder without waiting for it."""
        while True:
            try:
                self._sampled.put_nowait(clip)
                return
            except queue.Full:
                try:
                    self._sampled.get_nowait()
                except queue.Empty:
                    continue
                log.warning("a clip was dropped: the encoder does not keep up")
                self._in_loop(self._count_dropped_clip)

    # -- the encoder thread ------------------------------------------------------------------------------------

    def _pack_clips(self) -> None:
        while True:
            # Looked up first: what was sampled before the source was done is in the queue by then.
            done = self._source_done.is_set()
            try:
                clip = self._sampled.get(timeout=0 if done else POLL_REAL_S)
            except queue.Empty:
                if done:
                    return
                continue
            packed = self._packer.pack(clip, self._clock.now_ns())
            if packed is None:
                self._in_loop(self._count_dropped_clip)
            else:
                self._in_loop(partial(self._uplink.clips.offer, packed))

    # -- the event loop ----------------------------------------------------------------------------------------

    def _in_loop(self, call: Callable[[], None]) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: the agent has ended, nobody wants to know
            self._loop.call_soon_threadsafe(call)

    def _count_dropped_clip(self) -> None:
        self.counters.clips_dropped += 1

    def _on_welcome(self, welcome: StreamWelcome) -> None:
        self._max_frames = welcome.max_frames
        self._packer.max_clip_bytes = welcome.max_clip_bytes

    def _on_rates(self, rates: Rates) -> None:
        self._sampler.set_rates(
            sampling_hz=rates.sampling_hz, clip_interval_s=rates.clip_interval_s, max_frames=self._max_frames
        )
        self._packer.set_uplink_kbps(rates.uplink_kbps)
        log.info(
            "rates: %.2f Hz, a clip every %.1f s, %.0f kbit/s up",
            rates.sampling_hz, rates.clip_interval_s, rates.uplink_kbps,
        )  # fmt: skip

    def _count_frames(self) -> Counters:
        self.counters.frames = self._source.frames
        self.counters.frames_dropped = self._source.dropped
        return self.counters

    def _report(self) -> Stats:
        """Rates since the last report, totals since the start."""
        counters = self._count_frames()
        now = Mark.of(counters, self._clock.now_s())
        since, self._mark = self._mark.until(now), now
        return Stats(
            stream=self._stream,
            sent_ns=self._clock.now_ns(),
            version=self._slot.current.version,
            camera_fps=since.camera_fps,
            inference_fps=since.inference_fps,
            uplink_kbps=since.uplink_kbps,
            downlink_kbps=since.downlink_kbps,
            frames_dropped=counters.frames_dropped,
            frames_late=counters.frames_late,
            latency_ms=max(0.0, counters.label_times.p50_ms),
            clips_dropped=counters.clips_dropped,
            patches_applied=counters.patches_applied,
            patches_refused=counters.patches_refused,
            swap_ms=counters.swap_ms,
        )
