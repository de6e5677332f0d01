// Chat or completion: the composer, and one lane of answers or two that are compared.

import {element, newId} from "./dom.js";
import {differences} from "./fields.js";
import {Lane} from "./lane.js";

const WORDS = {
  chat: {
    label: "Message",
    placeholder: "Write a message",
    welcome: "The conversation stays in this tab.",
    examples: ["Why is the sky blue?", "Write a haiku about a lighthouse.", "Explain tensor parallelism in two sentences."],
  },
  completion: {
    label: "Text to continue",
    placeholder: "Write the beginning; the model goes on",
    welcome: "The model continues a text, without a chat template.",
    examples: ["The capital of France is", "Once upon a time, in a small harbour town,", "def fibonacci(n):"],
  },
};

export class Playground {
  /** panel: the settings' panel. model(): the name to ask for. */
  constructor(root, {mode, panel, model}) {
    Object.assign(this, {root, mode, panel, model});
    const words = WORDS[mode];
    this.lanes = ["A", "B"].map((name) => new Lane({
      name, mode, model, settings: () => panel.settings(name), onFault: (fault) => panel.showFault(name, fault),
    }));
    for (const lane of this.lanes) lane.onChange = () => this.show();
    this.title = element("h2", {});
    this.welcome = element("div", {class: "welcome"}, this.title, element("p", {textContent: words.welcome}),
      element("div", {class: "examples"}, ...words.examples.map((text) => this.#example(text))));
    this.lanes[0].element.append(this.welcome);
    this.box = element("div", {class: "lanes"}, ...this.lanes.map((lane) => lane.element));
    root.append(this.box, this.#composer(words));
    this.show();
  }

  get isBusy() {
    return this.lanes.some((lane) => lane.isBusy);
  }

  /** Ask in every lane that is shown. */
  send() {
    const text = this.field.value;
    if (this.isBusy || !text.trim() || !this.model() || !this.panel.check()) return;
    if (this.mode === "chat") this.field.value = "";
    this.welcome.remove();
    for (const lane of this.#shown()) lane.ask(text);
  }

  stop() {
    for (const lane of this.lanes) lane.stop();
  }

  /** Bring buttons, lanes and their heads up to date. */
  show() {
    if (!this.sendButton) return;
    this.sendButton.hidden = this.isBusy;
    this.stopButton.hidden = !this.isBusy;
    this.clearButton.hidden = this.isBusy || this.lanes.every((lane) => lane.isEmpty);
    this.title.textContent = this.model();
    const isComparing = this.panel.isComparing;
    this.root.classList.toggle("is-comparing", isComparing);
    const [a, b] = this.lanes;
    if (isComparing && b.element.hidden && this.mode === "chat") b.goOnFrom(a.messages);
    b.element.hidden = !isComparing;
    a.head.hidden = b.head.hidden = !isComparing;
    a.summary.textContent = differences(this.panel.settings("A"), this.panel.settings("B")) || "same settings";
    b.summary.textContent = differences(this.panel.settings("B"), this.panel.settings("A")) || "same settings";
  }

  #shown() {
    return this.panel.isComparing ? this.lanes : [this.lanes[0]];
  }

  #example(text) {
    return element("button", {type: "button", textContent: text, onclick: () => { this.field.value = text; this.send(); }});
  }

  #composer(words) {
    const id = newId("prompt");
    this.field = element("textarea", {id, rows: 1, placeholder: words.placeholder, autocomplete: "off"});
    this.sendButton = element("button", {class: "primary", textContent: "Send", onclick: () => this.send()});
    this.stopButton = element("button", {class: "primary", textContent: "Stop", hidden: true, onclick: () => this.stop()});
    this.clearButton = element("button", {
      class: "quiet", textContent: this.mode === "chat" ? "New chat" : "Clear", hidden: true, onclick: () => this.#clear(),
    });
    const hint = element("span", {class: "hint"}, element("kbd", {textContent: "Ctrl"}), " ", element("kbd", {textContent: "Enter"}),
      " sends, ", element("kbd", {textContent: "Esc"}), " stops");
    const settingsButton = element("button", {class: "quiet settings-toggle", textContent: "Settings", onclick: () => this.panel.toggle()});
    const row = element("div", {class: "box-row"}, hint, settingsButton, this.clearButton, this.sendButton, this.stopButton);
    const box = element("div", {class: "box"}, element("label", {class: "visually-hidden", for: id, textContent: words.label}), this.field, row);
    return element("div", {class: "composer"}, box);
  }

  #clear() {
    for (const lane of this.lanes) lane.clear();
    this.lanes[0].element.append(this.welcome);
    this.show();
    this.field.focus();
  }
}
