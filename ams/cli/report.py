"""The picture of a run: the last labelled frame as camera, teacher, unadapted and adapted student see it, and mIoU
over time with the phases that were published.

Everything in it is read from the broker's logs: the clip as the labeler got it, the teacher's labels, and the exact
weights that the device ran, rebuilt from the patch log.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ams.core import label_map
from ams.core.history import VersionHistory
from ams.core.messages import Clip
from ams.core.patch import Patch
from ams.errors import AmsError
from ams.models.bundle import ModelBundle
from ams.ports import Broker
from ams.run_record import RunRecord

OVERLAY = 0.6
"""Share of the label's colour in an overlay."""

PICTURE_INCHES = 14.0
CHART_INCHES = 4.6

Image = npt.NDArray[np.uint8]


async def draw(path: Path, broker: Broker, sid: str, student: ModelBundle, record: RunRecord) -> None:
    """Write the report of session `sid` as PNG. Raises AmsError when nothing was labelled."""
    labelled = [entry for entry in await broker.labelled.read(sid, count=10_000) if not entry.error]
    if not labelled:
        raise AmsError("no clip was labelled, so there is nothing to draw; see the labeler's log")
    history = VersionHistory(student.layout, student.model_id, student.version0)
    for entry in await broker.patches.read(sid, count=10_000):
        if entry.kind != "takeover":
            history.replay(Patch.decode(entry.patch, student.layout))
    newest = labelled[-1]
    clip = Clip.model_validate_json(newest.meta)
    panels = _panels(student, history, clip, newest.payload, newest.labels)
    _plot(path, panels, student, record)


def _panels(
    student: ModelBundle, history: VersionHistory, clip: Clip, payload: bytes, labels: bytes
) -> dict[str, tuple[Image, npt.NDArray[np.uint8] | None]]:
    """Title to (camera image, label map or None), for the last frame of a clip."""
    from ams.learn.student import Student
    from ams.video import decode_clip, resize

    video, _ = clip.parts_of(payload)
    spec = student.card.input
    frames = decode_clip(video, codec=clip.codec, frames=len(clip.frames), width=clip.width, height=clip.height)
    frame_NHWC = resize(frames[-1:], width=spec.width, height=spec.height)
    version = clip.frames[-1].version
    module = Student.from_bundle(student)
    module.load(history.weights_at(0))
    unadapted = module.predict(frame_NHWC)[0]
    module.load(history.weights_at(version))
    adapted = module.predict(frame_NHWC)[0]
    image = frame_NHWC[0]
    return {
        "camera": (image, None),
        "teacher": (image, label_map.decode(labels)[-1]),
        "unadapted student": (image, unadapted),
        f"adapted student (version {version})": (image, adapted),
    }


def overlay(image: Image, labels: npt.NDArray[np.uint8], palette: tuple[tuple[int, int, int], ...]) -> Image:
    """The image [H, W, 3] with each labelled pixel tinted in its class's colour; ignored pixels stay as they are."""
    colours = np.zeros((256, 3), np.float32)
    colours[: len(palette)] = palette
    known = (labels < len(palette))[..., None]
    tinted = (1 - OVERLAY) * image + OVERLAY * colours[labels]
    return np.where(known, tinted, image).astype(np.uint8)


def _unit(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255


def _plot(
    path: Path,
    panels: dict[str, tuple[Image, npt.NDArray[np.uint8] | None]],
    student: ModelBundle,
    record: RunRecord,
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch as Swatch

    card = student.card
    palette = card.palette or tuple((int(37 * i) % 256, int(91 * i) % 256, int(151 * i) % 256) for i in range(256))
    height, width = next(iter(panels.values()))[0].shape[:2]
    panel_inches = PICTURE_INCHES / len(panels) * height / width + 0.7
    figure = Figure(figsize=(PICTURE_INCHES, panel_inches + CHART_INCHES), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplot_mosaic([list("abcd"), list("mmmm")], height_ratios=[panel_inches, CHART_INCHES])
    for axis, (title, (image, labels)) in zip((axes[key] for key in "abcd"), panels.items(), strict=True):
        axis.imshow(image if labels is None else overlay(image, labels, palette))
        axis.set_title(title, fontsize=11)
        axis.set_axis_off()
    chart = axes["m"]
    start_s = record.frames[0].t_s if record.frames else 0.0
    for which, colour in (("unadapted", "#9aa0a6"), ("adapted", "#0b7a75")):
        points = [(f.t_s - start_s, 100 * v) for f in record.frames if (v := getattr(f, which)) is not None]
        if points:
            chart.plot(*zip(*points, strict=True), color=colour, linewidth=2.2, label=f"{which} student")
    for phase in record.phases:
        style: dict[str, Any] = (
            {"color": "#e07a1f", "linestyle": "-"} if phase.published else {"color": "#c0c0c0", "linestyle": ":"}
        )
        chart.axvline(phase.t_s - start_s, linewidth=1, zorder=0, **style)
    chart.plot([], [], color="#e07a1f", label="phase begins, its patch is published")
    chart.plot([], [], color="#c0c0c0", linestyle=":", label="phase refused by the gate")
    chart.set(
        xlabel="stream time, s", ylabel="mIoU over 10 s, points", ylim=(0, 100),
        title="Against the teacher, with the version that the device ran at capture",
    )  # fmt: skip
    chart.grid(alpha=0.25)
    chart.legend(loc="lower right", fontsize=9)
    chart.spines[["top", "right"]].set_visible(False)
    shown = [card.classes[index] for index in card.subset_indices]
    swatches = [Swatch(color=_unit(palette[card.classes.index(name)]), label=name) for name in shown]
    figure.legend(handles=swatches, loc="outside lower center", ncols=min(10, len(swatches)), fontsize=9, frameon=False)
    figure.savefig(path)
