// One labelled frame as the three networks see it. All its pictures change together or not at all.

import { byId, say } from "./dom.js";
import { points } from "./format.js";
import { difference, paint } from "./layers.js";

const NETWORKS = ["unadapted", "adapted", "teacher"];

async function picture(id, name) {
  const answer = await fetch(`/api/moments/${encodeURIComponent(id)}/${name}`);
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return createImageBitmap(await answer.blob());
}

export class Moments {
  constructor() {
    this.opacity = 0.5;
    this.onlyDifferences = false;
    this.known = "";
    this.shown = null;
    this.busy = false;
    this.tiles = NETWORKS.map((name) => byId(`tile-${name}`));
    const resized = new ResizeObserver(() => this.redraw());
    for (const tile of this.tiles) resized.observe(tile);
  }

  async update(state) {
    this.tell(state);
    const { moment } = state;
    const key = `${state.session} ${moment?.id}`;
    if (!moment || this.busy || key === this.known) return;
    this.busy = true;
    try {
      const [camera, ...labels] = await Promise.all([
        picture(moment.id, "camera.jpg"),
        ...NETWORKS.map((name) => picture(moment.id, `${name}.png`)),
      ]);
      if (this.shown) for (const old of [this.shown.camera, ...this.shown.labels]) old.close();
      this.known = key;
      this.shown = { moment, camera, labels };
      this.redraw();
      this.tell(state);
    } catch (error) {
      console.debug("a labelled frame is gone already:", error); // the next one comes within a second
    }
    this.busy = false;
  }

  tell(state) {
    if (!this.shown) return;
    const { moment } = this.shown;
    const age = Math.max(0, Math.round(state.now_s - moment.t_s));
    say("moment-age", `The camera’s frame of ${age} s ago: it had to travel and be labelled.`);
    say("moment-unadapted", points(moment.unadapted));
    say("moment-adapted", points(moment.adapted));
    say("moment-version", moment.version
      ? `Version ${moment.version}, which the device ran at that moment.`
      : "Not patched yet, so still the same network.");
    const times = state.teacher.parameters / state.student.weights;
    if (times >= 2) {
      say("moment-teacher", `${times < 10 ? times.toFixed(1) : Math.round(times)} times as large. Students learn from it `
        + "and are measured by it.");
    }
  }

  redraw() {
    if (!this.shown) return;
    const { camera, labels } = this.shown;
    const teacher = labels[2];
    this.tiles.forEach((tile, index) => {
      const layer = this.onlyDifferences && index < 2 ? difference(labels[index], teacher) : labels[index];
      paint(tile, camera, layer, this.opacity);
    });
  }

  setOpacity(value) {
    this.opacity = value;
    this.redraw();
  }

  setOnlyDifferences(value) {
    this.onlyDifferences = value;
    this.redraw();
  }
}
