// Figures in Prometheus' text format, and what two looks at them say: rates and quantiles.

const LINE = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** Return a Sample of a page of figures. at: seconds. */
export function parse(text, at) {
  const series = new Map();
  for (const line of text.split("\n")) {
    const found = line.startsWith("#") ? null : LINE.exec(line);
    if (!found) continue;
    const [, name, labels, value] = found;
    if (!series.has(name)) series.set(name, []);
    series.get(name).push({labels: labelsOf(labels ?? ""), value: numberOf(value)});
  }
  return new Sample(series, at);
}

/** The figures at one time. Labels narrow what is looked at. */
export class Sample {
  constructor(series, at) {
    Object.assign(this, {series, at});
  }

  rows(name, labels = {}) {
    const wanted = Object.entries(labels);
    return (this.series.get(name) ?? []).filter((row) => wanted.every(([key, value]) => row.labels[key] === value));
  }

  total(name, labels) {
    return this.rows(name, labels).reduce((sum, row) => sum + row.value, 0);
  }
}

/** What happened between two samples. */
export class Span {
  constructor(before, after) {
    Object.assign(this, {before, after});
  }

  growth(name, labels) {
    const grown = this.after.total(name, labels) - this.before.total(name, labels);
    return Math.max(0, grown); // a group that was started again counts from nothing
  }

  rate(name, labels) {
    const seconds = this.after.at - this.before.at;
    return seconds > 0 ? this.growth(name, labels) / seconds : 0;
  }

  /** The value that `share` of a histogram's observations stay below; null if there are none. */
  quantile(name, share) {
    const bounds = new Map();
    for (const {labels} of this.after.rows(`${name}_bucket`)) bounds.set(labels.le, numberOf(labels.le));
    const buckets = [...bounds].sort((a, b) => a[1] - b[1]).map(([le, bound]) => [bound, this.growth(`${name}_bucket`, {le})]);
    const all = buckets.at(-1)?.[1] ?? 0;
    if (!all) return null;
    let [low, below] = [0, 0];
    for (const [bound, count] of buckets) {
      if (count >= share * all) {
        return bound === Infinity ? low : low + (bound - low) * (share * all - below) / (count - below || 1);
      }
      [low, below] = [bound, count];
    }
    return low;
  }
}

function labelsOf(text) {
  const labels = {};
  for (const [, name, value] of text.matchAll(LABEL)) {
    labels[name] = value.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));
  }
  return labels;
}

function numberOf(text) {
  if (text === "+Inf") return Infinity;
  return text === "-Inf" ? -Infinity : Number(text);
}
