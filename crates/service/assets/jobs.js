// The part with the jobs: all of them, or one.

import { get, post, remove } from "./api.js";
import { choice, facts, field, h, problem, say } from "./dom.js";
import { fileAddress, link } from "./files.js";
import { follow, isOver } from "./live.js";
import { bar } from "./progress.js";
import { baseName, bytes, duration, moment, place } from "./text.js";

/// How often the list is asked for again, in milliseconds.
const EVERY = 3000;

const STATES = [["", "All"], ["queued", "Queued"], ["running", "Running"], ["done", "Done"], ["failed", "Failed"], ["cancelled", "Cancelled"]];

export function jobsPart() {
  const part = new Jobs();
  return { element: part.element, show: (rest) => part.show(rest), hide: () => part.hide() };
}

class Jobs {
  constructor() {
    this.rows = new Map();
    this.next = null;
    this.timer = null;
    this.one = "";
    this.title = h("h1", { tabindex: "-1" }, "Jobs");
    this.state = choice(STATES, "", () => this.load());
    this.text = h("input", { type: "search", placeholder: "name, source or target", oninput: () => this.soon() });
    this.filters = h("div", { class: "filters" }, field("State", this.state), field("With", this.text));
    this.list = h("ul", { class: "jobs" });
    this.empty = h("p", { class: "empty card", hidden: true }, "No jobs here. ", h("a", { href: "#/convert" }, "Convert something"));
    this.wrong = h("div", {});
    this.more = h("button", { type: "button", hidden: true, onclick: () => this.load(this.next) }, "Show older ones");
    this.detail = h("div", {});
    this.element = h("section", { class: "part" }, this.title, this.filters, this.wrong, this.list, this.empty, h("div", { class: "actions" }, this.more), this.detail);
  }

  async show(id) {
    this.hide();
    this.one = id;
    const isOne = id !== "";
    for (const piece of [this.filters, this.list, this.more.parentElement]) piece.hidden = isOne;
    this.empty.hidden = true;
    this.wrong.replaceChildren();
    this.detail.hidden = !isOne;
    this.title.textContent = isOne ? "Job" : "Jobs";
    if (isOne) await this.showOne(id);
    else {
      await this.load();
      this.timer = setInterval(() => { if (!document.hidden) this.load(); }, EVERY);
    }
    return isOne ? "Job" : "Jobs";
  }

  hide() {
    clearInterval(this.timer);
    clearTimeout(this.typing);
    for (const row of this.rows.values()) row.leave();
    this.rows.clear();
    this.list.replaceChildren();
  }

  /// Somebody is still typing.
  soon() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.load(), 250);
  }

  async load(after = null) {
    let page;
    try {
      page = await get("/v1/jobs", { state: this.state.value, text: this.text.value.trim(), after, limit: 50 });
    } catch (failure) {
      this.wrong.replaceChildren(problem(failure));
      return;
    }
    this.wrong.replaceChildren();
    if (after) this.isLong = true;
    if (!this.isLong || after) this.next = page.next;
    this.more.hidden = !this.next;
    const fresh = new Set(page.jobs.map((job) => job.id));
    // A list that was made longer keeps its older rows.
    if (!after && !this.isLong) {
      for (const [id, row] of [...this.rows]) {
        if (fresh.has(id)) continue;
        row.leave();
        row.element.remove();
        this.rows.delete(id);
      }
    }
    let before = null;
    for (const job of page.jobs) {
      let row = this.rows.get(job.id);
      if (row) row.set(job);
      else {
        row = new Row(job);
        this.rows.set(job.id, row);
        if (after) this.list.append(row.element);
        else if (before) before.after(row.element);
        else this.list.prepend(row.element);
      }
      before = row.element;
    }
    this.empty.hidden = this.rows.size > 0;
  }

  async showOne(id) {
    try {
      const row = new Row(await get(`/v1/jobs/${encodeURIComponent(id)}`), true);
      this.rows.set(id, row);
      this.detail.replaceChildren(h("p", {}, h("a", { href: "#/jobs" }, "All jobs")), h("ul", { class: "jobs" }, row.element));
    } catch (failure) {
      this.detail.replaceChildren(h("p", {}, h("a", { href: "#/jobs" }, "All jobs")), problem(failure));
    }
  }
}

/// One job in the list; with everything that is known of it when `isWhole`.
class Row {
  constructor(job, isWhole = false) {
    this.isWhole = isWhole;
    this.element = h("li", { class: "card job" });
    this.unfollow = null;
    this.set(job);
  }

  leave() {
    this.unfollow?.();
    this.unfollow = null;
  }

  set(job) {
    const was = this.job;
    // A page that was asked for before the latest event is older than what is shown.
    if (was && job.updatedAt === was.updatedAt && job.state === was.state && !this.forced) return this.watch();
    this.forced = false;
    this.job = job;
    if (was && was.state === "running" && job.state === "running" && !job.cancelRequested) this.bar.set(job.progress);
    else this.draw();
    if (was && was.state !== job.state) say(`${title(job)}: ${job.state}`);
    this.watch();
  }

  watch() {
    if (isOver(this.job)) this.leave();
    else this.unfollow ??= follow(this.job, (job) => { this.forced = true; this.set(job); }, this.isWhole);
  }

  draw() {
    const { job } = this;
    const name = title(job);
    const parts = [h("div", { class: "job-head" },
      h("h2", {}, this.isWhole ? name : h("a", { href: `#/jobs/${job.id}` }, name)),
      h("span", { class: `state ${job.state}` }, job.cancelRequested && !isOver(job) ? "stopping" : job.state))];
    parts.push(h("p", { class: "way" }, way(job)));
    if (job.state === "running") {
      this.bar = bar(name);
      this.bar.set(job.progress);
      parts.push(this.bar.element);
    }
    parts.push(h("p", { class: "dim" }, when(job)));
    if (job.state === "failed" && job.error) parts.push(quietly(problem(job.error)));
    else if (!isOver(job) && job.lastError) parts.push(h("p", { class: "notice" }, `Attempt ${job.lastError.attempt} failed: ${job.lastError.message}`));
    parts.push(...job.warnings.map((text) => h("p", { class: "notice" }, text)));
    this.wrong = h("div", {});
    const doing = this.doing(name);
    if (doing.length > 0) parts.push(h("div", { class: "actions" }, doing));
    parts.push(this.wrong);
    if (this.isWhole) parts.push(...everything(job));
    const hadFocus = this.element.contains(document.activeElement) && document.activeElement.textContent;
    this.element.replaceChildren(...parts);
    // The button that was pressed may be gone; whoever uses the keyboard stays in this row.
    if (hadFocus) (doing.find((one) => one.textContent === hadFocus) ?? doing[0] ?? this.element.querySelector("a"))?.focus();
  }

  doing(name) {
    const { job } = this;
    const button = (text, act) => h("button", { type: "button", class: "small", "aria-label": `${text}: ${name}`, onclick: (event) => this.act(event.target, act) }, text);
    const path = `/v1/jobs/${encodeURIComponent(job.id)}`;
    const list = [];
    if (!isOver(job) && !job.cancelRequested) list.push(button("Cancel", () => remove(path)));
    if ((job.state === "failed" || job.state === "cancelled") && !job.streamed) list.push(button("Retry", () => post(`${path}/retry`)));
    const output = job.state === "done" && job.result?.output;
    if (output && !output.includes("://") && ["convert", "export"].includes(job.kind)) {
      list.push(h("a", { class: "button small", href: fileAddress(output), download: baseName(output), "aria-label": `Download ${baseName(output)}` }, "Download"));
      if (job.kind === "convert") list.push(h("a", { class: "button small", href: link("image", output), "aria-label": `Look inside ${baseName(output)}` }, "Look inside"));
    }
    return list;
  }

  async act(button, act) {
    button.disabled = true;
    try {
      await act();
      this.forced = true;
      this.set(await get(`/v1/jobs/${encodeURIComponent(this.job.id)}`));
    } catch (failure) {
      button.disabled = false;
      this.wrong.replaceChildren(problem(failure));
    }
  }
}

/// In a list that is drawn again and again, a failure is not an alert each time.
function quietly(element) {
  element.removeAttribute("role");
  return element;
}

function title(job) {
  const verb = job.kind[0].toUpperCase() + job.kind.slice(1);
  return job.request.run?.name ?? `${verb} ${baseName(place(job.request.source))}`;
}

function way(job) {
  const from = place(job.request.source);
  const to = place(job.request.target);
  const format = job.request.format ? ` (${job.request.format})` : "";
  return to ? `${from} → ${to}${format}` : from;
}

function when(job) {
  const parts = [];
  if (job.state === "queued") parts.push(`submitted ${moment(job.createdAt)}`);
  else if (isOver(job)) parts.push(moment(job.finishedAt));
  else parts.push(`began ${moment(job.startedAt)}`);
  if (job.state === "done" && job.result) {
    if (job.result.capacityBytes) parts.push(bytes(job.result.capacityBytes));
    parts.push(duration(job.result.elapsedSeconds));
  }
  if (job.attempts > 1) parts.push(`attempt ${job.attempts} of ${job.maxAttempts}`);
  if (job.streamed) parts.push("in one request");
  return parts.join(" · ");
}

function everything(job) {
  const result = job.result ?? {};
  return [
    facts([
      ["Id", h("code", {}, job.id)],
      ["Submitted", moment(job.createdAt)],
      ["Began", moment(job.startedAt)],
      ["Ended", moment(job.finishedAt)],
      ["Worker", job.worker],
      ["Format", result.format],
      ["Written", result.writtenBytes ? bytes(result.writtenBytes) : ""],
      ["Sound", result.sound === undefined ? "" : result.sound ? "yes" : "no"],
      ...(result.digests ?? []).map((one) => [one.algorithm.toUpperCase(), h("code", { class: "digest" }, one.hex)]),
    ]),
    h("details", {}, h("summary", {}, "Everything about it, in JSON"), h("pre", { tabindex: "0" }, JSON.stringify(job, null, 2))),
  ];
}
