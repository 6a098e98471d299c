// Requests to the service. Who asks is known by a cookie that no script can read; see session.js.

/// What the service answers when something fails.
export class Failure extends Error {
  constructor(status, told) {
    super(told.message);
    this.status = status;
    this.kind = told.kind;
    this.causes = told.causes ?? [];
    this.remedy = told.remedy;
  }
}

/// A failure without a word from the service.
export function cutOff() {
  return new Failure(0, { kind: "network", message: "The service was not reached, or the connection broke off." });
}

/// The failure in an answer's text.
export function failureOf(status, text) {
  try {
    return new Failure(status, JSON.parse(text).error);
  } catch {
    return new Failure(status, { kind: "io", message: `The service answered with status ${status}.` });
  }
}

/// An address with a query; what is nothing is left out.
export function address(path, query = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "" && value !== false) search.append(name, String(value));
  }
  const text = search.toString();
  return text ? `${path}?${text}` : path;
}

let onUnauthorized = () => Promise.resolve(false);

/// Sets what asks for a token; it answers whether there is one now.
export function whenUnauthorized(ask) {
  onUnauthorized = ask;
}

/// Asks the service, and once more when a token was given meanwhile.
export async function ask(method, path, { query, body, signal, headers } = {}) {
  for (let again = false; ; again = true) {
    let answer;
    try {
      answer = await fetch(address(path, query), {
        method,
        signal,
        headers: { ...(body ? { "content-type": "application/json" } : {}), ...headers },
        body: body ? JSON.stringify(body) : undefined,
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw cutOff();
    }
    const text = await answer.text();
    if (answer.ok) return text ? JSON.parse(text) : null;
    if (answer.status === 401 && !again && await onUnauthorized()) continue;
    throw failureOf(answer.status, text);
  }
}

export const get = (path, query, signal) => ask("GET", path, { query, signal });
export const post = (path, body, query) => ask("POST", path, { query, body });
export const remove = (path) => ask("DELETE", path);

let formatsAsked = null;

/// The formats, asked for once.
export function formats() {
  formatsAsked ??= get("/v1/formats").then((answer) => answer.formats).catch((error) => {
    formatsAsked = null;
    throw error;
  });
  return formatsAsked;
}
