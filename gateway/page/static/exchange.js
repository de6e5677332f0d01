// One streamed request: what comes goes to an Answer, with its speed; ends well, stopped or failed.

import {Failure, ask, events} from "./api.js";
import {TokenReader} from "./tokens.js";

const STALL_MS = 2500;
const SHOWN_EVERY_MS = 100;

/** Ask and show. Resolves to why it ended: a finish_reason, "stopped", or a Failure. */
export async function exchange(path, body, answer, signal) {
  const streamed = {...body, stream: true, stream_options: {include_usage: true, continuous_usage_stats: true}};
  const pace = new Pace();
  const stall = new Stall(answer);
  let finish = "";
  try {
    const response = await ask(path, {body: streamed, signal});
    const reader = new TokenReader();
    for await (const chunk of events(response)) {
      stall.note();
      const choice = chunk.choices[0];
      const {text, thought} = piecesOf(choice);
      if (thought) answer.think(thought);
      if (text || choice?.logprobs) answer.add(text, choice.logprobs ? reader.read(choice.logprobs) : undefined);
      finish = choice?.finish_reason || finish;
      if (pace.note(chunk.usage?.completion_tokens, text || thought)) answer.measure(pace.figures());
    }
    noteHeaders(response.headers, answer);
  } catch (error) {
    if (error.name === "AbortError") finish = "abort";
    else if (error instanceof Failure) finish = error;
    else throw error;
  } finally {
    stall.end();
    answer.end();
    answer.measure(pace.figures(), typeof finish === "string" ? finish || "stop" : "");
  }
  return finish;
}

/** Counts tokens, and times them as they arrive here. */
class Pace {
  #began = performance.now();
  #first = null;
  #last = null;
  #shown = 0;
  #numTokens = 0;

  /** Returns whether it is time to show figures. */
  note(numTokens, isText) {
    const now = performance.now();
    if (numTokens) this.#numTokens = numTokens;
    else if (isText) this.#numTokens += 1;
    if (isText) {
      this.#first ??= {at: now, numTokens: this.#numTokens};
      this.#last = now;
    }
    if (now - this.#shown < SHOWN_EVERY_MS) return false;
    this.#shown = now;
    return true;
  }

  figures() {
    const first = this.#first;
    const seconds = first && (this.#last - first.at) / 1000;
    return {
      numTokens: this.#numTokens,
      rate: seconds > 0 ? (this.#numTokens - first.numTokens) / seconds : 0,
      ttft: first && (first.at - this.#began) / 1000,
      seconds: (performance.now() - this.#began) / 1000,
    };
  }
}

/** While nothing comes, finds out whether that is the server's state. */
class Stall {
  constructor(answer) {
    this.answer = answer;
    this.note();
  }

  note() {
    clearTimeout(this.timer);
    if (!this.isOver) this.timer = setTimeout(() => this.look(), STALL_MS);
  }

  end() {
    this.isOver = true;
    clearTimeout(this.timer);
  }

  async look() {
    const words = await stateInWords();
    if (this.isOver) return;
    this.answer.wait(words);
    this.note();
  }
}

async function stateInWords() {
  try {
    await ask("/readyz");
    return "";
  } catch (error) {
    if (error.status === 503) return "No group is working right now. The answer goes on when one is back.";
    return error.status ? "" : "The server does not answer.";
  }
}

function piecesOf(choice) {
  if (!choice) return {text: "", thought: ""};
  if (!choice.delta) return {text: choice.text ?? "", thought: ""};
  return {text: choice.delta.content ?? "", thought: choice.delta.reasoning_content ?? ""};
}

function noteHeaders(headers, answer) {
  const notEnforced = headers.get("x-unisono-not-enforced");
  if (notEnforced) answer.note(`Not enforced of the schema: ${notEnforced}`);
}
