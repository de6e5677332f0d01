// What can be set of a request: the fields of the form, and how they stand in a request's body.

/** number: [least, most, step]. whole: an integer. fallback: what the server takes where nothing is said. */
export const NUMBERS = [
  {name: "max_tokens", label: "Max new tokens", number: [1, 1e6, 1], whole: true, fallback: "all that fit"},
  {name: "min_tokens", label: "Min new tokens", number: [0, 1e6, 1], whole: true, fallback: 0},
  {name: "temperature", label: "Temperature", number: [0, 2, 0.1], fallback: 1},
  {name: "top_p", label: "Top-p", number: [0, 1, 0.05], fallback: 1},
  {name: "top_k", label: "Top-k", number: [-1, 1e6, 1], whole: true, fallback: "all"},
  {name: "seed", label: "Seed", number: [-(2 ** 53), 2 ** 53, 1], whole: true, fallback: "random"},
  {name: "repetition_penalty", label: "Repetition penalty", number: [0.01, 100, 0.05], fallback: 1},
  {name: "no_repeat_ngram_size", label: "No-repeat n-gram", number: [0, 1000, 1], whole: true, fallback: "off"},
];

export const START = {max_tokens: "512", stop: "", logprobs: false, system: "", thinking: "", schema: "", group: ""};

/** Values that replace all sampling fields; what is not named is left to the model. */
export const PRESETS = {
  "Model's defaults": {max_tokens: "512"},
  "Most likely tokens": {max_tokens: "512", temperature: "0"},
  "Creative": {max_tokens: "512", temperature: "1.1", top_p: "0.95"},
  "Throughput test": {
    max_tokens: "256", min_tokens: "256", temperature: "1", top_p: "0.9", top_k: "20",
    no_repeat_ngram_size: "5", repetition_penalty: "2",
  },
};

export const SCHEMA_EXAMPLE = JSON.stringify({
  type: "object",
  properties: {name: {type: "string"}, age: {type: "integer"}},
  required: ["name", "age"],
  additionalProperties: false,
}, null, 2);

/** What is wrong with a value, in words; "" if nothing. */
export function faultOf({label, number: [least, most], whole}, text) {
  if (text.trim() === "") return "";
  const value = Number(text);
  if (!Number.isFinite(value) || (whole && !Number.isInteger(value))) {
    return `${label} is ${whole ? "a whole number" : "a number"}.`;
  }
  if (value < least || value > most) {
    return most >= 1e6 ? `${label} is ${least} or more.` : `${label} is from ${least} to ${most}.`;
  }
  return "";
}

/** What is wrong with the JSON schema; "" if nothing. */
export function schemaFault(text) {
  if (text.trim() === "") return "";
  try {
    const schema = JSON.parse(text);
    if (schema !== null && typeof schema === "object" && !Array.isArray(schema)) return "";
    return "A schema is a JSON object.";
  } catch (error) {
    return `This is no JSON: ${error.message}`;
  }
}

/** The part of a body that settings say. They must be without fault. */
export function sampling(settings) {
  const body = {};
  for (const {name} of NUMBERS) {
    const text = (settings[name] ?? "").trim();
    if (text !== "") body[name] = Number(text);
  }
  const stop = settings.stop.split("\n").map(unescaped).filter((line) => line !== "");
  if (stop.length) body.stop = stop;
  if (settings.schema.trim()) {
    const schema = JSON.parse(settings.schema);
    body.response_format = {type: "json_schema", json_schema: {name: "answer", schema}};
  }
  return body;
}

/** turns: [{role, content}], the last one the user's. */
export function chatBody(model, settings, turns) {
  const system = settings.system.trim() ? [{role: "system", content: settings.system}] : [];
  const body = {model, messages: [...system, ...turns], ...sampling(settings)};
  if (settings.thinking) body.chat_template_kwargs = {enable_thinking: settings.thinking === "on"};
  if (settings.logprobs) Object.assign(body, {logprobs: true, top_logprobs: 5});
  return body;
}

export function completionBody(model, settings, prompt) {
  const body = {model, prompt, ...sampling(settings)};
  if (settings.logprobs) body.logprobs = 5;
  return body;
}

/** In a few words, what `settings` say that `others` do not. */
export function differences(settings, others) {
  const words = [];
  for (const {name, label} of NUMBERS) {
    const [mine, theirs] = [settings[name] ?? "", others[name] ?? ""];
    if (mine !== theirs) words.push(`${label.toLowerCase()} ${mine || "default"}`);
  }
  if (settings.system !== others.system) words.push(settings.system ? "own instructions" : "no instructions");
  if (settings.thinking !== others.thinking) words.push(`thinking ${settings.thinking || "default"}`);
  if (settings.stop !== others.stop) words.push(settings.stop ? "stops" : "no stops");
  if (settings.schema !== others.schema) words.push(settings.schema ? "schema" : "no schema");
  if (settings.group !== others.group) words.push(`group ${settings.group || "any"}`);
  return words.join(", ");
}

/** A line of the stop box as the text it means: \n, \t and \\ are escapes there. */
function unescaped(line) {
  return line.replace(/\\(n|t|\\)/g, (_, letter) => ({n: "\n", t: "\t"})[letter] ?? "\\");
}
