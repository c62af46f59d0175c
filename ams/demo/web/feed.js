// The session's state: asks the server once a second and keeps what it has been told so far.

const LISTS = ["frames", "phases", "links"];
const EVERY_MS = 1000;
const TIMEOUT_MS = 8000;
const MOST = 8000; // entries of a list that are kept: the server keeps no more either

export class Feed {
  /** `heard(state)` runs after every answer, `failed()` after every question without one. */
  constructor(heard, failed) {
    this.heard = heard;
    this.failed = failed;
    this.forget();
  }

  forget() {
    this.session = null;
    this.lists = { frames: [], phases: [], links: [] };
    this.counts = { frames: 0, phases: 0, links: 0 }; // what the server has told since it began, forgotten entries too
  }

  start() {
    this.turn();
  }

  async turn() {
    const began = performance.now();
    let state = null;
    try {
      state = await this.ask();
    } catch (error) {
      console.debug("state:", error);
      this.failed();
    }
    if (state) this.heard(state);
    setTimeout(() => this.turn(), Math.max(200, EVERY_MS - (performance.now() - began)));
  }

  async ask() {
    const have = LISTS.map((name) => `${name}=${this.counts[name]}`).join("&");
    const answer = await fetch(`/api/state?${have}`, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const state = await answer.json();
    const renewed = this.session !== null && this.session !== state.session;
    if (renewed && !state.reset) {
      this.forget(); // another session, but only its newest entries: ask for all of them
      return this.ask();
    }
    if (state.reset) this.forget();
    this.session = state.session;
    this.counts = state.counts;
    for (const name of LISTS) this.add(this.lists[name], state[name]);
    return { ...state, ...this.lists };
  }

  /** Entries come in order, but for those of clips that an outage held up. */
  add(list, entries) {
    const late = entries.length > 0 && list.length > 0 && entries[0].t_s < list[list.length - 1].t_s;
    list.push(...entries);
    if (late) list.sort((a, b) => a.t_s - b.t_s);
    if (list.length > MOST) list.splice(0, list.length - MOST);
  }
}
