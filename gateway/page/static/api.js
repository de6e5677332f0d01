// Asks the server that the page came from, with the key if there is one, and reads its streams.

import {keptKey} from "./key.js";

/** The directory of the page: a proxy may have put it below a path. */
export const BASE = new URL(".", document.baseURI).href.replace(/\/$/, "");

/** A request that was refused, or could not be made (status 0), in words. */
export class Failure extends Error {
  constructor(message, {status = 0, code = "", param = "", state = ""} = {}) {
    super(message);
    Object.assign(this, {status, code, param, state});
  }
}

/** Ask; return the response if it is a success, else throw a Failure, or AbortError. */
export async function ask(path, {body, signal, accept} = {}) {
  const headers = {};
  const key = keptKey();
  if (key) headers.authorization = `Bearer ${key}`;
  if (accept) headers.accept = accept;
  if (body) headers["content-type"] = "application/json";
  const options = {method: body ? "POST" : "GET", headers, signal, cache: "no-store"};
  if (body) options.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(`${BASE}${path}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The server cannot be reached. It may have been stopped, or the network is down.");
  }
  if (response.ok) return response;
  throw await refusal(response);
}

/** The JSON of each `data:` line of a stream, until [DONE]. A stream that breaks off is a Failure. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    while (true) {
      const {value, done} = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw failureOf(event.error);
        yield event;
      }
    }
  } catch (error) {
    if (error instanceof TypeError) throw brokenOff();
    throw error;
  } finally {
    reader.cancel().catch(() => {});
  }
  throw brokenOff();
}

const brokenOff = () => new Failure("The connection ended before the answer did.");

function failureOf(error, status = 0) {
  const {message = "The server refused the request.", code, param} = error;
  return new Failure(message, {status, code: code || "", param: param || ""});
}

async function refusal(response) {
  const {status} = response;
  try {
    const {error, status: state} = await response.json();
    if (error?.message) return failureOf(error, status);
    if (state) return new Failure(`The server is ${state}.`, {status, state}); // as /readyz says it
  } catch { /* it is no JSON: somebody between us and the server answers */ }
  return failureOf({message: `The server answered ${status} ${response.statusText}.`}, status);
}
