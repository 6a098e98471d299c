// The part with one image: what it is, what stands on it, and the files in it.

import { address, formats, get, post } from "./api.js";
import { choice, facts, h, problem, say } from "./dom.js";
import { fileAddress, link, trail } from "./files.js";
import { follow, isOver } from "./live.js";
import { baseName, bytes, moment } from "./text.js";
import { tree } from "./tree.js";

export function imagePart() {
  const element = h("section", { class: "part" });
  let turn = 0;
  const show = async (path) => {
    turn += 1;
    const mine = turn;
    const title = h("h1", { tabindex: "-1" }, baseName(path));
    const about = h("div", { "aria-busy": "true" }, h("p", { class: "dim" }, "Looking at the image …"));
    element.replaceChildren(trail(path), title, about);
    const asked = [get("/v1/images/info", { path }), get("/v1/images/inspect", { path }), formats()];
    const [info, found, known] = await Promise.allSettled(asked);
    // Somebody has gone on to another image.
    if (mine !== turn) return baseName(path);
    about.removeAttribute("aria-busy");
    const cards = [];
    if (info.status === "fulfilled") cards.push(identity(info.value));
    else cards.push(h("div", { class: "card" }, h("h2", {}, "Image"), problem(info.reason)));
    cards.push(actions(path, known.value ?? []));
    if (found.status === "fulfilled") cards.push(...standing(path, found.value));
    else if (info.status === "fulfilled") cards.push(h("div", { class: "card" }, h("h2", {}, "On the disk"), problem(found.reason)));
    about.replaceChildren(...cards);
    return baseName(path);
  };
  return { element, show };
}

function identity(info) {
  const marks = [info.dirty && "It was not closed properly.", info.corrupt && "It is marked as corrupt."].filter(Boolean);
  const extents = info.extents.filter((extent) => extent.file).map((extent) => extent.file).join(", ");
  const snapshots = info.snapshots.map((one) => h("li", {}, `${one.name} · ${bytes(one.virtualSize)} · ${moment(one.date * 1000)}`));
  const details = Object.entries(info.details);
  return h("div", { class: "card" }, h("h2", {}, "Image"),
    facts([
      ["Format", info.variant ? `${info.title}, ${info.variant}` : info.title],
      ["Disk", `${bytes(info.virtualSize)} (${info.virtualSize.toLocaleString()} bytes)`],
      ["File", info.fileSize === undefined ? "" : bytes(info.fileSize)],
      ["Occupied", info.allocatedSize === undefined ? "" : bytes(info.allocatedSize)],
      ["Unit of allocation", info.clusterSize && bytes(info.clusterSize)],
      ["Compression", info.compression],
      ["Encryption", info.encryption],
      ["Backing file", info.backingFile],
      ["Data file", info.dataFile],
      ["Extents", extents],
    ]),
    [...marks, ...info.warnings].map((text) => h("p", { class: "notice" }, text)),
    snapshots.length > 0 && [h("h3", {}, "Snapshots"), h("ul", {}, snapshots)],
    details.length > 0 && h("details", {}, h("summary", {}, "Further facts"), facts(details)));
}

function actions(path, known) {
  const writable = known.filter((format) => format.write);
  const format = choice(writable.map((one) => [one.name, one.name]), "raw");
  format.setAttribute("aria-label", "Format of the download");
  const hand = h("button", { type: "button", onclick: () => { location.href = address("/export", { path, dst: format.value }); } }, "Download as");
  const outcome = h("div", { role: "status" });
  const check = h("button", { type: "button", onclick: () => run({ kind: "check", source: { path } }, outcome, told) }, "Check it");
  const digest = h("button", { type: "button", onclick: () => run({ kind: "digest", source: { path }, algorithm: "sha256" }, outcome, told) }, "Digest");
  const checkable = known.some((one) => one.check);
  return h("div", { class: "card" }, h("h2", {}, "What to do with it"),
    h("div", { class: "actions" },
      h("a", { class: "button main", href: link("convert", path) }, "Convert"),
      h("a", { class: "button", href: fileAddress(path), download: baseName(path) }, "Download the file"),
      h("span", { class: "joined" }, hand, format),
      checkable && check, digest),
    outcome);
}

/// What came of a job on an image.
function told(job) {
  if (job.state !== "done") return job.error ? problem(job.error) : h("p", {}, "Cancelled.");
  const parts = (job.result.digests ?? []).map((one) => h("p", {}, `${one.algorithm}: `, h("code", { class: "digest" }, one.hex)));
  if (job.result.sound === true) parts.push(h("p", { class: "notice good" }, "Nothing is wrong with it."));
  if (job.result.sound === false) parts.push(h("p", { class: "notice bad" }, "Something is wrong with it. ", h("a", { href: `#/jobs/${job.id}` }, "What was found")));
  return parts;
}

async function run(wish, outcome, tell) {
  outcome.replaceChildren(h("p", { class: "dim" }, "Working on it …"));
  try {
    const begun = await post("/v1/jobs", wish);
    follow(begun, (job) => {
      if (!isOver(job)) return;
      outcome.replaceChildren(...[tell(job)].flat());
      say(`The ${wish.kind} has ended.`);
    }, true);
  } catch (failure) {
    outcome.replaceChildren(problem(failure));
  }
}

function standing(path, found) {
  const cards = [];
  const table = { gpt: "GPT", mbr: "MBR" }[found.table] ?? "No partition table";
  cards.push(h("div", { class: "card" }, h("h2", {}, "Partitions"),
    h("p", { class: "dim" }, found.id ? `${table} · ${found.id}` : table),
    found.table && map(found),
    found.volumes.length > 0 && h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Volumes" }, volumes(found.volumes)),
    found.findings.map((one) => h("p", { class: `notice ${{ damage: "bad", note: "note" }[one.severity] ?? ""}` }, one.text))));
  if (found.systems.length > 0 || found.bootLoaders.length > 0) cards.push(systems(found));
  const withFiles = found.volumes.filter((one) => one.contents?.usage === "filesystem" || !one.contents);
  if (withFiles.length > 0) cards.push(files(path, found, withFiles));
  return cards;
}

/// The disk as a strip, each partition as wide as its share, small ones a little wider than they are.
function map(found) {
  const ns = "http://www.w3.org/2000/svg";
  const strip = document.createElementNS(ns, "svg");
  for (const [name, value] of Object.entries({ class: "strip", viewBox: "0 0 1000 36", preserveAspectRatio: "none", role: "img" })) strip.setAttribute(name, value);
  const own = found.volumes.filter((one) => one.partition && one.partition.role !== "extended");
  strip.setAttribute("aria-label", `${own.length} partitions on ${bytes(found.virtualSize)}`);
  own.forEach((one, at) => {
    const part = document.createElementNS(ns, "rect");
    const from = (one.partition.start / found.virtualSize) * 1000;
    const width = Math.max((one.size / found.virtualSize) * 1000 - 2, 4);
    const title = document.createElementNS(ns, "title");
    title.textContent = `${one.name}: ${one.contents?.type ?? one.partition.typeTitle ?? ""}, ${bytes(one.size)}`;
    for (const [name, value] of Object.entries({ x: from, y: 0, width, height: 36, rx: 3, class: `tone-${at % 6}` })) part.setAttribute(name, value);
    part.append(title);
    strip.append(part);
  });
  return strip;
}

function volumes(list) {
  const head = ["Volume", "Size", "Type", "Holds", "Label"].map((text) => h("th", { scope: "col", class: text === "Size" ? "number" : null }, text));
  const rows = list.map((one) => h("tr", {},
    h("th", { scope: "row" }, one.name),
    h("td", { class: "number" }, bytes(one.size)),
    h("td", {}, one.partition ? one.partition.typeTitle ?? one.partition.typeCode : ""),
    h("td", {}, one.unreadable ?? (one.contents ? `${one.contents.type}${one.contents.usage === "encrypted" ? " (encrypted)" : ""}` : "")),
    h("td", {}, one.contents?.label ?? one.partition?.label ?? "")));
  return h("table", {}, h("caption", { class: "hidden-text" }, "Volumes of the disk"), h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows));
}

function systems(found) {
  return h("div", { class: "card" }, h("h2", {}, "Systems"),
    found.systems.map((one) => facts([
      ["System", one.name ?? one.family],
      ["Host name", one.hostname],
      ["Architecture", one.architecture],
      ["Root", `${one.volume}${one.root === "/" ? "" : `:${one.root}`}`],
      ["Kernels", one.kernels.join(", ")],
      ["Mounts", one.mounts.filter((mount) => mount.state !== "virtual").map((mount) => `${mount.mountPoint} (${mount.volume ?? mount.source})`).join(", ")],
    ])),
    found.bootLoaders.length > 0 && facts([["Started by", found.bootLoaders.map((one) => [one.name, one.firmware].filter(Boolean).join(", ")).join("; ")]]));
}

function files(path, found, candidates) {
  const root = found.systems[0]?.volume;
  const first = candidates.find((one) => one.name === root) ?? candidates.find((one) => one.contents) ?? candidates[0];
  const place = h("div", {});
  const open = (volume) => place.replaceChildren(tree(path, volume));
  const select = choice(candidates.map((one) => [one.name, `${one.name} – ${one.contents?.type ?? "unknown"}, ${bytes(one.size)}`]), first.name, () => open(select.value));
  select.setAttribute("aria-label", "Volume whose files are shown");
  open(first.name);
  return h("div", { class: "card" }, h("div", { class: "card-head" }, h("h2", {}, "Files on it"), candidates.length > 1 && select), place);
}
