// What goes over the network, and what sending the whole student each time would cost.

import { fromZero } from "./axis.js";
import { Chart } from "./chart.js";
import { byId, say } from "./dom.js";
import { bytes, clock, counted, kbps } from "./format.js";

const RECENT_S = 60;
const FLOAT16_BYTES = 2;

/** Mean of `key` over the last minute's entries. */
function recent(links, key, now_s) {
  const last = links.filter((link) => link.t_s >= now_s - RECENT_S);
  const of = last.length ? last : links.slice(-1);
  return of.length ? of.reduce((sum, link) => sum + link[key], 0) / of.length : null;
}

export class Traffic {
  constructor() {
    this.chart = new Chart(byId("traffic-chart"), {
      label: "Kilobits per second up and down over time. Left and right arrow keys read single values.",
      empty: "Measured every few seconds.",
      lines: [{ key: "up_kbps" }, { key: "down_kbps" }],
      domain: (values) => fromZero(values, 10),
      hole_s: 60,
      rail: false,
      describe: (link) => [
        [clock(link.t_s), "kbps", "title"],
        ["up", kbps(link.up_kbps), "up_kbps"],
        ["down", kbps(link.down_kbps), "down_kbps"],
      ],
    });
  }

  update({ now_s, links, totals, student }) {
    say("up-kbps", kbps(recent(links, "up_kbps", now_s)));
    say("down-kbps", kbps(recent(links, "down_kbps", now_s)));
    say("up-total", `${bytes(totals.bytes_up)} so far`);
    say("down-total", `${bytes(totals.bytes_down)} so far`);
    const whole = student.weights * FLOAT16_BYTES;
    const naive = totals.phases * whole;
    const naive_kbps = naive && now_s > 0 ? (8 * naive) / now_s / 1000 : null;
    const level = naive_kbps == null ? null : { value: naive_kbps, text: "down, if every phase sent all weights" };
    this.chart.update({ now_s, entries: links, level });
    if (!naive) {
      say("naive", `For comparison: all weights as float16 would be ${bytes(whole)}, each time.`);
      return;
    }
    const times = naive / Math.max(1, totals.bytes_down);
    const less = times >= 1.5 ? `: ${times < 10 ? times.toFixed(1) : Math.round(times)} times the downlink’s bytes` : "";
    say("naive", `All weights as float16 after each of ${counted(totals.phases, "phase")}: ${bytes(naive)}, `
      + `${kbps(naive_kbps)} kbps down${less}.`);
  }
}
