// What the server is asked: its models, a completion in pieces, the audit of a trace.

/** The server said no. `status` is HTTP's; 0 where it could not be reached. */
export class Refused extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

let token = "";

/** The token for all that follows. It lives in this variable and nowhere else. */
export function useToken(text) {
  token = text;
}

/** The models that the server lists. */
export async function models(signal) {
  return (await (await ask("v1/models", null, signal)).json()).data;
}

/** What the audit found in a trace. */
export async function audit(trace) {
  return (await ask("audit", trace)).json();
}

/**
 * A chat completion as it comes: {thinking}, {progress} and {answer} with text, {usage}, {finish} with its reason. Where the server is full,
 * {waiting} tells the seconds until it is asked again.
 */
export async function* chat(body, signal) {
  let response;
  while (!response) {
    const answered = await request("v1/chat/completions", body, signal);
    if (answered.status === 429) {
      const seconds = Math.min(60, Math.max(1, Number(answered.headers.get("Retry-After")) || 1));
      await answered.body?.cancel();
      yield { waiting: seconds };
      await pause(seconds, signal);
    } else {
      response = await granted(answered);
    }
  }
  let ended = false;
  for await (const data of events(response.body)) {
    if (data === "[DONE]") { ended = true; break; }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Refused(chunk.error.message ?? "The server failed.", 500);
    for (const choice of chunk.choices ?? []) {
      const delta = choice.delta ?? {};
      const thinking = delta.reasoning_content ?? delta.reasoning;
      if (thinking) yield delta.progress ? { progress: thinking } : { thinking };
      if (delta.content) yield { answer: delta.content };
      if (choice.finish_reason) { ended = true; yield { finish: choice.finish_reason }; }
    }
    if (chunk.usage) yield { usage: chunk.usage };
  }
  if (!ended) throw new Refused("The connection ended before the answer did.");
}

/** The data of server-sent events; every event of this API is one line. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (held + value).split("\n");
      held = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) yield line.slice(5).trim();
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // whoever stops reading lets the server stop, too
  }
}

async function ask(path, body, signal) {
  return granted(await request(path, body, signal));
}

async function request(path, body, signal) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  try {
    return await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server cannot be reached.");
  }
}

/** The response, if it is one; else what the server says is wrong. */
async function granted(response) {
  if (response.ok) return response;
  let message;
  try {
    const { error } = await response.json();
    message = error?.message ?? error;
  } catch { /* no JSON: the status must do */ }
  throw new Refused(typeof message === "string" && message ? message : `The server answers with ${response.status}.`, response.status);
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => { clearTimeout(timer); reject(new DOMException("stopped", "AbortError")); }, { once: true });
  });
}
