// What the server's controllers have decided.

import { say } from "./dom.js";
import { NONE, short } from "./format.js";

export function showControllers(controllers) {
  say("sampling", controllers ? short(controllers.sampling_hz) : NONE);
  say("interval", controllers ? short(controllers.training_interval_s, 1) : NONE);
  say("phi", controllers ? short(controllers.phi) : NONE);
  say("budget", controllers ? short(controllers.uplink_budget_kbps, 0) : NONE);
}
