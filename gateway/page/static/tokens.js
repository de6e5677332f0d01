// Tokens of an answer with their probabilities: coloured, and told on hover or by the arrow keys.

import {element, meter} from "./dom.js";

const scores = new WeakMap();
let card = null;

/** Turns a stream of chunks into tokens with text; characters that span tokens belong to the last. */
export class TokenReader {
  #decoder = new TextDecoder();

  /** logprobs: of a chunk, in a chat's form or a completion's. Returns [{text, shown, logprob, top}]. */
  read(logprobs) {
    const entries = logprobs.content ? logprobs.content.map(ofChat) : ofCompletion(logprobs);
    return entries.map(({bytes, ...token}) => ({...token, text: this.#decoder.decode(bytes, {stream: true})}));
  }
}

/** One token's element. */
export function tokenElement(token, text) {
  const share = Math.exp(token.logprob);
  const step = share >= 0.75 ? "" : String([0.05, 0.2, 0.45].filter((bound) => share >= bound).length);
  const made = element("span", {class: "token", data: step ? {share: step} : {}, textContent: text});
  scores.set(made, token);
  return made;
}

/** Show the card of the token under the pointer, or under the arrow keys, within `text`. */
export function showTokensOf(text) {
  let current = null;
  const show = (token) => {
    current?.classList.remove("is-current");
    current = token;
    hide();
    if (token && scores.has(token)) show_(token);
  };
  text.addEventListener("pointerover", (event) => show(event.target.closest(".token")));
  text.addEventListener("pointerleave", () => show(null));
  text.addEventListener("blur", () => show(null));
  text.addEventListener("keydown", (event) => {
    const all = [...text.querySelectorAll(".token")];
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!step || !all.length) return;
    event.preventDefault();
    const at = current ? all.indexOf(current) + step : step > 0 ? 0 : all.length - 1;
    show(all[Math.max(0, Math.min(all.length - 1, at))]);
    current.classList.add("is-current");
  });
}

function show_(token) {
  const {shown, logprob, top} = scores.get(token);
  const others = top.filter(([text]) => text !== shown);
  const rows = [[shown, logprob], ...others].sort((a, b) => b[1] - a[1]).map(([text, value]) =>
    element("tr", {class: text === shown ? "is-chosen" : ""},
      element("td", {textContent: visible(text)}),
      element("td", {}, meter(Math.exp(value))),
      element("td", {textContent: percent(value)})));
  const table = element("table", {}, element("tbody", {}, ...rows));
  const words = element("p", {class: "note", textContent: `log-probability ${logprob.toFixed(3)}`});
  card = element("div", {class: "token-card", role: "tooltip"}, table, words);
  document.body.append(card);
  const [place, size] = [token.getClientRects()[0] ?? token.getBoundingClientRect(), card.getBoundingClientRect()];
  const below = place.bottom + 6 + size.height <= window.innerHeight;
  card.style.top = `${below ? place.bottom + 6 : Math.max(4, place.top - size.height - 6)}px`;
  card.style.left = `${Math.max(4, Math.min(place.left, window.innerWidth - size.width - 8))}px`;
}

function hide() {
  card?.remove();
  card = null;
}

window.addEventListener("scroll", hide, {capture: true, passive: true});

function ofChat({token, bytes, logprob, top_logprobs}) {
  const top = (top_logprobs ?? []).map((each) => [each.token, each.logprob]);
  return {bytes: bytes ? new Uint8Array(bytes) : new TextEncoder().encode(token), shown: token, logprob, top};
}

function ofCompletion({tokens, token_logprobs, top_logprobs}) {
  return tokens.map((token, i) => ({
    bytes: bytesOf(token), shown: token, logprob: token_logprobs[i] ?? 0, top: Object.entries(top_logprobs?.[i] ?? {}),
  }));
}

/** A token that is part of a character is written `bytes:\xe2\x80`. */
function bytesOf(token) {
  const written = /^bytes:((?:\\x[0-9a-f]{2})+)$/.exec(token);
  if (!written) return new TextEncoder().encode(token);
  return new Uint8Array(written[1].split("\\x").slice(1).map((pair) => parseInt(pair, 16)));
}

const visible = (text) => text.replaceAll("\n", "↵").replaceAll("\t", "→").replace(/ /g, "·") || "(nothing)";

function percent(logprob) {
  const share = 100 * Math.exp(logprob);
  return share >= 99.95 ? "100 %" : share >= 0.1 ? `${share.toFixed(1)} %` : "< 0.1 %";
}
