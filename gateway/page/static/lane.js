// One column of answers: a conversation, or the last completion. Compared settings have one each.

import {Failure} from "./api.js";
import {Answer} from "./answer.js";
import {showCode} from "./code_dialog.js";
import {announce, element} from "./dom.js";
import {exchange} from "./exchange.js";
import {chatBody, completionBody} from "./fields.js";
import {askForKey} from "./key.js";

export class Lane {
  #turns = []; // {question, answer, element}
  #before = []; // messages of another lane that this one goes on from
  #stop = null;

  /** mode: "chat" or "completion". settings(): those of this lane, now. onFault: told a Failure. */
  constructor({name, mode, model, settings, onFault}) {
    Object.assign(this, {name, mode, model, settings, onFault});
    this.head = element("div", {class: "lane-head", hidden: true}, element("b", {textContent: name}), this.summary = element("span", {}));
    this.log = element("div", {role: "log", "aria-live": "off", "aria-label": `Answers of ${name}`});
    this.element = element("div", {class: "lane"}, this.head, this.log);
  }

  get isBusy() {
    return this.#stop !== null;
  }

  get isEmpty() {
    return this.#turns.length === 0;
  }

  /** What was said so far. */
  get messages() {
    return this.#said(this.#turns);
  }

  /** Begin anew, behind what another lane said. */
  goOnFrom(messages) {
    this.clear();
    this.#before = messages;
    if (!messages.length) return;
    this.log.append(element("p", {class: "note turn", textContent: "Goes on from the conversation of A."}));
  }

  /** Ask, and show the answer as it comes. */
  async ask(question) {
    if (this.mode === "completion") this.clear();
    this.#turns.at(-1)?.answer.retire();
    const words = this.mode === "chat" ? element("div", {class: "question", textContent: question}) : null;
    const turn = {question, element: element("div", {class: "turn"}, words), answer: null};
    this.#turns.push(turn);
    this.log.append(turn.element);
    await this.#answer(turn);
  }

  stop() {
    this.#stop?.abort();
  }

  clear() {
    this.stop();
    this.#turns = [];
    this.#before = [];
    this.log.replaceChildren();
  }

  async #answer(turn) {
    const settings = {...this.settings()};
    const model = settings.group || this.model(); // a group's name stands in the model's place
    const isChat = this.mode === "chat";
    const before = this.#turns.slice(0, this.#turns.indexOf(turn));
    const said = [...this.#said(before), {role: "user", content: turn.question}];
    const path = isChat ? "/v1/chat/completions" : "/v1/completions";
    const body = isChat
      ? chatBody(model, settings, said)
      : completionBody(model, settings, turn.question);
    const again = () => { if (!this.isBusy) this.#answer(turn); };
    const answer = new Answer({
      onCode: () => showCode(path, body), onAgain: again, form: settings.schema.trim() ? "json" : isChat ? "markdown" : "text",
      lead: isChat ? "" : turn.question,
    });
    turn.answer?.element.remove();
    turn.answer = answer;
    turn.element.append(answer.element);
    const stop = this.#stop = new AbortController();
    this.onChange();
    const follow = follower(this.element, turn.element);
    try {
      this.#tell(await exchange(path, body, answer, stop.signal), turn, again);
    } finally {
      follow.end();
      if (this.#stop === stop) this.#stop = null;
      this.onChange();
    }
  }

  /** What failed before it began was not said. */
  #said(turns) {
    return [...this.#before, ...turns.filter(({answer}) => answer.text).flatMap(({question, answer}) => [
      {role: "user", content: question}, {role: "assistant", content: answer.text},
    ])];
  }

  #tell(finish, turn, again) {
    if (!(finish instanceof Failure)) {
      const words = `${this.name}: answer ${finish === "abort" ? "stopped" : "complete"}, ${turn.answer.numbers.textContent}`;
      announce(words);
      return;
    }
    turn.answer.fail(finish.message, again);
    this.onFault(finish);
    if (finish.status === 401) askForKey("This key is not known here.");
  }
}

/** Keeps the end in sight while an answer grows, unless somebody scrolls up to read. */
function follower(lane, turn) {
  const scroller = () => (lane.scrollHeight > lane.clientHeight + 1 && getComputedStyle(lane).overflowY === "auto"
    ? lane : document.scrollingElement);
  let isAtEnd = true;
  const toEnd = () => { const one = scroller(); one.scrollTop = one.scrollHeight; };
  const look = () => {
    const one = scroller();
    isAtEnd = one.scrollHeight - one.scrollTop - one.clientHeight < 60;
  };
  toEnd();
  const observer = new ResizeObserver(() => { if (isAtEnd) toEnd(); });
  observer.observe(turn);
  window.addEventListener("scroll", look, {capture: true, passive: true});
  return {
    end() {
      requestAnimationFrame(() => {
        if (isAtEnd) toEnd();
        observer.disconnect();
        window.removeEventListener("scroll", look, {capture: true});
      });
    },
  };
}
