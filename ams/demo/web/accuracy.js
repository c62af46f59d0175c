// The chart of both students' mIoU over time.

import { aroundPoints } from "./axis.js";
import { Chart } from "./chart.js";
import { byId } from "./dom.js";
import { bytes, clock, gain } from "./format.js";

const NEAR_S = 3;

const asPoints = (value) => (value == null ? null : 100 * value);
const shown = (value) => (value == null ? "–" : value.toFixed(1));

function describe(entry, { bands, marks }) {
  const scene = bands.findLast((band) => band.t_s <= entry.t_s);
  const rows = [[clock(entry.t_s) + (scene ? `, ${scene.name}` : ""), `version ${entry.version}`, "title"]];
  rows.push(["adapted", shown(entry.adapted), "adapted"], ["unadapted", shown(entry.unadapted), "unadapted"]);
  if (entry.adapted != null && entry.unadapted != null) {
    rows.push(["gain", gain((entry.adapted - entry.unadapted) / 100)]);
  }
  for (const mark of marks) {
    if (Math.abs(mark.t_s - entry.t_s) > NEAR_S) continue;
    rows.push(mark.published
      ? [`patch to version ${mark.version}`, bytes(mark.patch_bytes), "patch"]
      : ["phase not sent", gain(mark.gain), "patch"]);
  }
  return rows;
}

export class Accuracy {
  constructor() {
    this.chart = new Chart(byId("miou-chart"), {
      label: "mIoU over time of the adapted and the unadapted student. Left and right arrow keys read single values.",
      empty: "The first points appear about 15 s after the first frame.",
      lines: [{ key: "unadapted" }, { key: "adapted" }],
      gap: ["adapted", "unadapted"],
      domain: aroundPoints,
      hole_s: 8,
      rail: true,
      describe,
    });
  }

  update({ now_s, frames, scenes, phases }) {
    const entries = frames.map((frame) => ({
      t_s: frame.t_s, version: frame.version, adapted: asPoints(frame.adapted), unadapted: asPoints(frame.unadapted),
    }));
    this.chart.update({ now_s, entries, bands: scenes, marks: phases });
  }
}
