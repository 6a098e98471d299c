// A bar with words, for what takes its time.

import { h, say } from "./dom.js";
import { far } from "./text.js";

/// A bar called `label`. `set` shows how far it is, `spoken` says every quarter aloud.
export function bar(label, spoken = false) {
  const meter = h("progress", { max: 1, "aria-label": label });
  const words = h("p", { class: "far" });
  let quarter = 0;
  return {
    element: h("div", { class: "progress" }, meter, words),
    set(progress, ending = null) {
      const share = progress.totalBytes ? progress.doneBytes / progress.totalBytes : null;
      if (share === null || ending) meter.removeAttribute("value");
      else meter.value = share;
      const percent = share === null ? "" : `${Math.floor(share * 100)} % · `;
      words.textContent = ending ?? `${progress.step ? `${progress.step} · ` : ""}${percent}${far(progress)}`;
      const reached = share === null ? 0 : Math.floor(share * 4);
      if (spoken && reached > quarter && reached < 4) {
        quarter = reached;
        say(`${label}: ${reached * 25} percent`);
      }
    },
    fill() {
      meter.value = 1;
    },
  };
}
