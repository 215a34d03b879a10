// One prompt and what came of it: how it is asked, shown while it comes, stopped, asked again, copied and audited.

import { audit, chat, Refused } from "./api.js";
import { copy, counted, duration, element, say } from "./elements.js";
import { listed, marked, told } from "./findings.js";
import { Markdown } from "./markdown.js";
import { Thoughts } from "./thoughts.js";

const STILL = 20; // seconds between words to a screen reader while nothing else is told
const TOLD = 700; // characters of an answer that are read out by themselves
const ENDINGS = { length: "cut off: no tokens left", content_filter: "withheld by the server" };

export class Exchange {
  constructor(prompt) {
    this.prompt = prompt;
    this.answer = "";
    this.status = "new"; // new, running, done, stopped, failed
    this.byline = element("h2", { class: "byline" });
    this.reply = element("div", { class: "reply" });
    const question = element("div", { class: "question" }, element("h2", { class: "unseen" }, "You"), element("p", { dir: "auto" }, prompt));
    this.place = element("li", {}, question, element("article", {}, this.byline, this.reply));
  }

  /** Ask, and show what comes until it ends, fails, or `signal` stops it. `body` is the request without its stream's settings. */
  async run(body, signal, changed) {
    this.begin(body.model);
    this.changed = changed;
    const still = setInterval(() => say(`Still ${this.answer ? "answering" : "thinking"}, ${counted(this.tokens(), "token")} so far.`), STILL * 1000);
    const clock = setInterval(() => this.soon(), 100);
    try {
      const asked = { ...body, stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } };
      for await (const piece of chat(asked, signal)) this.take(piece);
      this.status = "done";
    } catch (error) {
      if (error.name !== "AbortError" && !(error instanceof Refused)) console.error(error);
      this.status = error.name === "AbortError" ? "stopped" : "failed";
      this.trouble = error;
    } finally {
      clearInterval(still);
      clearInterval(clock);
      cancelAnimationFrame(this.frame);
      this.end();
    }
  }

  begin(model) {
    Object.assign(this, { answer: "", status: "running", began: performance.now(), answered: null, pieces: 0, thoughtPieces: 0, usage: null, finish: "", frame: 0, wait: 0, trouble: null });
    this.model = model;
    this.byline.textContent = model;
    this.thoughts = new Thoughts();
    this.output = element("div", { class: "answer" });
    this.markdown = new Markdown(this.output);
    this.note = element("p", { class: "outcome", hidden: true });
    this.actions = element("div", { class: "actions" });
    this.panel = element("section", { class: "findings", "aria-label": "Audit of this answer", tabindex: "-1", hidden: true });
    this.reply.replaceChildren(this.thoughts.place, this.output, this.note, this.actions, this.panel);
    this.place.setAttribute("aria-busy", "true");
    this.place.dataset.status = "running";
    this.thoughts.tell("waiting", 0, 0, true);
    say("Asked.");
  }

  take(piece) {
    if (piece.waiting) {
      this.wait = piece.waiting;
      say(`The server is full. Asking again in ${counted(piece.waiting, "second")}.`);
    } else {
      this.wait = 0;
    }
    if (piece.thinking || piece.progress) {
      this.thoughts.add(piece.thinking ?? piece.progress, Boolean(piece.progress));
      if (piece.thinking) this.thoughtPieces++;
      this.pieces++;
    }
    if (piece.answer) {
      if (this.answered === null) this.answered = performance.now();
      this.answer += piece.answer;
      this.pieces++;
    }
    if (piece.usage) this.usage = piece.usage;
    if (piece.finish) this.finish = piece.finish;
    this.soon();
  }

  soon() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  draw() {
    this.thoughts.draw();
    this.markdown.show(this.answer);
    const { thinking, exact } = this.counts();
    const seconds = ((this.answered ?? performance.now()) - this.began) / 1000;
    const started = this.pieces > 0;
    if (this.status === "running") this.thoughts.tell(this.answered !== null ? "done" : started ? "thinking" : "waiting", seconds, thinking, exact);
    this.note.hidden = !this.wait;
    if (this.wait) this.note.textContent = `The server is full; it is asked again in ${counted(this.wait, "second")}.`;
    this.changed?.();
  }

  end() {
    this.frame = 0;
    this.seconds = (performance.now() - this.began) / 1000;
    this.wait = 0;
    this.draw();
    const { thinking, exact } = this.counts();
    const thought = ((this.answered ?? performance.now()) - this.began) / 1000;
    this.thoughts.tell(this.status === "done" ? "done" : "stopped", thought, thinking, exact);
    this.thoughts.place.hidden = !this.thoughts.text && this.thoughts.progress.hidden;
    this.place.removeAttribute("aria-busy");
    this.place.dataset.status = this.status;
    const note = this.status === "failed" ? this.trouble.message ?? "Something failed." : this.status === "stopped" ? "Stopped." : ENDINGS[this.finish] && `It was ${ENDINGS[this.finish]}.`;
    this.note.hidden = !note;
    this.note.textContent = note || "";
    this.note.classList.toggle("bad", this.status === "failed");
    this.showActions();
    this.announce(note);
    this.changed?.();
  }

  showActions() {
    const buttons = [];
    if (this.answer) buttons.push(action("Copy", "Copy the answer", async (button) => {
      await copy(this.answer);
      flash(button, "Copied");
    }));
    this.retry = action("Retry", "Ask this again", () => this.place.dispatchEvent(new CustomEvent("retry", { bubbles: true, detail: this })));
    this.retry.classList.add("retry");
    buttons.push(this.retry);
    if (this.thoughts.text || this.answer) {
      this.auditing = action("Audit", "Audit the thinking", () => this.toggleAudit());
      this.auditing.setAttribute("aria-expanded", "false");
      buttons.push(this.auditing);
    }
    this.actions.replaceChildren(...buttons, element("span", { class: "figures" }, this.figures()));
  }

  figures() {
    const { thinking, answer, total, exact } = this.counts();
    const parts = [];
    if (total) parts.push(thinking ? `${exact ? "" : "about "}${thinking.toLocaleString("en")} + ${counted(answer, "token")}` : `${exact ? "" : "about "}${counted(total, "token")}`);
    parts.push(duration(this.seconds));
    if (total > 9 && this.seconds > 0.05) parts.push(`${Math.round(total / this.seconds).toLocaleString("en")} tok/s`);
    return parts.join(" · ");
  }

  /** Tokens of thinking and answer: what the server counted, else how many pieces came. */
  counts() {
    if (this.usage) {
      const total = this.usage.completion_tokens ?? 0;
      const thinking = this.usage.completion_tokens_details?.reasoning_tokens ?? 0;
      return { thinking, answer: total - thinking, total, exact: true };
    }
    return { thinking: this.thoughtPieces, answer: this.pieces - this.thoughtPieces, total: this.pieces, exact: false };
  }

  tokens() {
    return this.counts().total;
  }

  announce(note) {
    const answer = this.output.textContent.trim();
    const told = answer.length > TOLD ? `${answer.slice(0, TOLD)} … The rest is in the page.` : answer;
    say([this.status === "done" && answer ? `Answer: ${told}` : "", note].filter(Boolean).join(" ") || "Nothing came.");
  }

  async toggleAudit() {
    if (!this.panel.hidden) {
      this.panel.hidden = true;
      this.thoughts.mark(null);
      this.auditing.setAttribute("aria-expanded", "false");
      return;
    }
    this.auditing.disabled = true;
    try {
      const { thinking, answer } = this.counts();
      const trace = { thinking: this.thoughts.text, answer: this.answer, ...(this.usage ? { thinking_tokens: thinking, answer_tokens: answer } : {}) };
      this.showFindings(await audit(trace));
    } catch (error) {
      this.note.hidden = false;
      this.note.textContent = `The audit failed: ${error.message}`;
      say(this.note.textContent);
    } finally {
      this.auditing.disabled = false;
      this.auditing.focus({ preventScroll: true }); // it was lost while the button could not be pressed
    }
  }

  showFindings(found) {
    if (found.part === "thinking" && this.thoughts.text) {
      this.thoughts.mark(marked(this.thoughts.text, found));
      this.thoughts.place.open = true;
    }
    const show = (what) => {
      const mark = this.thoughts.place.querySelector(`[data-at="${what}"]`);
      if (!mark) return;
      this.thoughts.place.open = true;
      mark.focus({ preventScroll: true });
      mark.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    };
    this.panel.replaceChildren(element("h3", {}, "Audit"), listed(found, found.part === "thinking" ? show : null));
    this.panel.hidden = false;
    this.auditing.setAttribute("aria-expanded", "true");
    say(told(found));
  }
}

function action(text, label, act) {
  const button = element("button", { type: "button", class: "quiet", "aria-label": label, title: label }, text);
  button.addEventListener("click", () => act(button));
  return button;
}

function flash(button, text) {
  const before = button.textContent;
  button.textContent = text;
  say(`${text}.`);
  setTimeout(() => { button.textContent = before; }, 1500);
}
