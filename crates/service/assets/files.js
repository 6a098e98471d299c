// The part with the files that the service has.

import { address, get } from "./api.js";
import { h, problem } from "./dom.js";
import { bytes, moment } from "./text.js";

/// Where a file is downloaded from.
export function fileAddress(path) {
  return address("/v1/files/content", { path });
}

/// A path behind `#/part/`, as the address bar takes it.
export function link(part, path) {
  return `#/${part}/${path.split("/").map(encodeURIComponent).join("/")}`;
}

/// The folders that lead to a path, as links.
export function trail(path, lastIsHere = true) {
  const parts = path ? path.split("/") : [];
  const steps = [["All files", ""], ...parts.map((part, at) => [part, parts.slice(0, at + 1).join("/")])];
  const items = steps.map(([text, to], at) => {
    const isHere = lastIsHere && at === steps.length - 1;
    return h("li", {}, isHere ? h("span", { "aria-current": "page" }, text) : h("a", { href: link("files", to) }, text));
  });
  return h("nav", { class: "trail", "aria-label": "Folders" }, h("ol", {}, items));
}

export function filesPart() {
  const title = h("h1", { tabindex: "-1" }, "Files");
  const body = h("div", {});
  const element = h("section", { class: "part" }, title, body);
  const show = async (path) => {
    body.setAttribute("aria-busy", "true");
    try {
      const list = await get("/v1/files", { path });
      body.replaceChildren(trail(list.path), table(list, path));
    } catch (failure) {
      body.replaceChildren(trail(path), problem(failure));
    }
    body.removeAttribute("aria-busy");
    return "Files";
  };
  return { element, show };
}

function table(list, path) {
  if (list.entries.length === 0) return h("p", { class: "empty card" }, "There is nothing in this folder yet.");
  const rows = h("tbody", {}, list.entries.map(row));
  const more = h("button", { type: "button" }, "Show more");
  const foot = h("div", { class: "actions" }, more);
  foot.hidden = !list.next;
  let next = list.next;
  more.addEventListener("click", async () => {
    more.disabled = true;
    try {
      const page = await get("/v1/files", { path, after: next });
      rows.append(...page.entries.map(row));
      next = page.next;
      foot.hidden = !next;
    } catch (failure) {
      foot.append(problem(failure));
    }
    more.disabled = false;
  });
  const head = h("thead", {}, h("tr", {},
    h("th", { scope: "col" }, "Name"), h("th", { scope: "col", class: "number" }, "Size"),
    h("th", { scope: "col", class: "wide" }, "Changed"), h("th", { scope: "col" }, h("span", { class: "hidden-text" }, "What to do with it"))));
  return h("div", { class: "card flush" },
    h("table", {}, h("caption", { class: "hidden-text" }, list.path ? `Files in ${list.path}` : "All files"), head, rows), foot);
}

function row(entry) {
  const isFolder = entry.kind === "directory";
  const name = h("th", { scope: "row", class: isFolder ? "name folder" : "name" },
    h("a", { href: link(isFolder ? "files" : "image", entry.path) }, entry.name));
  const doing = isFolder ? [] : [
    h("a", { class: "button small", href: link("convert", entry.path), "aria-label": `Convert ${entry.name}` }, "Convert"),
    h("a", { class: "button small", href: fileAddress(entry.path), download: entry.name, "aria-label": `Download ${entry.name}` }, "Download"),
  ];
  return h("tr", {}, name,
    h("td", { class: "number" }, isFolder ? "" : bytes(entry.size)),
    h("td", { class: "wide dim" }, moment(entry.modified * 1000)),
    h("td", {}, h("div", { class: "row-actions" }, doing)));
}
