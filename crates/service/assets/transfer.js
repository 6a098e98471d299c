// An upload that becomes an image while it goes. `XMLHttpRequest`, as only it tells how much of a body has been sent.

import { Failure, address, cutOff, failureOf } from "./api.js";

/// Seconds over which the rate is an average.
const SPAN = 4;

/// Sends `file`; `onProgress` hears how far it is. Returns what was made, and a function that stops it.
export function transfer(file, query, onProgress) {
  const request = new XMLHttpRequest();
  const marks = [{ at: performance.now() / 1000, done: 0 }];
  const done = new Promise((resolve, reject) => {
    request.upload.addEventListener("progress", ({ loaded }) => {
      const now = performance.now() / 1000;
      marks.push({ at: now, done: loaded });
      while (marks.length > 2 && now - marks[0].at > SPAN) marks.shift();
      const rate = (loaded - marks[0].done) / Math.max(now - marks[0].at, 0.001);
      const left = rate > 0 && now - marks[0].at > 0.5 ? (file.size - loaded) / rate : null;
      onProgress({ doneBytes: loaded, totalBytes: file.size, bytesPerSecond: rate, etaSeconds: left });
    });
    request.upload.addEventListener("load", () => onProgress({ doneBytes: file.size, totalBytes: file.size, isEnding: true }));
    request.addEventListener("load", () => {
      if (request.status >= 200 && request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(failureOf(request.status, request.responseText));
    });
    request.addEventListener("error", () => reject(cutOff()));
    request.addEventListener("abort", () => reject(new Failure(0, { kind: "cancelled", message: "Cancelled. Nothing was kept." })));
  });
  request.open("POST", address("/upload", query));
  request.setRequestHeader("content-type", "application/octet-stream");
  request.send(file);
  return { done, stop: () => request.abort() };
}
