"use strict";
const root = document.documentElement, $ = (id) => document.getElementById(id);
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const keep = (key, value) => { try { localStorage.setItem(key, value); } catch { /* file:// may forbid */ } };
const kept = (key) => { try { return localStorage.getItem(key); } catch { return null; } };

function speak(chinese) {
  root.lang = chinese ? "zh-CN" : "en";
  $("language").textContent = chinese ? "English" : "中文";
  $("language").lang = "";
  for (const element of all("[data-label-zh]"))
    element.setAttribute("aria-label", chinese ? element.dataset.labelZh : element.dataset.labelEn);
  for (const option of all("option[data-zh]")) option.textContent = chinese ? option.dataset.zh : option.dataset.en;
  document.title = all("h1 [lang]").find((title) => title.lang === root.lang).textContent;
}
$("language").onclick = () => { speak(root.lang === "en"); keep("ssd-lang", root.lang); };
speak((kept("ssd-lang") || navigator.language).startsWith("zh"));

if (kept("ssd-theme")) root.dataset.theme = kept("ssd-theme");
$("theme").onclick = () => {
  const now = root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  keep("ssd-theme", root.dataset.theme);
};

function value(cell) {  // key for sorting; null, which stays last, where there is no figure
  const text = cell.textContent.replace(/,/g, "");
  return text === "–" ? null : Number.isNaN(Number(text)) ? text : Number(text);
}
for (const button of all("th button")) button.onclick = () => {
  const head = button.parentElement, body = head.closest("table").tBodies[0];
  const was = head.getAttribute("aria-sort"), up = was === "descending" || (head.cellIndex === 0 && was !== "ascending");
  for (const other of all("th", head.parentElement)) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const rows = all("tr", body).map((row) => [value(row.cells[head.cellIndex]), row]);
  rows.sort(([a], [b]) => (a === null) - (b === null) || (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1));
  body.append(...rows.map(([, row]) => row));
};
