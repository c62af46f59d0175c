// The training phases, newest first: patches that went to the device, and those that the gate held back.

import { byId, make, say } from "./dom.js";
import { bytes, clock, count, counted, gain, percent } from "./format.js";

const SHOWN = 10;

function row(phase, weights) {
  const item = make("li", phase.published ? "patch-row" : "patch-row refused");
  item.append(make("time", "", clock(phase.t_s)));
  if (phase.published) {
    item.append(
      make("span", "patch-version", `v${phase.version}`),
      make("span", "", bytes(phase.patch_bytes)),
      make("span", "", `${count(phase.changed)} (${percent(phase.changed / weights)})`),
    );
  } else {
    item.append(make("span", "patch-reason", "not sent: it would not have helped"));
  }
  item.append(make("span", "patch-gain", gain(phase.gain)));
  return item;
}

export class Patches {
  constructor() {
    this.list = byId("patches");
    this.known = "";
    this.newest_s = null;
  }

  update({ session, phases, student, device, totals }) {
    byId("patches-empty").hidden = phases.length > 0;
    const key = `${session} ${phases.length}`;
    if (key !== this.known) {
      this.known = key;
      const last = phases.slice(-SHOWN).reverse();
      this.list.replaceChildren(...last.map((phase) => row(phase, student.weights)));
      const newest_s = last[0]?.t_s ?? null;
      if (this.newest_s !== null && newest_s !== this.newest_s) this.list.firstElementChild?.classList.add("new");
      this.newest_s = newest_s;
    }
    if (!totals.phases) return;
    const wrong = totals.digest_mismatches;
    const proof = wrong ? counted(wrong, "digest mismatch", "digest mismatches") : "all bit for bit, by SHA-256";
    const refused = device?.patches_refused ? `, ${device.patches_refused} refused` : "";
    const swap = device?.swap_ms ? ` Swapped in ${device.swap_ms.toFixed(1)} ms between two frames.` : "";
    say("patches-foot", `${totals.phases_published} of ${counted(totals.phases, "phase")} sent; `
      + `${device?.patches_applied ?? 0} applied${refused}, ${proof}.${swap}`);
  }
}
