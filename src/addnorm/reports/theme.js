"use strict";
(() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const kept = (() => { try { return localStorage.getItem("addnorm-theme"); } catch { return null; } })();
  if (["#dark", "#light"].includes(location.hash)) root.dataset.theme = location.hash.slice(1);
  else if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const name = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("addnorm-theme", root.dataset.theme); } catch { /* a page from disk may keep nothing */ }
    name();
  });
  dark.addEventListener("change", name);
  name();
})();
