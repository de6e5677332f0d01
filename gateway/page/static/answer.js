// One answer as it comes: thoughts, text, tokens, what went wrong, and figures. Knows no requests.

import {copy} from "./code_dialog.js";
import {element} from "./dom.js";
import {Markdown} from "./markdown.js";
import {showTokensOf, tokenElement} from "./tokens.js";

const FINISHED = {length: "cut at max new tokens", abort: "stopped", content_filter: "filtered"};

export class Answer {
  #text = "";
  #thought = "";
  #numShown = 0; // characters of the text that have an element

  /** onCode, onAgain: what the buttons do. form: "markdown", "json" or "text". lead: what it continues. */
  constructor({onCode, onAgain, form, lead = ""}) {
    this.thoughtText = element("div", {class: "text thought"});
    this.thoughtHead = element("summary", {textContent: "Thinking…"});
    this.thoughts = element("details", {class: "thoughts", hidden: true}, this.thoughtHead, this.thoughtText);
    this.body = element("span", {});
    this.markdown = form === "markdown" ? new Markdown() : null;
    const text = element("div", {class: form === "json" ? "text code" : "text"},
      element("span", {class: "prompt", textContent: lead}), this.markdown?.element, this.body);
    this.notices = element("div", {});
    this.numbers = element("span", {class: "numbers"});
    this.copyButton = element("button", {
      class: "quiet small", textContent: "Copy", onclick: (event) => copy(this.#text, event.target),
    });
    this.againButton = element("button", {class: "quiet small", textContent: "Ask again", onclick: onAgain});
    const codeButton = element("button", {class: "quiet small", textContent: "Code", onclick: onCode});
    this.buttons = element("span", {class: "buttons"}, this.copyButton, codeButton, this.againButton);
    this.figures = element("div", {class: "figures"}, this.buttons, this.numbers);
    this.element = element("article", {class: "answer is-waiting"}, this.thoughts, text, this.notices, this.figures);
    this.buttons.hidden = true;
  }

  get text() {
    return this.#text;
  }

  /** Show more of the answer. tokens: those that `text` is made of, if they were asked for. */
  add(text, tokens) {
    this.#begin();
    this.#text += text;
    if (tokens) this.#addTokens(tokens);
    if (!tokens || !this.hasTokens) this.#addPlain();
    if (this.#thought && text) this.#endThought();
  }

  think(text) {
    this.#begin();
    this.thoughts.hidden = false;
    this.#thought += text;
    this.thoughtText.append(text);
  }

  /** Say that nothing comes for now, and why. */
  wait(words) {
    this.waiting?.remove();
    this.waiting = words ? element("p", {class: "notice", textContent: words}) : null;
    if (this.waiting) this.notices.append(this.waiting);
  }

  note(words) {
    this.notices.append(element("p", {class: "notice", textContent: words}));
  }

  measure({numTokens, rate, ttft, seconds}, finish = "") {
    const parts = [
      numTokens ? `${numTokens} token${numTokens === 1 ? "" : "s"}` : "",
      rate ? `${rate.toFixed(rate < 10 ? 2 : 1)} tokens/s` : "",
      ttft === null ? "" : `first token ${secondsText(ttft)}`,
      finish && seconds ? `${secondsText(seconds)} in all` : "",
      FINISHED[finish] ?? "",
    ];
    this.numbers.replaceChildren(...parts.filter(Boolean).map((words) => element("span", {textContent: words})));
  }

  /** The last thing of all, however it ended. */
  end() {
    this.wait("");
    this.#addPlain();
    this.markdown?.flush();
    this.element.classList.remove("is-waiting", "is-streaming");
    if (this.#thought) this.#endThought();
    this.buttons.hidden = false;
    this.copyButton.hidden = !this.#text;
  }

  /** Say what went wrong. */
  fail(words, onAgain) {
    const again = element("button", {class: "small", textContent: "Try again", onclick: onAgain});
    this.againButton.hidden = true;
    this.notices.append(element("div", {class: "notice bad", role: "alert"}, element("span", {textContent: words}), again));
  }

  /** Only the last answer can be asked for again: what follows would be an answer to another. */
  retire() {
    this.againButton.hidden = true;
    for (const button of this.notices.querySelectorAll("button")) button.remove();
  }

  #begin() {
    this.wait("");
    this.element.classList.remove("is-waiting");
    this.element.classList.add("is-streaming");
  }

  #endThought() {
    const numWords = this.#thought.trim().split(/\s+/).length;
    this.thoughtHead.textContent = `Thoughts (${numWords} word${numWords === 1 ? "" : "s"})`;
  }

  /** Tokens are text as far as they spell it: what a stop string took away is in no answer. */
  #addTokens(tokens) {
    if (!this.hasTokens) {
      this.hasTokens = true;
      this.body.tabIndex = 0;
      this.body.setAttribute("aria-description", "The arrow keys tell each token's probability.");
      showTokensOf(this.body);
    }
    for (const token of tokens) {
      const text = token.text;
      if (!text || !this.#text.startsWith(text, this.#numShown)) continue;
      this.body.append(tokenElement(token, text));
      this.#numShown += text.length;
    }
  }

  #addPlain() {
    if (this.markdown && !this.hasTokens) this.markdown.show(this.#text);
    else if (this.#numShown < this.#text.length) this.body.append(this.#text.slice(this.#numShown));
    this.#numShown = this.#text.length;
  }
}

export function secondsText(seconds) {
  if (seconds >= 100) return `${seconds.toFixed(0)} s`;
  return seconds >= 1 ? `${seconds.toFixed(1)} s` : `${Math.round(1000 * seconds)} ms`;
}
