// The dialog that shows what was asked as code.

import {BASE} from "./api.js";
import {curlLine, pythonLines} from "./code_lines.js";
import {announce, byId} from "./dom.js";
import {keptKey} from "./key.js";

let texts = {};

export function showCode(path, body) {
  const hasKey = keptKey() !== "";
  texts = {curl: curlLine(BASE, path, body, hasKey), python: pythonLines(BASE, body, hasKey)};
  const isPython = byId("code-python").getAttribute("aria-pressed") === "true";
  choose(isPython ? "python" : "curl");
  byId("code-dialog").showModal();
}

export function setUpCode() {
  for (const language of ["curl", "python"]) {
    byId(`code-${language}`).addEventListener("click", () => choose(language));
  }
  byId("code-close").addEventListener("click", () => byId("code-dialog").close());
  byId("code-copy").addEventListener("click", (event) => copy(byId("code-text").textContent, event.target));
}

/** Put text on the clipboard; the button says so for a moment. */
export async function copy(text, button) {
  const words = button.textContent;
  const isCopied = await toClipboard(text);
  button.textContent = isCopied ? "Copied" : "Select it by hand";
  announce(isCopied ? "Copied" : "The browser does not let this page copy");
  setTimeout(() => { button.textContent = words; }, 1500);
}

function choose(language) {
  byId("code-text").textContent = texts[language];
  byId("code-copy").textContent = "Copy";
  for (const each of ["curl", "python"]) {
    byId(`code-${each}`).setAttribute("aria-pressed", String(each === language));
  }
}

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { /* over plain http from another machine there is no clipboard but this old way */ }
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "visually-hidden";
  (document.querySelector("dialog[open]") || document.body).append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  return isCopied;
}
