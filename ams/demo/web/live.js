// The live picture: frames over a WebSocket, drawn as they come, reconnecting for ever.

import { byId, say } from "./dom.js";
import { short } from "./format.js";
import { paint } from "./layers.js";

const SILENCE_MS = 4000;
const HOPELESS_S = 15;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;

/** One binary message: header length, header, JPEG, PNG. */
function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const start = 4 + length;
  const jpeg = new Blob([new Uint8Array(buffer, start, header.jpeg)], { type: "image/jpeg" });
  const png = new Blob([new Uint8Array(buffer, start + header.jpeg, header.labels)], { type: "image/png" });
  return { header, jpeg, png };
}

export class Live {
  /** `changed(state, detail)` runs when the connection is "connecting", "live" or "lost". */
  constructor(changed) {
    this.changed = changed;
    this.canvas = byId("live");
    this.screen = this.canvas.parentElement;
    this.opacity = 0.5;
    this.shown = null;
    this.waiting = null;
    this.busy = false;
    this.heardAt = 0;
    this.wait = FIRST_WAIT_MS;
    this.state = "connecting";
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
    setInterval(() => this.watch(), 1000);
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/api/live`);
    this.socket.binaryType = "arraybuffer";
    this.openedAt = performance.now();
    this.socket.onmessage = (event) => this.receive(event.data);
    this.socket.onclose = () => {
      this.turn(this.heardAt ? "lost" : "connecting", "trying again");
      setTimeout(() => this.connect(), this.wait * (0.8 + 0.4 * Math.random()));
      this.wait = Math.min(LONGEST_WAIT_MS, this.wait * 1.7);
    };
  }

  receive(data) {
    this.heardAt = performance.now();
    this.wait = FIRST_WAIT_MS;
    if (document.hidden) {
      this.turn("live", "");
      return;
    }
    this.waiting = data; // only the newest: a slow browser drops frames, it does not fall behind
    if (!this.busy) this.show();
  }

  async show() {
    this.busy = true;
    while (this.waiting) {
      const data = this.waiting;
      this.waiting = null;
      try {
        const { header, jpeg, png } = unpack(data);
        const [camera, labels] = await Promise.all([createImageBitmap(jpeg), createImageBitmap(png)]);
        this.shown?.camera.close();
        this.shown?.labels.close();
        this.shown = { camera, labels };
        this.redraw();
        this.caption(header);
        this.turn("live", "");
      } catch (error) {
        console.warn("a live frame could not be shown:", error);
      }
    }
    this.busy = false;
  }

  caption(header) {
    const version = String(header.version);
    const before = byId("version").textContent;
    say("version", version);
    if (before !== version && before !== "–" && Number(version) > 0) this.flash();
    say("fps", header.fps == null ? "–" : header.fps.toFixed(1));
    say("latency", short(header.latency_ms, 1));
    say("late", short(header.late, 0));
    say("scene", header.caption || "");
    byId("scene").hidden = !header.caption;
  }

  /** A patch has just been swapped in: the picture's frame lights up for a moment. */
  flash() {
    this.screen.classList.remove("swapped");
    void this.screen.offsetWidth; // restarts the animation
    this.screen.classList.add("swapped");
  }

  redraw() {
    if (this.shown) paint(this.canvas, this.shown.camera, this.shown.labels, this.opacity);
  }

  setOpacity(value) {
    this.opacity = value;
    this.redraw();
  }

  watch() {
    const since = this.heardAt || this.openedAt;
    const silent = (performance.now() - since) / 1000;
    if (silent * 1000 < SILENCE_MS) return;
    if (silent > HOPELESS_S && this.socket.readyState === WebSocket.OPEN) this.socket.close();
    if (this.heardAt) this.turn("lost", `no picture for ${Math.round(silent)} s`);
    else this.turn("connecting", "the camera has not sent a picture yet");
  }

  turn(state, detail) {
    this.state = state;
    this.screen.dataset.state = state;
    const veil = byId("veil");
    veil.hidden = state === "live";
    if (state === "lost") say(veil, "Connection lost. This is the last picture; trying to reconnect.");
    else say(veil, "Waiting for the first frame");
    this.changed(state, detail);
  }
}
