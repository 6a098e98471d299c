// Jobs as they change: the events of those that are under way, by server-sent events.

import { get } from "./api.js";

/// Streams at a time: a browser has six connections to a service, and the page needs some of them.
const MOST = 3;

/// How long it takes until a stream that was refused is asked for again, in milliseconds.
const PAUSE = 3000;

const ENDED = ["done", "failed", "cancelled"];

export const isOver = (job) => ENDED.includes(job.state);

const open = new Map();

/// Follows a job until it is over: `onChange` hears it whenever something of it has changed. Returns what stops that, or nothing
/// when as many are followed as can be and `must` does not say that this one has to.
export function follow(job, onChange, must = false) {
  if (open.has(job.id)) {
    open.get(job.id).listeners.add(onChange);
  } else {
    if (open.size >= MOST && !must) return null;
    const entry = { source: null, listeners: new Set([onChange]), job: { ...job } };
    open.set(job.id, entry);
    connect(entry);
  }
  return () => leave(job.id, onChange);
}

function connect(entry) {
  const path = `/v1/jobs/${encodeURIComponent(entry.job.id)}`;
  const source = new EventSource(`${path}/events?after=${entry.job.lastEvent}`);
  entry.source = source;
  const tell = (news) => {
    entry.job = { ...entry.job, ...news };
    for (const listener of [...entry.listeners]) listener(entry.job);
  };
  /// A state has more to it than its event: when it began, what came of it, who is at it.
  const look = async () => {
    let job;
    try {
      job = await get(path);
    } catch {
      return;
    }
    if (isOver(job)) {
      source.close();
      open.delete(job.id);
    }
    tell(job);
  };
  source.addEventListener("progress", (event) => tell({ progress: JSON.parse(event.data).progress }));
  source.addEventListener("warning", (event) => {
    const { message } = JSON.parse(event.data);
    // A look at the job may have been faster than its events.
    if (!entry.job.warnings.includes(message)) tell({ warnings: [...entry.job.warnings, message] });
  });
  source.addEventListener("cancelRequested", () => tell({ cancelRequested: true }));
  source.addEventListener("state", look);
  source.addEventListener("error", () => {
    // A connection that broke off is made again by the browser; one that was refused is not.
    if (source.readyState !== EventSource.CLOSED) return;
    setTimeout(async () => {
      if (open.get(entry.job.id) !== entry || entry.source !== source) return;
      await look();
      if (open.get(entry.job.id) === entry) connect(entry);
    }, PAUSE);
  });
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
