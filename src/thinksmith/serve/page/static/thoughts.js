// The folded thinking of one answer: text that grows, its tokens and its seconds.

import { counted, duration, element } from "./elements.js";

const PARCEL = 1500; // characters after which a new line begins a new element, so that a long trace is not laid out anew at each token
let openedLast = false; // who opens one wants to see the next, too

export class Thoughts {
  constructor() {
    this.text = "";
    this.shown = 0; // characters of the text that are in the page
    this.parcel = null;
    this.state = element("span", { class: "state" }, "Waiting");
    this.figures = element("span", { class: "figures" });
    this.peek = element("span", { class: "peek", "aria-hidden": "true" });
    this.progress = element("div", { class: "progress", hidden: true });
    this.body = element("div", { class: "body", dir: "auto" });
    this.scroller = element("div", { class: "thoughts", tabindex: "0", role: "group", "aria-label": "Thinking" }, this.progress, this.body);
    const summary = element("summary", {}, element("span", { class: "dot", "aria-hidden": "true" }), this.state, this.figures, this.peek);
    this.place = element("details", { class: "thinking", ".open": openedLast }, summary, this.scroller);
    summary.addEventListener("click", () => { openedLast = !this.place.open; });
    this.place.addEventListener("toggle", () => { if (this.place.open && this.place.classList.contains("live")) this.toEnd(); });
  }

  /** Text of the model's own thinking, or a strategy's word of what it does. */
  add(text, isProgress = false) {
    if (isProgress) {
      this.progress.hidden = false;
      this.progress.append(text);
      this.lastLine = text.trim() || this.lastLine;
    } else {
      this.text += text;
      this.lastLine = null;
    }
  }

  /** Bring the page up to date: once a frame, however many tokens came. */
  draw() {
    const atEnd = this.scroller.scrollTop + this.scroller.clientHeight >= this.scroller.scrollHeight - 24;
    while (this.shown < this.text.length) {
      if (!this.parcel) {
        this.parcel = document.createTextNode("");
        this.body.append(element("div", {}, this.parcel));
      }
      const cut = this.parcel.length < PARCEL ? this.text.indexOf("\n", this.shown + PARCEL - this.parcel.length) : this.text.indexOf("\n", this.shown);
      const end = cut < 0 ? this.text.length : cut + 1;
      this.parcel.appendData(this.text.slice(this.shown, cut < 0 ? end : cut));
      this.shown = end;
      if (cut >= 0) this.parcel = null;
    }
    if (!this.place.open) this.peek.textContent = this.lastLine ?? this.text.slice(-300).trimEnd().split("\n").at(-1).slice(-160);
    else if (atEnd) this.toEnd();
  }

  /** What the fold says: `state` is thinking, done, stopped or none; `tokens` may be an estimate. */
  tell(state, seconds, tokens, exact) {
    const words = { waiting: "Waiting", thinking: "Thinking", done: `Thought for ${duration(seconds)}`, stopped: `Stopped after ${duration(seconds)}` };
    const parts = [];
    if (tokens) parts.push(`${exact ? "" : "about "}${counted(tokens, "token")}`);
    if (state === "thinking") parts.push(duration(seconds));
    set(this.state, words[state]);
    set(this.figures, parts.join(" · "));
    this.place.classList.toggle("live", state === "thinking" || state === "waiting");
    if (state === "done" || state === "stopped") this.peek.textContent = "";
  }

  /** Show other nodes in place of the plain text (the audit's marks), or the plain text again. */
  mark(nodes) {
    if (nodes) {
      this.body.replaceChildren(...nodes);
    } else {
      this.body.replaceChildren();
      this.shown = 0;
      this.parcel = null;
      this.draw();
    }
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}

function set(place, text) {
  if (place.textContent !== text) place.textContent = text;
}
