"""What the agent says of itself at its end: one flat JSON object. Pure; knows counters and the running version."""

from __future__ import annotations

from dataclasses import replace

from edge_agent.counters import Counters, Mark
from edge_agent.model_slot import Running


def totals(counters: Counters, started: Mark, ended: Mark, running: Running) -> dict[str, float | int | str]:
    """Totals of a run; rates over the time that the source ran, from `started` to `ended`."""
    # Clips and acknowledgements of the last seconds count, the seconds that they took do not.
    final = replace(Mark.of(counters, ended.at_s), frames=ended.frames, inferences=ended.inferences)
    overall = started.until(final)
    missed = counters.frames_late + counters.frames_dropped
    return {
        "frames": final.frames,
        "inferences": final.inferences,
        "stream_s": round(ended.at_s - started.at_s, 3),
        "camera_fps": round(overall.camera_fps, 3),
        "inference_fps": round(overall.inference_fps, 3),
        "uplink_kbps": round(overall.uplink_kbps, 3),
        "downlink_kbps": round(overall.downlink_kbps, 3),
        "bytes_up": counters.bytes_up,
        "bytes_down": counters.bytes_down,
        "patches": counters.patches_applied,
        "patches_refused": counters.patches_refused,
        "digest_mismatches": counters.digest_mismatches,
        "clips": counters.clips_acknowledged,
        "clips_dropped": counters.clips_dropped,
        "frames_dropped": counters.frames_dropped,
        "frames_late": counters.frames_late,
        "late_share": round(missed / final.frames, 6) if final.frames else 0.0,
        "latency_mean_ms": round(counters.label_times.mean_ms, 3),
        "latency_p50_ms": round(counters.label_times.p50_ms, 3),
        "latency_p95_ms": round(counters.label_times.p95_ms, 3),
        "swap_ms": round(counters.swap_ms, 3),
        "version": running.version,
        "digest": running.digest.hex(),
    }
