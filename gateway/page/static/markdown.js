// The part of Markdown that models write, as elements: code, headings, lists, emphasis. No links, no
// images, no HTML: those stay the text that they are.

import {element} from "./dom.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)\s*$/;
const HEADING = /^(#{1,6})\s+(.*?)\s*#*$/;
const ITEM = /^(\s*)([-*+]|\d{1,3}[.)])\s+(.*)$/;
const QUOTE = /^>\s?(.*)$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
// Bounded: what looks for a partner looks so far, or a page of asterisks would take for ever.
const INLINE = /(`{1,3})(.{1,300}?)\1(?!`)|\*\*(?=\S)(.{1,500}?)\*\*|(?<![\w*])\*(?=[^\s*])(.{1,500}?)\*(?![\w*])/s;

/** Shows a text that grows, once a frame. Blocks that are as they were keep their elements. */
export class Markdown {
  element = element("div", {class: "markdown"});
  #sources = [];
  #text = "";
  #frame = 0;

  show(text) {
    this.#text = text;
    this.#frame ||= requestAnimationFrame(() => this.flush());
  }

  /** Show all there is now. */
  flush() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#render(this.#text);
  }

  #render(text) {
    const blocks = blocksOf(text);
    let same = 0;
    while (same < this.#sources.length && this.#sources[same] === blocks[same]?.source) same += 1;
    while (this.element.childNodes.length > same) this.element.lastChild.remove();
    this.element.append(...blocks.slice(same).map(elementOf));
    this.#sources = blocks.map((block) => block.source);
  }
}

/** Cut a text into blocks: {kind, source, ...}. A fence that is not closed yet is closed by the end. */
function blocksOf(text) {
  const lines = text.split("\n");
  const blocks = [];
  let at = 0;
  const take = (kind, belongs, more = {}) => {
    const first = at;
    do at += 1; while (at < lines.length && belongs(lines[at]));
    blocks.push({kind, lines: lines.slice(first, at), source: `${kind}\n${lines.slice(first, at).join("\n")}`, ...more});
  };
  while (at < lines.length) {
    const line = lines[at];
    const fence = FENCE.exec(line);
    if (fence) {
      const first = at + 1;
      const isEnd = (each) => each.trim().startsWith(fence[1]) && !each.trim().slice(fence[1].length).replaceAll(fence[1][0], "").trim();
      at = first;
      while (at < lines.length && !isEnd(lines[at])) at += 1;
      const code = lines.slice(first, at).join("\n");
      blocks.push({kind: "code", language: fence[2], code, source: `code ${fence[2]}\n${code}`});
      at += 1;
    } else if (!line.trim()) at += 1;
    else if (HEADING.test(line)) take("heading", () => false);
    else if (RULE.test(line)) take("rule", () => false);
    else if (QUOTE.test(line)) take("quote", (next) => QUOTE.test(next));
    else if (ITEM.test(line)) take("list", (next) => ITEM.test(next) || /^\s{2,}\S/.test(next));
    else take("paragraph", (next) => next.trim() && ![FENCE, HEADING, ITEM, QUOTE].some((mark) => mark.test(next)));
  }
  return blocks;
}

function elementOf(block) {
  switch (block.kind) {
    case "code":
      return element("pre", {tabIndex: 0, "aria-label": block.language || "code"}, element("code", {textContent: block.code}));
    case "heading": {
      const [, marks, words] = HEADING.exec(block.lines[0]);
      return element("p", {class: "heading", role: "heading", "aria-level": String(Math.min(6, marks.length + 2))}, ...inline(words));
    }
    case "rule":
      return element("hr");
    case "quote":
      return element("blockquote", {}, ...inline(block.lines.map((line) => QUOTE.exec(line)[1]).join("\n")));
    case "list":
      return listOf(block.lines);
    default:
      return element("p", {}, ...inline(block.lines.join("\n")));
  }
}

/** A list with lists inside, by indent. */
function listOf(lines) {
  const items = [];
  for (const line of lines) {
    const found = ITEM.exec(line);
    if (found) items.push({indent: found[1].length, mark: found[2], text: found[3]});
    else items.at(-1).text += `\n${line.trim()}`;
  }
  let at = 0;
  const build = (indent) => {
    const number = parseInt(items[at].mark, 10);
    const list = element(Number.isNaN(number) ? "ul" : "ol", Number.isNaN(number) ? {} : {start: number});
    while (at < items.length && items[at].indent >= indent) {
      if (items[at].indent > indent + 1 && list.lastChild) list.lastChild.append(build(items[at].indent));
      else list.append(element("li", {}, ...inline(items[at++].text)));
    }
    return list;
  };
  return build(items[0].indent);
}

/** Text, code, strong and emphasised text; what a mark has no partner for is text. */
function inline(text) {
  const nodes = [];
  let rest = text;
  for (let found; (found = INLINE.exec(rest)); rest = rest.slice(found.index + found[0].length)) {
    if (found.index) nodes.push(rest.slice(0, found.index));
    if (found[2] !== undefined) nodes.push(element("code", {textContent: found[2]}));
    else if (found[3] !== undefined) nodes.push(element("strong", {}, ...inline(found[3])));
    else nodes.push(element("em", {}, ...inline(found[4])));
  }
  if (rest) nodes.push(rest);
  return nodes;
}
