// Builds elements. Text only ever becomes text: nothing here, or anywhere, parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element. properties: of the element; `class`, `data` and names with a dash are attributes. */
export function element(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A bar that is `share` (0 to 1) full. */
export function meter(share) {
  const width = 100 * Math.max(0, Math.min(1, share || 0));
  return svg("svg", {class: "meter", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true"},
    svg("rect", {width: 100, height: 8, rx: 3}), svg("rect", {width, height: 8, rx: 3}));
}

export const byId = (id) => document.getElementById(id);

/** Tell those who hear the page instead of seeing it. */
export function announce(words) {
  byId("announcer").textContent = words;
}

let ids = 0;
export const newId = (stem) => `${stem}-${++ids}`;

function fill(made, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (name === "data") Object.assign(made.dataset, value);
    else if (name.includes("-") || name === "role" || name === "for") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
