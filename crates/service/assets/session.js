// Who asks: a token is handed to the service once, and comes back as a cookie that scripts cannot read.

import { ask, get, whenUnauthorized } from "./api.js";
import { say } from "./dom.js";

const dialog = document.getElementById("enter");
const form = document.getElementById("enter-form");
const input = document.getElementById("token");
const wrong = document.getElementById("enter-error");
const leave = document.getElementById("leave");

let asking = null;

/// Asks the person for a token until one is right.
function enter() {
  asking ??= new Promise((resolve) => {
    dialog.showModal();
    input.focus();
    const submit = async (event) => {
      event.preventDefault();
      const token = input.value.trim();
      try {
        // Not by `ask` again for a token that is wrong: this is where it is told.
        const answer = await fetch("/v1/session", { method: "POST", headers: { authorization: `Bearer ${token}` } });
        if (!answer.ok) throw new Error((await answer.json()).error.message);
      } catch (error) {
        wrong.textContent = error instanceof TypeError ? "The service was not reached." : `Not signed in: ${error.message}.`;
        input.setAttribute("aria-invalid", "true");
        input.select();
        return;
      }
      form.removeEventListener("submit", submit);
      input.value = "";
      input.removeAttribute("aria-invalid");
      wrong.textContent = "";
      dialog.close();
      asking = null;
      say("Signed in.");
      resolve(true);
    };
    form.addEventListener("submit", submit);
  });
  return asking;
}

// There is nothing behind the dialog to go back to.
dialog.addEventListener("cancel", (event) => event.preventDefault());

leave.addEventListener("click", async () => {
  await ask("DELETE", "/v1/session");
  location.reload();
});

/// Finds out who asks, with a token where one is needed, and says what the service is.
export async function begin() {
  whenUnauthorized(enter);
  const server = await get("/v1/server");
  leave.hidden = server.who === "local";
  leave.title = `Signed in as ${server.who}`;
  document.getElementById("about").textContent =
    `Transload ${server.version}${server.who === "local" ? "" : ` · signed in as ${server.who}`}`;
  return server;
}
