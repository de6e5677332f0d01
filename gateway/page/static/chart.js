// A line over time, the newest value at the right.

import {element, svg} from "./dom.js";

const [WIDTH, HEIGHT] = [600, 96];

/** numSlots: values that fill the width. */
export function chart(title, sub, values, numSlots) {
  const top = Math.max(1, ...values);
  const x = (i) => WIDTH * (numSlots - values.length + i) / Math.max(1, numSlots - 1);
  const y = (value) => HEIGHT - (HEIGHT - 4) * value / top;
  const points = values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`);
  const drawn = svg("svg", {class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `${title}: now ${Math.round(values.at(-1) ?? 0)}, most ${Math.round(Math.max(0, ...values))}`});
  if (points.length > 1) {
    const ends = [`${x(0).toFixed(1)},${HEIGHT}`, ...points, `${x(values.length - 1).toFixed(1)},${HEIGHT}`];
    drawn.append(svg("polygon", {class: "area", points: ends.join(" ")}), svg("polyline", {class: "line", points: points.join(" ")}));
  }
  const most = Math.round(Math.max(0, ...values)).toLocaleString("en");
  return element("section", {class: "panel"},
    element("h3", {}, element("span", {textContent: title}), element("span", {textContent: `${sub}, at most ${most}`})), drawn);
}
