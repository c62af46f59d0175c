// Scales of a chart: where its ticks lie.

import { clock } from "./format.js";

const TIME_STEPS_S = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
const TICK_ROOM_PX = 68;

/** Ticks of the time axis from 0 to `span_s`, on round times and not closer than they can be read. */
export function timeTicks(span_s, width) {
  const step = TIME_STEPS_S.find((seconds) => (seconds / span_s) * width >= TICK_ROOM_PX) ?? 7200;
  const ticks = [];
  for (let at = 0; at <= span_s; at += step) ticks.push({ at, text: clock(at) });
  return ticks;
}

/** A step of 1, 2 or 5 times a power of ten that cuts `span` into at most `most` pieces. */
function roundStep(span, most) {
  const power = 10 ** Math.floor(Math.log10(span / most));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => span / step <= most);
}

/** Ticks of the value axis, for a domain [low, high]. */
export function valueTicks([low, high], most = 4) {
  const step = roundStep(high - low, most);
  const ticks = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) ticks.push(at);
  return ticks;
}

/** The smallest round domain from zero that holds all values. */
export function fromZero(values, least) {
  const top = Math.max(least, ...values);
  const step = roundStep(top, 4);
  return [0, Math.ceil((top * 1.02) / step) * step];
}

/** A round domain inside 0..100 around all values, never narrower than 30. */
export function aroundPoints(values) {
  if (!values.length) return [0, 100];
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  low = Math.max(0, Math.floor((low - 4) / 10) * 10);
  high = Math.min(100, Math.ceil((high + 4) / 10) * 10);
  while (high - low < 30) {
    if (high < 100) high += 10;
    else low -= 10;
  }
  return [low, high];
}
