// Jobs as they change: the events of those that are under way, by server-sent events.

import { get } from "./api.js";

/// Streams at a time: a browser has six connections to a service, and the page needs some of them.
const MOST = 3;

const ENDED = ["done", "failed", "cancelled"];

export const isOver = (job) => ENDED.includes(job.state);

const open = new Map();

/// Follows a job until it is over: `onChange` hears it whenever something of it has changed. Returns what stops that, or nothing
/// when as many are followed as can be and `must` does not say that this one has to.
export function follow(job, onChange, must = false) {
  if (open.has(job.id)) {
    const listeners = open.get(job.id).listeners;
    listeners.add(onChange);
    return () => leave(job.id, onChange);
  }
  if (open.size >= MOST && !must) return null;
  const source = new EventSource(`/v1/jobs/${encodeURIComponent(job.id)}/events?after=${job.lastEvent}`);
  const entry = { source, listeners: new Set([onChange]), job: { ...job } };
  open.set(job.id, entry);
  const tell = () => { for (const listener of [...entry.listeners]) listener(entry.job); };
  source.addEventListener("progress", (event) => {
    entry.job = { ...entry.job, progress: JSON.parse(event.data).progress };
    tell();
  });
  source.addEventListener("warning", (event) => {
    const { message } = JSON.parse(event.data);
    // The stream tells from the beginning what the job may have had already.
    if (!entry.job.warnings.includes(message)) entry.job = { ...entry.job, warnings: [...entry.job.warnings, message] };
    tell();
  });
  source.addEventListener("cancelRequested", () => {
    entry.job = { ...entry.job, cancelRequested: true };
    tell();
  });
  source.addEventListener("state", async () => {
    // A state has more to it than its event: when it began, what came of it, who is at it.
    try {
      entry.job = await get(`/v1/jobs/${encodeURIComponent(job.id)}`);
    } catch {
      return;
    }
    if (isOver(entry.job)) {
      source.close();
      open.delete(job.id);
    }
    tell();
  });
  return () => leave(job.id, onChange);
}

function leave(id, listener) {
  const entry = open.get(id);
  if (!entry) return;
  entry.listeners.delete(listener);
  if (entry.listeners.size === 0) {
    entry.source.close();
    open.delete(id);
  }
}
