// The sentence that says what is going on, and the numbers that prove it.

import { byId, say } from "./dom.js";
import { counted, gain, NONE, points } from "./format.js";

const FIGURES = ["adapted", "unadapted", "gain"];
const FIRST_LABELS_S = 15;
const FIRST_PHASE_S = 30;
const EQUAL_POINTS = 1;
const NEW_SCENE_S = 30;

function waiting(now_s, due_s, what) {
  const left = Math.ceil(due_s - now_s);
  return left > 0 ? `${what} in about ${left} s.` : `${what} any moment now.`;
}

/** A name whose words stay on one line. */
function together(name) {
  return name.replaceAll(" ", "\u00a0");
}

function sentence(state) {
  const { adapted, unadapted } = state.last_minute;
  const { now_s } = state;
  if (adapted == null || unadapted == null) {
    return state.frames.length
      ? "The camera is running; there are no new labels to compare the students by."
      : waiting(now_s, FIRST_LABELS_S, "The camera is running, its network as delivered. First labels");
  }
  if (!state.totals.phases_published) {
    return state.totals.phases
      ? "Both students are the same network until a training phase helps; the next one is on its way."
      : waiting(now_s, FIRST_PHASE_S, "Both students are still the same network. First patch");
  }
  const won = Math.round(100 * (adapted - unadapted));
  const scene = state.scenes.at(-1);
  if (won >= EQUAL_POINTS && state.scenes.length > 1 && now_s - scene.t_s < NEW_SCENE_S) {
    return `The scene has just changed to ${together(scene.name)}. Adapting was worth ${counted(won, "point")} in the `
      + "last minute.";
  }
  if (won >= EQUAL_POINTS) {
    const where = scene ? ` (${together(scene.name)})` : "";
    return `The camera’s network has learned this scene${where}: ${counted(won, "point")} better than the same network `
      + "left alone.";
  }
  if (won <= -EQUAL_POINTS) {
    return `Just now the adapted student is ${counted(-won, "point")} behind the unadapted one; the next patches `
      + "should turn that.";
  }
  return "Both students do equally well just now: there is little to learn here, or it has only begun.";
}

export class Headline {
  update(state) {
    const { adapted, unadapted } = state.last_minute;
    say("headline", sentence(state));
    say("adapted", points(adapted));
    say("unadapted", points(unadapted));
    const difference = adapted == null || unadapted == null ? null : adapted - unadapted;
    say("gain", gain(difference));
    for (const id of FIGURES) byId(id).classList.toggle("unknown", byId(id).textContent === NONE);
    byId("gain").classList.toggle("behind", difference != null && difference < 0);
  }
}
