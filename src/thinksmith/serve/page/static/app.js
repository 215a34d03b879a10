// The page: what is asked of whom, the conversation, and the keys.

import { models, Refused, useToken } from "./api.js";
import { element, say } from "./elements.js";
import { Exchange } from "./exchange.js";

const BUDGETS = [0, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, Infinity]; // tokens; 0: no thinking
const at = (id) => document.getElementById(id);
const [prompt, composer, send, stop, model, strategy, budget, conversation, latest, fresh] = [
  "prompt", "composer", "send", "stop", "model", "strategy", "budget", "conversation", "latest", "fresh",
].map(at);

const exchanges = [];
let listed = new Map();
let running = null; // the AbortController of what runs
let following = true; // does the page go along with what is written?

// --- what is asked

function asked(upTo) {
  const messages = [];
  for (const each of exchanges.slice(0, upTo)) {
    if (each.answer) messages.push({ role: "user", content: each.prompt }, { role: "assistant", content: each.answer });
  }
  messages.push({ role: "user", content: exchanges[upTo].prompt });
  const tokens = BUDGETS[budget.value];
  const thinking = tokens === 0 ? { reasoning_effort: "none" } : tokens === Infinity ? {} : { thinking_token_budget: tokens };
  const spec = strategy.value ? `${model.value}:${strategy.value}` : model.value;
  return { model: spec, messages, seed: crypto.getRandomValues(new Uint32Array(1))[0] >>> 1, ...thinking };
}

async function run(exchange) {
  const controller = new AbortController();
  running = controller;
  show();
  follow(true);
  try {
    await exchange.run(asked(exchanges.indexOf(exchange)), controller.signal, () => { if (following) toEnd(); });
  } finally {
    running = null;
    const lost = document.activeElement === stop;
    show();
    if (lost) prompt.focus({ preventScroll: true });
  }
  if (exchange.trouble?.status === 401 && await enter()) await run(exchange);
}

function submit(text) {
  if (!text.trim() || running || send.disabled) return;
  const exchange = new Exchange(text.trim());
  exchanges.push(exchange);
  conversation.append(exchange.place);
  prompt.value = "";
  fit();
  run(exchange);
}

function show() {
  at("welcome").hidden = exchanges.length > 0;
  fresh.hidden = exchanges.length === 0;
  send.hidden = Boolean(running);
  stop.hidden = !running;
  conversation.querySelectorAll(".retry").forEach((button) => { button.hidden = Boolean(running); });
}

// --- whom

async function list() {
  try {
    const found = await models();
    trouble("");
    listed = new Map(found.map((each) => [each.id, each]));
    model.replaceChildren(...found.map((each) => element("option", { value: each.id }, each.id)));
    model.disabled = send.disabled = !found.length;
    if (!found.length) trouble("This server has no model.");
    strategies();
  } catch (error) {
    if (error.status === 401) {
      if (await enter()) await list();
      return;
    }
    trouble(error instanceof Refused ? error.message : "The models cannot be read.");
    setTimeout(list, 3000);
  }
}

function strategies() {
  const found = listed.get(model.value)?.strategies ?? [];
  const options = found.filter((each) => each.spec !== "single").map((each) => element("option", { value: each.spec, title: each.about }, each.spec));
  const before = strategy.value;
  strategy.replaceChildren(element("option", { value: "", title: "ask once" }, "single"), ...options);
  if (options.some((option) => option.value === before)) strategy.value = before;
  strategy.parentElement.hidden = !options.length;
  strategy.title = strategy.selectedOptions[0]?.title ?? "";
}

function trouble(text) {
  at("trouble").hidden = !text;
  if (at("trouble").textContent !== text) at("trouble").textContent = text;
}

/** Ask for the token; true once one was given. */
function enter() {
  const door = at("door");
  at("token").value = "";
  if (!door.open) door.showModal();
  return new Promise((resolve) => {
    door.addEventListener("close", () => {
      const given = at("token").value.trim();
      if (given) useToken(given);
      at("token").value = "";
      if (!given) trouble("The server asks for a token: reload the page to enter it.");
      prompt.focus();
      resolve(Boolean(given));
    }, { once: true });
  });
}

// --- how much

function budgetSaid() {
  const tokens = BUDGETS[budget.value];
  const short = tokens === 0 ? "off" : tokens === Infinity ? "free" : tokens >= 1024 ? `${tokens / 1024}k` : `${tokens}`;
  const long = tokens === 0 ? "no thinking" : tokens === Infinity ? "as long as it wants" : `at most ${tokens.toLocaleString("en")} tokens`;
  at("budget-said").textContent = short;
  budget.setAttribute("aria-valuetext", long);
  budget.title = `Thinking: ${long}`;
}

// --- where in the page

function toEnd() {
  window.scrollTo(0, document.documentElement.scrollHeight);
}

function follow(whether) {
  following = whether;
  latest.hidden = whether || !exchanges.length;
  if (whether) toEnd();
}

function atEnd() {
  return window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 48;
}

/** The prompt is as high as its text, up to a third of the window. */
function fit() {
  prompt.style.height = "auto";
  prompt.style.height = `${Math.min(prompt.scrollHeight, window.innerHeight / 3)}px`;
}

// --- hands

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  submit(prompt.value);
});
prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (running) say("Wait for the answer, or stop it with Escape.");
  else submit(prompt.value);
});
prompt.addEventListener("input", fit);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running && !at("door").open) running.abort();
});
stop.addEventListener("click", () => running?.abort());
conversation.addEventListener("retry", async (event) => {
  if (running) return;
  const exchange = event.detail;
  for (const later of exchanges.splice(exchanges.indexOf(exchange) + 1)) later.place.remove(); // they spoke of what now changes
  prompt.focus({ preventScroll: true });
  await run(exchange);
});
fresh.addEventListener("click", () => {
  running?.abort();
  exchanges.length = 0;
  conversation.replaceChildren();
  follow(true);
  show();
  prompt.focus();
  say("New chat.");
});
at("examples").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  prompt.focus();
  if (send.disabled) prompt.value = button.textContent;
  else submit(button.textContent);
});
model.addEventListener("change", strategies);
strategy.addEventListener("change", () => { strategy.title = strategy.selectedOptions[0].title; });
budget.addEventListener("input", budgetSaid);
latest.addEventListener("click", () => { follow(true); prompt.focus({ preventScroll: true }); });
let height = 0; // where the page stood at the last scroll: only a reader scrolls up
window.addEventListener("scroll", () => {
  const end = atEnd();
  if (end || window.scrollY < height) {
    following = end;
    latest.hidden = end || !exchanges.length;
  }
  height = window.scrollY;
}, { passive: true });

const fragment = new URLSearchParams(location.hash.slice(1));
if (fragment.has("token")) { // as the server prints it: used, and out of the address again
  useToken(fragment.get("token"));
  history.replaceState(null, "", location.pathname);
}
budget.max = BUDGETS.length - 1;
budget.value = BUDGETS.length - 1;
budgetSaid();
prompt.focus();
list();
