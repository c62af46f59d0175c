// A chart over stream time: lines, a shaded gap, bands of scenes, a rail of marks, and a crosshair with a tooltip.

import { timeTicks, valueTicks } from "./axis.js";
import { between, line, nearest, thinned } from "./curves.js";
import { draw, make } from "./dom.js";

const SHORTEST_SPAN_S = 60;
const LABEL_ROOM_PX = 13;
const PX_PER_POINT = 1.5;
const LETTER_PX = 6.4;
const STEPS = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10 };

export class Chart {
  /**
   * options: label, empty (text without data), lines [{key, name}], gap [key, key], domain(values), hole_s,
   * rail (whether there are marks), describe(entry, data) -> [[name, value, class], ...] with a title first.
   */
  constructor(host, options) {
    this.host = host;
    this.options = options;
    this.data = { now_s: 0, entries: [], bands: [], marks: [], level: null };
    this.svg = draw("svg", { role: "img", "aria-label": options.label, tabindex: "0" });
    this.plot = draw("g");
    this.cross = draw("g", { class: "cross" });
    this.svg.append(this.plot, this.cross);
    this.tip = make("div", "tip");
    this.tip.hidden = true;
    this.empty = make("p", "chart-empty", options.empty);
    host.append(this.svg, this.empty, this.tip);
    this.picked_s = null;
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerdown", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.pick(null));
    this.svg.addEventListener("blur", () => this.pick(null));
    this.svg.addEventListener("keydown", (event) => this.step(event));
    new ResizeObserver(() => this.redraw()).observe(host);
  }

  update(data) {
    this.data = { ...this.data, ...data };
    this.redraw();
  }

  redraw() {
    const width = this.host.clientWidth;
    const height = this.host.clientHeight;
    if (!width || !height) return;
    const { lines, rail, domain } = this.options;
    const { entries, now_s, level } = this.data;
    this.box = { left: 30, right: width - 40, top: 20, bottom: height - (rail ? 38 : 20) };
    const { left, right, top, bottom } = this.box;
    const span_s = Math.max(SHORTEST_SPAN_S, now_s);
    const values = entries.flatMap((entry) => lines.map(({ key }) => entry[key]).filter((value) => value != null));
    const [low, high] = domain(level == null ? values : [...values, level.value]);
    this.x = (t_s) => left + (t_s / span_s) * (right - left);
    this.time = (x) => ((x - left) / (right - left)) * span_s;
    this.y = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
    this.empty.hidden = values.length > 0;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.plot.replaceChildren(
      ...this.bands(), ...this.grid(span_s, [low, high], height), ...this.curves(), ...this.level(),
      ...this.rail(height), ...this.ends(),
    );
    this.showPick();
  }

  bands() {
    const { top, bottom } = this.box;
    const { bands, now_s } = this.data;
    return bands.flatMap((band, index) => {
      const from = this.x(band.t_s);
      const to = this.x(bands[index + 1]?.t_s ?? Math.max(now_s, band.t_s));
      const size = { x: from, y: 0, width: Math.max(0, to - from), height: bottom };
      const parts = [draw("rect", { class: index % 2 ? "band odd" : "band", ...size })];
      if (index) parts.push(draw("line", { class: "border", x1: from, x2: from, y1: 0, y2: bottom }));
      if (to - from > band.name.length * LETTER_PX + 10) {
        parts.push(draw("text", { class: "scene-name", x: from + 6, y: top - 8 }, band.name));
      }
      return parts;
    });
  }

  grid(span_s, domain, height) {
    const { left, right, bottom } = this.box;
    const across = valueTicks(domain).flatMap((value) => [
      draw("line", { class: "grid", x1: left, x2: right, y1: this.y(value), y2: this.y(value) }),
      draw("text", {
        class: "tick", x: left - 7, y: this.y(value) + 3.5, "text-anchor": "end",
      }, String(Math.round(value))),
    ]);
    const along = timeTicks(span_s, right - left).map(({ at, text }) => draw("text", {
      class: "tick", x: this.x(at), y: height - 4, "text-anchor": at ? "middle" : "start",
    }, text));
    return [...across, draw("line", { class: "base", x1: left, x2: right, y1: bottom, y2: bottom }), ...along];
  }

  curves() {
    const { lines, gap } = this.options;
    const most = (this.box.right - this.box.left) / PX_PER_POINT;
    const { entries, size } = thinned(this.data.entries, lines.map(({ key }) => key), most);
    const hole_s = this.options.hole_s * size;
    const fills = gap ? [1, -1].map((sign) => draw("path", {
      class: sign > 0 ? "gap won" : "gap lost", d: between(entries, ...gap, sign, this.x, this.y, hole_s),
    })) : [];
    return [...fills, ...lines.map(({ key }) => draw("path", {
      class: `line ${key}`, d: line(entries, key, this.x, this.y, hole_s),
    }))];
  }

  /** A dashed line for comparison, with its text. */
  level() {
    const { level } = this.data;
    if (!level) return [];
    const { left, right } = this.box;
    const y = this.y(level.value);
    return [
      draw("line", { class: "level", x1: left, x2: right, y1: y, y2: y }),
      draw("text", { class: "level-text", x: left + 6, y: y - 5 }, level.text),
    ];
  }

  /** One mark per training phase, below the plot. */
  rail(height) {
    const { marks } = this.data;
    if (!this.options.rail) return [];
    const y = height - 26;
    const apart = marks.length > 1 ? (this.x(marks.at(-1).t_s) - this.x(marks[0].t_s)) / (marks.length - 1) : 20;
    const r = Math.min(3.5, Math.max(1.2, apart / 3));
    return marks.map((mark) => draw("circle", {
      class: mark.published ? "mark" : "mark refused", cx: this.x(mark.t_s), cy: y, r: mark.published ? r : r * 0.85,
    }));
  }

  /** A dot and the newest value at the end of each line. */
  ends() {
    const last = this.options.lines.flatMap(({ key }) => {
      const entry = this.data.entries.findLast((candidate) => candidate[key] != null);
      return entry ? [{ key, value: entry[key], x: this.x(entry.t_s), y: this.y(entry[key]) }] : [];
    }).sort((one, other) => one.y - other.y);
    last.forEach((end, index) => {
      const above = last[index - 1];
      end.textY = above ? Math.max(end.y, above.textY + LABEL_ROOM_PX) : end.y;
    });
    return last.flatMap(({ key, value, x, y, textY }) => [
      draw("circle", { class: `end ${key}`, cx: x, cy: y, r: 3.5 }),
      draw("text", { class: `end-text ${key}`, x: x + 8, y: textY + 4 }, String(Math.round(value))),
    ]);
  }

  point(event) {
    const frame = this.svg.getBoundingClientRect();
    if (this.time) this.pick(this.time(event.clientX - frame.left));
  }

  step(event) {
    const step = STEPS[event.key];
    const { entries } = this.data;
    if (!step || !entries.length) return;
    event.preventDefault();
    const from = this.picked_s == null ? entries.length : entries.indexOf(nearest(entries, this.picked_s));
    this.pick(entries[Math.min(entries.length - 1, Math.max(0, from + step))].t_s);
  }

  pick(t_s) {
    this.picked_s = t_s;
    this.showPick();
  }

  showPick() {
    const entry = this.picked_s == null ? null : nearest(this.data.entries, this.picked_s);
    this.tip.hidden = !entry;
    this.cross.replaceChildren();
    if (!entry) return;
    const { top, bottom } = this.box;
    const x = this.x(entry.t_s);
    this.cross.append(draw("line", { x1: x, x2: x, y1: top - 4, y2: bottom }));
    for (const { key } of this.options.lines) {
      if (entry[key] == null) continue;
      this.cross.append(draw("circle", { class: `end ${key}`, cx: x, cy: this.y(entry[key]), r: 4 }));
    }
    this.tip.replaceChildren(...this.options.describe(entry, this.data).map(([name, value, kind = ""]) => {
      const row = make("div", `tip-row ${kind}`);
      row.append(make("span", "", name), make("span", "", value));
      return row;
    }));
    const room = this.host.clientWidth - this.tip.offsetWidth - 4;
    const right = x + 14;
    const place = right < room ? right : Math.max(4, x - 14 - this.tip.offsetWidth);
    this.tip.style.transform = `translate(${Math.round(place)}px, ${top}px)`;
  }
}
