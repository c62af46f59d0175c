// Numbers and times as people read them.

const grouped = new Intl.NumberFormat("en-GB");

export const NONE = "–";

/** 0..1 as points 0..100 with one decimal. */
export function points(value) {
  return value == null ? NONE : (100 * value).toFixed(1);
}

/** A difference of two mIoU values in points, always with its sign. */
export function gain(value) {
  if (value == null) return NONE;
  const text = (100 * value).toFixed(1);
  if (Number(text) === 0) return "0.0";
  return value > 0 ? `+${text}` : text;
}

/** 152000 as 152,000. */
export function count(value) {
  return value == null ? NONE : grouped.format(value);
}

/** "1 patch", "2 patches". */
export function counted(value, one, many = `${one}s`) {
  return `${count(value)}\u00a0${value === 1 ? one : many}`;
}

export function bytes(value) {
  if (value == null) return NONE;
  if (value < 1000) return `${Math.round(value)} B`;
  if (value < 99_950) return `${(value / 1000).toFixed(1)} kB`;
  if (value < 999_500) return `${Math.round(value / 1000)} kB`;
  if (value < 99.95e6) return `${(value / 1e6).toFixed(1)} MB`;
  if (value < 999.5e6) return `${Math.round(value / 1e6)} MB`;
  return `${(value / 1e9).toFixed(2)} GB`;
}

export function kbps(value) {
  if (value == null) return NONE;
  return value < 99.95 ? value.toFixed(1) : String(Math.round(value));
}

/** 0.044 as "4.4 %". */
export function percent(value) {
  return `${(100 * value).toFixed(1)} %`;
}

/** A number with as few decimals as it needs, at most `digits`. */
export function short(value, digits = 2) {
  return value == null ? NONE : String(Number(value.toFixed(digits)));
}

/** Stream seconds as m:ss or h:mm:ss. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const pad = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
}
