// Light or dark: as the system has it, until somebody says otherwise.

import {byId} from "./dom.js";

const NAME = "unisono.theme";
const NEXT = {auto: "light", light: "dark", dark: "auto"};
const WORDS = {auto: "as the system has it", light: "light", dark: "dark"};

export function setUpTheme() {
  const button = byId("theme-button");
  const show = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.title = `Colours: ${WORDS[theme]}`;
    button.setAttribute("aria-label", button.title);
  };
  let theme = kept();
  show(theme);
  button.addEventListener("click", () => {
    theme = NEXT[theme];
    show(theme);
    try { localStorage.setItem(NAME, theme); } catch { /* it lasts as long as the page */ }
  });
}

function kept() {
  try {
    const theme = localStorage.getItem(NAME);
    return theme in NEXT ? theme : "auto";
  } catch {
    return "auto";
  }
}
