// The files on a volume, as a tree that the keyboard moves in: up and down, right opens, left closes, as the authoring
// practices of WAI-ARIA have it.

import { get } from "./api.js";
import { h } from "./dom.js";
import { bytes } from "./text.js";

export function tree(path, volume) {
  const root = h("ul", { role: "tree", class: "tree", "aria-label": `Files of volume ${volume}`, onkeydown: (event) => move(event, root) });
  fill(root, { path, volume, folder: "/" }, 1).then(() => {
    root.querySelector("[role=treeitem]")?.setAttribute("tabindex", "0");
  });
  return root;
}

/// Puts a page of a folder into a list.
async function fill(list, where, level, after = null) {
  list.setAttribute("aria-busy", "true");
  try {
    const page = await get("/v1/images/tree", { ...where, after });
    list.append(...page.entries.map((entry) => item(entry, where, level)));
    if (page.next) list.append(further(list, where, level, page.next));
    else if (!list.firstChild) list.append(note("empty", level));
  } catch (failure) {
    list.append(note(failure.message, level));
  }
  list.removeAttribute("aria-busy");
}

function note(text, level) {
  return h("li", { role: "treeitem", tabindex: "-1", "aria-level": level, class: "note" }, text);
}

function further(list, where, level, next) {
  const entry = note("more …", level);
  const load = async () => {
    const before = entry.previousElementSibling;
    entry.remove();
    await fill(list, where, level, next);
    focus(before?.nextElementSibling ?? before);
  };
  entry.addEventListener("click", (event) => { event.stopPropagation(); load(); });
  entry.open = load;
  return entry;
}

function item(entry, where, level) {
  const isFolder = entry.kind === "directory";
  const told = isFolder ? "" : entry.kind === "symlink" ? `→ ${entry.target ?? ""}` : entry.kind === "file" ? bytes(entry.size) : entry.kind;
  const line = h("span", { class: `line ${entry.kind}` }, h("span", { class: "what" }, entry.name), h("span", { class: "dim" }, told), h("span", { class: "mode dim" }, entry.mode));
  const element = h("li", { role: "treeitem", tabindex: "-1", "aria-level": level, "aria-expanded": isFolder ? "false" : null }, line);
  if (!isFolder) {
    line.addEventListener("click", () => focus(element));
    return element;
  }
  const folder = `${where.folder === "/" ? "" : where.folder}/${entry.name}`;
  const inside = h("ul", { role: "group", hidden: true });
  element.append(inside);
  let isFilled = false;
  element.open = async () => {
    element.setAttribute("aria-expanded", "true");
    inside.hidden = false;
    if (!isFilled) {
      isFilled = true;
      await fill(inside, { ...where, folder }, level + 1);
    }
  };
  element.close = () => {
    element.setAttribute("aria-expanded", "false");
    inside.hidden = true;
  };
  line.addEventListener("click", () => {
    focus(element);
    if (inside.hidden) element.open();
    else element.close();
  });
  return element;
}

/// One item of a tree is in the order of tabs: the one that was last gone to.
function focus(element) {
  if (!element) return;
  const root = element.closest("[role=tree]");
  for (const other of root.querySelectorAll("[tabindex='0']")) other.setAttribute("tabindex", "-1");
  element.setAttribute("tabindex", "0");
  element.focus();
}

function move(event, root) {
  const here = event.target.closest("[role=treeitem]");
  if (!here || event.altKey || event.ctrlKey || event.metaKey) return;
  const seen = [...root.querySelectorAll("[role=treeitem]")].filter((one) => !one.parentElement.closest("[hidden]"));
  const at = seen.indexOf(here);
  const expanded = here.getAttribute("aria-expanded");
  const steps = {
    ArrowDown: () => focus(seen[at + 1]),
    ArrowUp: () => focus(seen[at - 1]),
    Home: () => focus(seen[0]),
    End: () => focus(seen[seen.length - 1]),
    ArrowRight: () => (expanded === "false" ? here.open() : focus(here.querySelector("[role=treeitem]"))),
    ArrowLeft: () => (expanded === "true" ? here.close() : focus(here.parentElement.closest("[role=treeitem]"))),
    Enter: () => (expanded === "true" ? here.close() : here.open?.()),
    " ": () => (expanded === "true" ? here.close() : here.open?.()),
  };
  if (!(event.key in steps)) return;
  event.preventDefault();
  steps[event.key]();
}
