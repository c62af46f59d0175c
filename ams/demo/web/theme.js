// Dark or light, remembered where the browser allows it.

import { byId, say } from "./dom.js";

const KEY = "ams-demo-theme";

function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage is switched off: dark, then
  }
}

function remember(theme) {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // the choice lasts as long as the page
  }
}

function use(theme) {
  document.documentElement.dataset.theme = theme;
  say("theme", theme === "light" ? "Dark theme" : "Light theme");
}

export function offerThemes() {
  use(remembered() === "light" ? "light" : "dark");
  byId("theme").addEventListener("click", () => {
    const theme = document.documentElement.dataset.theme === "light" ? "dark" : "light";
    use(theme);
    remember(theme);
  });
}
