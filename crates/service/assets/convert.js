// The part where something becomes an image: a file of this computer, one that the service has, or an address.

import { formats, post, remove } from "./api.js";
import { choice, facts, field, h, problem, say } from "./dom.js";
import { follow, isOver } from "./live.js";
import { bar } from "./progress.js";
import { baseName, bytes, duration, stem } from "./text.js";
import { transfer } from "./transfer.js";
import { fileAddress, link } from "./files.js";

const SOURCES = [["computer", "This computer"], ["server", "The service's files"], ["address", "An address"]];

export function convertPart() {
  const part = new Convert();
  return { element: part.element, show: (rest) => part.show(rest) };
}

class Convert {
  constructor() {
    this.file = null;
    this.nameIsOwn = false;
    this.source = "computer";
    this.stop = null;

    this.title = h("h1", { tabindex: "-1" }, "Convert a disk");
    this.fileInput = h("input", {
      type: "file", id: "file", class: "hidden-text", "aria-describedby": "drop-help",
      onchange: () => this.take(this.fileInput.files[0]),
    });
    this.dropText = h("span", { class: "drop-text" });
    this.drop = h("label", {
      class: "drop", for: "file",
      ondragenter: (event) => this.drag(event, true),
      ondragover: (event) => this.drag(event, true),
      ondragleave: (event) => this.drag(event, false),
      ondrop: (event) => this.dropped(event),
    }, this.dropText);
    this.path = h("input", { type: "text", spellcheck: "false", autocomplete: "off", oninput: () => this.suggest() });
    this.url = h("input", { type: "url", spellcheck: "false", autocomplete: "off", placeholder: "https://…", oninput: () => this.suggest() });
    this.checksum = h("input", { type: "text", spellcheck: "false", autocomplete: "off", placeholder: "sha256:…" });
    this.ways = {
      computer: h("div", {}, this.fileInput, this.drop, h("small", { id: "drop-help" }, "Any disk image; what format it has is found out from its bytes. It is converted while it arrives.")),
      server: h("div", {}, field("Path", this.path, "Below the service's folder."), h("p", {}, h("a", { href: "#/files" }, "Look through the files"))),
      address: h("div", {}, field("Address", this.url, "https, s3, gs or az, as far as the service allows them."), field("Checksum of the file", this.checksum, "Checked while it is read, if there is one.")),
    };

    this.target = choice([], "", () => this.suggest());
    this.target.id = "target";
    this.name = h("input", { type: "text", id: "name", spellcheck: "false", autocomplete: "off", required: true, oninput: () => { this.nameIsOwn = this.name.value !== ""; } });
    this.from = choice([], "");
    this.kind = choice([["", "Usual"]], "");
    this.compress = choice([["", "No"], ["auto", "Yes"], ["zlib", "Deflate"], ["zstd", "Zstandard"]], "");
    this.digest = choice([["sha256", "SHA-256"], ["blake3", "BLAKE3"], ["none", "None"]], "sha256");
    this.replace = h("input", { type: "checkbox", id: "replace" });
    this.button = h("button", { type: "submit", class: "main" }, "Convert");
    this.outcome = h("section", { class: "card outcome", "aria-labelledby": "outcome-title", hidden: true });

    const switches = SOURCES.map(([value, text]) => h("label", { class: "switch" },
      h("input", { type: "radio", name: "source", value, checked: value === "computer", onchange: () => this.choose(value) }),
      h("span", {}, text)));
    this.form = h("form", { class: "card", onsubmit: (event) => this.submit(event) },
      h("fieldset", { class: "plain" }, h("legend", {}, "From"), h("div", { class: "switches" }, switches), ...Object.values(this.ways)),
      h("div", { class: "two" },
        field("Format", this.target),
        field("Name", this.name, "A path below the service's folder; folders that are missing are made.")),
      h("details", {}, h("summary", {}, "More"),
        h("div", { class: "two" },
          field("Format of the source", this.from),
          field("Kind of the new image", this.kind),
          field("Compress", this.compress),
          field("Digest of the disk", this.digest)),
        h("div", { class: "check" }, this.replace, h("label", { for: "replace" }, "Replace an image of this name"))),
      h("div", { class: "actions" }, this.button));
    this.element = h("section", { class: "part" }, this.title,
      h("p", { class: "lead" }, "Into another format, with every byte that a guest could read the same."), this.form, this.outcome);
    this.choose("computer");
    this.take(null);
  }

  /// `#/convert/PATH` is a file of the service as the source.
  async show(rest) {
    this.formats ??= await formats();
    if (this.target.options.length === 0) {
      const line = (format) => [format.name, `${format.name} – ${format.title}`];
      const targets = this.formats.filter((format) => format.write);
      this.target.append(...targets.map(line).map(([value, text]) => h("option", { value }, text)));
      this.target.value = "qcow2";
      const sources = this.formats.filter((format) => format.read);
      this.from.append(...[["", "Find out"], ...sources.map(line)].map(([value, text]) => h("option", { value }, text)));
      this.from.value = "";
      this.kinds();
      this.target.addEventListener("change", () => this.kinds());
    }
    if (rest) {
      this.path.value = rest;
      this.nameIsOwn = false;
      this.choose("server");
      this.suggest();
    }
    return "Convert";
  }

  choose(source) {
    this.source = source;
    for (const [name, way] of Object.entries(this.ways)) way.hidden = name !== source;
    for (const radio of this.element.querySelectorAll("input[name=source]")) radio.checked = radio.value === source;
    // Only what is shown has to be filled in.
    this.path.required = source === "server";
    this.url.required = source === "address";
    this.suggest();
  }

  kinds() {
    const format = this.formats.find((one) => one.name === this.target.value);
    const kinds = format.variants.filter((variant) => variant.write).map((variant) => [variant.name, `${variant.name} – ${variant.summary}`]);
    const usual = format.options.find((option) => option.name === "subformat");
    this.kind.replaceChildren(...[["", "Usual"], ...(usual ? kinds : [])].map(([value, text]) => h("option", { value }, text)));
    this.kind.disabled = !usual;
  }

  drag(event, over) {
    event.preventDefault();
    this.drop.classList.toggle("over", over);
  }

  dropped(event) {
    this.drag(event, false);
    const files = event.dataTransfer.files;
    if (files.length > 0) this.take(files[0]);
    if (files.length > 1) say("One file is taken at a time: the first.");
  }

  take(file) {
    this.file = file ?? null;
    const content = this.file
      ? [h("strong", {}, this.file.name), h("span", { class: "dim" }, `${bytes(this.file.size)} · choose another`)]
      : [h("strong", {}, "Drop a disk image here"), h("span", { class: "dim" }, "or choose a file")];
    this.dropText.replaceChildren(...content);
    this.drop.classList.toggle("full", this.file !== null);
    if (this.file) say(`${this.file.name}, ${bytes(this.file.size)}, chosen.`);
    this.suggest();
  }

  /// What the source is called.
  sourceName() {
    if (this.source === "computer") return this.file?.name ?? "";
    return this.source === "server" ? this.path.value.trim() : this.url.value.trim();
  }

  /// Offers a name for the new image, until the person has one.
  suggest() {
    const format = this.formats?.find((one) => one.name === this.target.value);
    const name = baseName(this.sourceName());
    if (this.nameIsOwn || !format || !name) return;
    const folder = this.source === "server" && this.path.value.includes("/") ? this.path.value.replace(/[^/]*$/, "") : "";
    const ending = format.extensions[0] ?? format.name;
    const same = this.source === "server" && name === `${stem(name)}.${ending}`;
    this.name.value = `${folder}${stem(name)}${same ? "-new" : ""}.${ending}`;
  }

  async submit(event) {
    event.preventDefault();
    if (this.source === "computer" && !this.file) {
      this.fileInput.focus();
      say("Choose a file first.");
      this.drop.classList.add("missing");
      setTimeout(() => this.drop.classList.remove("missing"), 1500);
      return;
    }
    const source = this.sourceName();
    const progress = bar(`Converting ${baseName(source)}`, true);
    const cancel = h("button", { type: "button", onclick: () => this.stop?.() }, "Cancel");
    this.outcome.replaceChildren(h("h2", { id: "outcome-title" }, `Converting ${baseName(source)}`), progress.element, h("div", { class: "actions" }, cancel));
    this.outcome.hidden = false;
    this.button.disabled = true;
    say(`Converting ${baseName(source)}.`);
    try {
      const result = this.source === "computer" ? await this.upload(progress) : await this.job(progress);
      this.done(result);
    } catch (failure) {
      const title = failure.kind === "cancelled" ? "Cancelled" : "That did not work";
      this.outcome.replaceChildren(h("h2", { id: "outcome-title" }, title), problem(failure));
    } finally {
      this.button.disabled = false;
      this.stop = null;
    }
  }

  async upload(progress) {
    const query = {
      src: this.from.value, dst: this.target.value, name: this.name.value.trim(), compress: this.compress.value,
      options: this.kind.value && `subformat=${this.kind.value}`, digest: this.digest.value, force: this.replace.checked,
    };
    const going = transfer(this.file, query, (far) => progress.set(far, far.isEnding ? "Everything is sent; the image is being finished" : null));
    this.stop = going.stop;
    const made = await going.done;
    return { ...made, digests: made.digest ? [made.digest] : [] };
  }

  async job(progress) {
    const source = this.source === "server" ? { path: this.path.value.trim() } : { url: this.url.value.trim() };
    const read = {};
    if (this.from.value) read.format = this.from.value;
    if (this.source === "address" && this.checksum.value.trim()) read.checksum = this.checksum.value.trim();
    const wish = { kind: "convert", source, target: { path: this.name.value.trim() }, format: this.target.value, read, force: this.replace.checked };
    if (this.kind.value) wish.options = { subformat: this.kind.value };
    if (this.compress.value) wish.compress = this.compress.value;
    if (this.digest.value !== "none") wish.digests = [this.digest.value];
    const begun = await post("/v1/jobs", wish);
    progress.set(begun.progress, "Waiting for its turn");
    this.stop = () => remove(`/v1/jobs/${begun.id}`);
    const ended = await new Promise((resolve) => {
      const heard = (job) => {
        if (isOver(job)) resolve(job);
        else progress.set(job.progress, job.state === "queued" ? "Waiting for its turn" : null);
      };
      follow(begun, heard, true);
    });
    if (ended.state === "cancelled") throw { kind: "cancelled", message: "Cancelled. Nothing was kept." };
    if (ended.state === "failed") throw ended.error;
    return { ...ended.result, warnings: ended.warnings };
  }

  done(result) {
    const path = result.output;
    const digest = result.digests?.[0];
    this.outcome.replaceChildren(
      h("h2", { id: "outcome-title", tabindex: "-1" }, `${baseName(path)} is there`),
      facts([
        ["Image", path],
        ["Format", result.sourceFormat ? `${result.format}, from ${result.sourceFormat}` : result.format],
        ["Disk", bytes(result.capacityBytes)],
        ["Written", bytes(result.writtenBytes)],
        ["Time", duration(result.elapsedSeconds)],
        [digest ? digest.algorithm.toUpperCase() : "", digest && h("code", { class: "digest" }, digest.hex)],
      ]),
      ...(result.warnings ?? []).map((text) => h("p", { class: "notice" }, text)),
      h("div", { class: "actions" },
        h("a", { class: "button main", href: fileAddress(path), download: baseName(path) }, "Download"),
        h("a", { class: "button", href: link("image", path) }, "Look inside")));
    this.outcome.querySelector("h2").focus();
    say(`${baseName(path)} is there.`);
  }
}
