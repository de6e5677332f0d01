// The form beside the answers: settings of lane A, and of lane B while two are compared.

import {element, newId} from "./dom.js";
import {NUMBERS, PRESETS, SCHEMA_EXAMPLE, START, faultOf, schemaFault} from "./fields.js";

export class SettingsPanel {
  #values = {A: {...START}, B: {...START}};
  #lane = "A";
  #controls = {}; // by name: {input, error}
  isComparing = false;

  /** onChange: called after any change. */
  constructor(root, onChange) {
    Object.assign(this, {root, onChange});
    root.append(this.#head(), this.#groupField(), this.#samplingFields(), this.#chatFields(), this.#outputFields());
    this.#show();
  }

  settings(lane) {
    return this.#values[lane];
  }

  /** Whether nothing is wrong with what will be asked; where something is, it is shown. */
  check() {
    for (const lane of this.isComparing ? ["A", "B"] : ["A"]) {
      const bad = [...NUMBERS.map(({name}) => name), "schema"].find((name) => this.#fault(lane, name));
      if (bad) return this.#showAt(lane, bad, this.#fault(lane, bad));
    }
    return true;
  }

  /** Show a refusal of the server at the field that it names. */
  showFault(lane, {param, message}) {
    const name = {response_format: "schema"}[param.split(/[.[]/)[0]] ?? param.split(/[.[]/)[0];
    if (name in this.#controls) this.#showAt(lane, name, message);
  }

  /** Show what the model has where nothing is said, and what it can do. */
  describe(card) {
    const defaults = card.default_sampling_params ?? {};
    for (const {name, fallback} of NUMBERS) {
      this.#controls[name].input.placeholder = String(defaults[name] ?? fallback);
    }
    this.#controls.thinking.field.hidden = !card.capabilities.includes("thinking");
  }

  /** names: what groups are called; where there is but one name there is nothing to choose. */
  setGroups(names) {
    if (names.join() === this.groupNames) return;
    this.groupNames = names.join();
    const {input, field} = this.#controls.group;
    const option = (value, textContent) => element("option", {value, textContent});
    input.replaceChildren(option("", "those for requests without a name"), ...names.map((name) => option(name, name)));
    field.hidden = names.length < 2;
    for (const lane of ["A", "B"]) {
      if (!names.includes(this.#values[lane].group)) this.#values[lane].group = "";
    }
    this.#show();
    this.onChange();
  }

  /** mode: "chat" or "completion". */
  setMode(mode) {
    this.chatFields.hidden = mode !== "chat";
  }

  /** On narrow screens the panel is closed until it is asked for. */
  toggle() {
    if (this.root.classList.toggle("is-open")) this.root.scrollIntoView({block: "start"});
  }

  #head() {
    this.laneButtons = ["A", "B"].map((lane) => element("button", {
      type: "button", textContent: lane, "aria-label": `Settings of ${lane}`, onclick: () => this.#choose(lane),
    }));
    this.laneSwitch = element("div", {class: "segments", role: "group", "aria-label": "Whose settings"}, ...this.laneButtons);
    this.compareBox = element("input", {type: "checkbox", onchange: () => this.#compare(this.compareBox.checked)});
    this.preset = element("select", {"aria-label": "Preset", onchange: () => this.#take(this.preset.value)},
      element("option", {value: "", textContent: "Choose a preset"}),
      ...Object.keys(PRESETS).map((name) => element("option", {textContent: name})));
    return element("div", {},
      element("div", {class: "settings-head"}, element("h2", {textContent: "Settings"}), this.laneSwitch),
      element("label", {class: "check"}, this.compareBox, "Compare two settings"),
      element("div", {class: "presets"}, this.preset));
  }

  #groupField() {
    const field = this.#field("group", "Groups that answer", element("select", {}), "full group");
    field.hidden = true;
    return field;
  }

  #samplingFields() {
    const numbers = NUMBERS.map((field) => this.#field(field.name, field.label, element("input", {inputMode: "decimal", autocomplete: "off"})));
    const stop = this.#field("stop", "Stop at", element("textarea", {rows: 1, placeholder: "one text a line, \\n is a line break"}), "full");
    return group("Sampling", ...numbers, stop);
  }

  #chatFields() {
    const system = this.#field("system", "Instructions", element("textarea", {rows: 3, placeholder: "The system message"}), "full");
    const options = [["", "as the model does"], ["on", "on"], ["off", "off"]];
    const thinking = this.#field("thinking", "Thinking", element("select", {},
      ...options.map(([value, textContent]) => element("option", {value, textContent}))), "full");
    thinking.hidden = true; // until the model is known to think
    return this.chatFields = group("Chat", system, thinking);
  }

  #outputFields() {
    const logprobs = element("input", {type: "checkbox"});
    this.#wire("logprobs", logprobs, element("p", {}));
    const check = element("label", {class: "check"}, logprobs, "Show each token's probability");
    const schema = this.#field("schema", "JSON schema", element("textarea", {
      class: "code", rows: 3, spellcheck: false, placeholder: "The answer must match it",
    }), "full");
    const example = element("button", {type: "button", class: "quiet small", textContent: "Example", onclick: () => this.#set("schema", SCHEMA_EXAMPLE)});
    const label = schema.querySelector("label");
    const row = element("div", {class: "field-row"});
    label.replaceWith(row);
    row.append(label, example);
    return group("Answer", element("div", {class: "field full"}, check), schema);
  }

  #field(name, label, input, width = "") {
    input.id = newId(name);
    const error = element("p", {class: "error", id: newId("error"), hidden: true});
    const field = element("div", {class: `field ${width}`}, element("label", {for: input.id, textContent: label}), input, error);
    this.#wire(name, input, error, field);
    return field;
  }

  #wire(name, input, error, field) {
    input.name = name;
    this.#controls[name] = {input, error, field};
    const take = () => {
      this.#values[this.#lane][name] = input.type === "checkbox" ? input.checked : input.value;
      this.preset.value = "";
      this.#showError(name, "");
      this.onChange();
    };
    input.addEventListener("input", take);
    input.addEventListener("change", () => {
      take();
      this.#showError(name, this.#fault(this.#lane, name));
    });
  }

  #fault(lane, name) {
    const value = this.#values[lane][name] ?? "";
    if (name === "schema") return schemaFault(value);
    const field = NUMBERS.find((each) => each.name === name);
    return field ? faultOf(field, value) : "";
  }

  #showAt(lane, name, words) {
    this.#choose(this.isComparing ? lane : "A");
    this.#showError(name, words);
    this.root.classList.add("is-open");
    this.#controls[name].input.focus();
    return false;
  }

  #showError(name, words) {
    const {input, error} = this.#controls[name];
    error.textContent = words;
    error.hidden = !words;
    input.setAttribute("aria-invalid", String(Boolean(words)));
    if (words) input.setAttribute("aria-errormessage", error.id);
  }

  #set(name, value) {
    this.#values[this.#lane][name] = value;
    this.#show();
    this.onChange();
  }

  #take(preset) {
    if (!preset) return;
    for (const {name} of NUMBERS) this.#values[this.#lane][name] = PRESETS[preset][name] ?? "";
    this.#show();
    this.onChange();
  }

  /** B begins as a copy of A: what is changed then is what is compared. */
  #compare(isOn) {
    this.isComparing = isOn;
    if (isOn) this.#values.B = {...this.#values.A};
    this.#choose(isOn ? "B" : "A");
    this.onChange();
  }

  #choose(lane) {
    this.#lane = lane;
    this.preset.value = "";
    this.#show();
  }

  #show() {
    this.laneSwitch.hidden = !this.isComparing;
    for (const button of this.laneButtons) {
      button.setAttribute("aria-pressed", String(button.textContent === this.#lane));
    }
    for (const [name, {input}] of Object.entries(this.#controls)) {
      const value = this.#values[this.#lane][name] ?? "";
      if (input.type === "checkbox") input.checked = value;
      else input.value = value;
      this.#showError(name, this.#fault(this.#lane, name));
    }
  }
}

function group(name, ...fields) {
  return element("fieldset", {}, element("legend", {textContent: name}), element("div", {class: "fields"}, ...fields));
}
