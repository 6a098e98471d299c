// Numbers and moments for people.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

export function bytes(count) {
  if (count === null || count === undefined) return "";
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/// A moment: milliseconds since 1970, or text of RFC 3339.
export function moment(value) {
  if (value === null || value === undefined) return "";
  return new Date(value).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/// How far something is: done, total, rate and the time that is left, as far as they are known.
export function far({ doneBytes, totalBytes, bytesPerSecond, etaSeconds }) {
  const parts = [totalBytes ? `${bytes(doneBytes)} of ${bytes(totalBytes)}` : bytes(doneBytes)];
  if (bytesPerSecond) parts.push(`${bytes(bytesPerSecond)}/s`);
  if (etaSeconds !== null && etaSeconds !== undefined) parts.push(`${duration(etaSeconds)} left`);
  return parts.join(" · ");
}

/// The last part of a path or an address.
export function baseName(path) {
  return path.replace(/[?#].*$/, "").replace(/\/+$/, "").split(/[/\\]/).pop() ?? "";
}

/// A name without its ending.
export function stem(name) {
  const at = name.lastIndexOf(".");
  return at > 0 ? name.slice(0, at) : name;
}

/// The text of a place in a job: `{ path }`, `{ upload }`, `{ url }` or `{ stream }`.
export function place(location) {
  return location ? Object.values(location)[0] : "";
}
