// Puts the page together: one feed of state, one live picture, and what each part shows of them.

import { Accuracy } from "./accuracy.js";
import { showControllers } from "./controllers.js";
import { byId, say } from "./dom.js";
import { Feed } from "./feed.js";
import { clock, count } from "./format.js";
import { Headline } from "./headline.js";
import { Legend } from "./legend.js";
import { Live } from "./live.js";
import { Moments } from "./moments.js";
import { Patches } from "./patches.js";
import { offerThemes } from "./theme.js";
import { Traffic } from "./traffic.js";

const STATE_LOST_AFTER = 3;

const headline = new Headline();
const legend = new Legend();
const moments = new Moments();
const patches = new Patches();
const accuracy = new Accuracy();
const traffic = new Traffic();

let picture = { state: "connecting", detail: "" };
let unanswered = 0;

function showStatus() {
  const cut = unanswered >= STATE_LOST_AFTER;
  const state = cut && picture.state === "live" ? "lost" : picture.state;
  byId("status-box").dataset.state = state;
  document.body.dataset.state = state;
  say("status", state);
  say("status-detail", cut && picture.state === "live" ? "the figures do not arrive" : picture.detail);
}

function showFooter({ source, broker, student, teacher }) {
  say("source", source);
  say("broker", broker);
  say("student", `${student.name}, ${count(student.weights)} weights`);
  say("teacher", `${teacher.name}, ${count(teacher.parameters)} parameters`);
}

function heard(state) {
  unanswered = 0;
  showStatus();
  say("session", state.session);
  say("clock", clock(state.now_s));
  byId("trouble").hidden = !state.trouble;
  say("trouble", state.trouble);
  for (const part of [headline, moments, accuracy, traffic, patches]) part.update(state);
  legend.update(state.student);
  showControllers(state.controllers);
  showFooter(state);
}

const live = new Live((state, detail) => {
  picture = { state, detail };
  showStatus();
});

byId("opacity").addEventListener("input", (event) => {
  const opacity = event.target.valueAsNumber / 100;
  live.setOpacity(opacity);
  moments.setOpacity(opacity);
});
byId("differences").addEventListener("change", (event) => moments.setOnlyDifferences(event.target.checked));

offerThemes();
live.connect();
new Feed(heard, () => {
  unanswered += 1;
  showStatus();
}).start();
