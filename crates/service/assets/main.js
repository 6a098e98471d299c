// The page: its parts, one for each first word behind `#/`, and which of them is shown.

import { problem } from "./dom.js";
import { begin } from "./session.js";
import { convertPart } from "./convert.js";
import { filesPart } from "./files.js";
import { imagePart } from "./image.js";
import { jobsPart } from "./jobs.js";

const content = document.getElementById("content");
const links = [...document.querySelectorAll("nav a")];

/// Made when they are first shown, and kept: an upload goes on while another part is looked at.
const makers = { convert: convertPart, files: filesPart, image: imagePart, jobs: jobsPart };
const made = new Map();
let shown = null;

/// `#/files/a/b` is the part `files` and the rest `a/b`.
function place() {
  const [, part = "convert", ...rest] = location.hash.split("/");
  try {
    return { part: Object.hasOwn(makers, part) ? part : "convert", rest: rest.map(decodeURIComponent).join("/") };
  } catch {
    // An address that somebody typed.
    return { part: "convert", rest: "" };
  }
}

async function show(isFirst) {
  // Where the skip link leads is no part.
  if (location.hash === "#content") return;
  const { part, rest } = place();
  if (!made.has(part)) {
    const view = makers[part]();
    view.element.hidden = true;
    content.append(view.element);
    made.set(part, view);
  }
  const view = made.get(part);
  if (shown !== view) {
    shown?.hide?.();
    if (shown) shown.element.hidden = true;
    view.element.hidden = false;
    shown = view;
  }
  const belongsTo = part === "image" ? "files" : part;
  for (const link of links) {
    if (link.hash === `#/${belongsTo}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  view.wrong?.remove();
  try {
    document.title = `${await view.show(rest)} – Transload`;
  } catch (failure) {
    view.wrong = problem(failure);
    view.element.append(view.wrong);
  }
  // Whoever hears the page is told where they are; a page that has just been opened begins at its top.
  if (!isFirst) view.element.querySelector("h1")?.focus();
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  content.focus();
});

const themes = ["system", "light", "dark"];
const themeButton = document.getElementById("theme");
function showTheme() {
  themeButton.textContent = `Theme: ${document.documentElement.dataset.theme ?? "system"}`;
}
themeButton.addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? "system";
  const next = themes[(themes.indexOf(now) + 1) % themes.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("theme", next);
  } catch {
    // It holds until the page is left, then.
  }
  showTheme();
});
showTheme();

try {
  await begin();
  await show(true);
  window.addEventListener("hashchange", () => show(false));
} catch (error) {
  content.append(problem(error));
}
