// Paths through a series, broken where it has no value or nothing came for a while.

/** Runs of consecutive entries for which every one of `keys` has a value. */
function runs(entries, keys, hole_s) {
  const found = [];
  let current = [];
  let last_s = -Infinity;
  for (const entry of entries) {
    const whole = keys.every((key) => entry[key] != null);
    if (current.length && (!whole || entry.t_s - last_s > hole_s)) {
      found.push(current);
      current = [];
    }
    if (whole) {
      current.push(entry);
      last_s = entry.t_s;
    }
  }
  if (current.length) found.push(current);
  return found;
}

const at = (x, y) => `${x.toFixed(1)} ${y.toFixed(1)}`;

/** The line of `key`, as the `d` of an SVG path. */
export function line(entries, key, x, y, hole_s) {
  return runs(entries, [key], hole_s)
    .map((run) => `M${run.map((entry) => at(x(entry.t_s), y(entry[key]))).join("L")}`)
    .join("");
}

/** The area between two keys where the first (`sign` 1) or the second (`sign` -1) is the higher one. */
export function between(entries, first, second, sign, x, y, hole_s) {
  const edge = sign > 0 ? Math.max : Math.min;
  return runs(entries, [first, second], hole_s)
    .filter((run) => run.length > 1)
    .map((run) => {
      const there = run.map((entry) => at(x(entry.t_s), y(edge(entry[first], entry[second]))));
      const back = run.map((entry) => at(x(entry.t_s), y(entry[second]))).reverse();
      return `M${there.join("L")}L${back.join("L")}Z`;
    })
    .join("");
}

/** At most about `most` entries: each the mean of as many neighbours as that takes. */
export function thinned(entries, keys, most) {
  const size = Math.ceil(entries.length / Math.max(1, most));
  if (size <= 1) return { entries, size: 1 };
  const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);
  const result = [];
  for (let from = 0; from < entries.length; from += size) {
    const group = entries.slice(from, from + size);
    const entry = { t_s: mean(group.map(({ t_s }) => t_s)) };
    for (const key of keys) entry[key] = mean(group.map((each) => each[key]).filter((value) => value != null));
    result.push(entry);
  }
  return { entries: result, size };
}

/** The entry whose time is nearest to `t_s`; entries are in order of time. */
export function nearest(entries, t_s) {
  let low = 0;
  let high = entries.length - 1;
  if (high < 0) return null;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (entries[middle].t_s < t_s) low = middle + 1;
    else high = middle;
  }
  const before = entries[low - 1];
  return before && t_s - before.t_s < entries[low].t_s - t_s ? before : entries[low];
}
