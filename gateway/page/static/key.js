// The API key: asked for in a dialog, kept until the tab is closed, sent in a header only.

import {byId} from "./dom.js";

const NAME = "unisono.key";
let settle = null;

/** The key that requests are sent with, or "". */
export function keptKey() {
  try {
    return sessionStorage.getItem(NAME) || "";
  } catch {
    return "";
  }
}

/** Ask for a key. words: why, if the last one did not do. Resolves to whether there is a new one. */
export function askForKey(words = "") {
  const dialog = byId("key-dialog");
  byId("key-error").hidden = !words;
  byId("key-error").textContent = words;
  byId("key-forget").hidden = !keptKey();
  byId("key-field").value = "";
  if (!dialog.open) dialog.showModal();
  byId("key-field").focus();
  settle?.(false);
  return new Promise((resolve) => { settle = resolve; });
}

/** Wire the dialog and its button. onChange: called after a key was given or forgotten. */
export function setUpKey(onChange) {
  const dialog = byId("key-dialog");
  dialog.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const key = byId("key-field").value.trim();
    if (!key) return byId("key-field").focus();
    keep(key);
    dialog.close("given");
  });
  byId("key-forget").addEventListener("click", () => {
    keep("");
    dialog.close("given");
  });
  byId("key-cancel").addEventListener("click", () => dialog.close("cancelled"));
  dialog.addEventListener("close", () => {
    const isGiven = dialog.returnValue === "given";
    byId("key-field").value = dialog.returnValue = "";
    settle?.(isGiven);
    settle = null;
    if (isGiven) onChange();
  });
  byId("key-button").addEventListener("click", () => askForKey());
}

function keep(key) {
  try {
    if (key) sessionStorage.setItem(NAME, key);
    else sessionStorage.removeItem(NAME);
  } catch { /* a browser that keeps nothing asks again */ }
}
