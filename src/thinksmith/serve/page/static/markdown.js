// Markdown to elements: what answers have, and no more. No links, no pictures, no HTML: all that is shown as it is written.
// Every step is linear in the text, also for text that means ill.

import { copy, element, say } from "./elements.js";
import { formula } from "./formula.js";

const DEEPEST = 6; // lists in lists, quotes in quotes
const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*?)[ \t#]*$/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?:[ \t]+|$)/;
const DIVIDER = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const DISPLAY = /^ {0,3}(\$\$|\\\[)/;

/** Shows text that may still grow in `place`. Blocks that have not changed keep their elements, and what is selected in them. */
export class Markdown {
  constructor(place) {
    this.place = place;
    this.sources = [];
  }

  show(text) {
    const found = blocks(text.split("\n"));
    let same = 0;
    while (same < found.length && same < this.sources.length && found[same].source === this.sources[same]) same++;
    while (this.place.childNodes.length > same) this.place.lastChild.remove();
    this.place.append(...found.slice(same).map((block) => render(block, 0)));
    this.sources = found.map((block) => block.source);
  }
}

/** The blocks of lines. `source` tells whether one is what it was. */
function blocks(lines) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) { at++; continue; }
    const begin = at;
    const block = fence(lines, at) ?? display(lines, at) ?? single(lines, at) ?? quote(lines, at) ?? list(lines, at) ?? table(lines, at) ?? paragraph(lines, at);
    at = block.end;
    block.source = `${block.kind}${block.open ? "…" : ""}\n${lines.slice(begin, at).join("\n")}`;
    found.push(block);
  }
  return found;
}

function fence(lines, at) {
  const opened = FENCE.exec(lines[at]);
  if (!opened) return null;
  let end = at + 1;
  const closes = (line) => line.trim().startsWith(opened[1]) && !line.trim().replaceAll(opened[1][0], "");
  while (end < lines.length && !closes(lines[end])) end++;
  return { kind: "code", language: opened[2], text: lines.slice(at + 1, end).join("\n"), open: end >= lines.length, end: Math.min(end + 1, lines.length) };
}

function display(lines, at) {
  const opened = DISPLAY.exec(lines[at]);
  if (!opened) return null;
  const close = opened[1] === "$$" ? "$$" : "\\]";
  let text = lines[at].slice(opened[0].length);
  for (let end = at + 1; ; end++) {
    const place = text.indexOf(close);
    if (place >= 0) return text.slice(place + 2).trim() ? null : { kind: "math", text: text.slice(0, place), end };
    if (end >= lines.length || !lines[end].trim()) return null;
    text = `${text}\n${lines[end]}`;
  }
}

function single(lines, at) {
  const heading = HEADING.exec(lines[at]);
  if (heading) return { kind: "heading", level: heading[1].length, text: heading[2], end: at + 1 };
  return RULE.test(lines[at]) ? { kind: "rule", end: at + 1 } : null;
}

function quote(lines, at) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end++;
  return end > at ? { kind: "quote", lines: lines.slice(at, end).map((line) => line.replace(QUOTE, "")), end } : null;
}

function list(lines, at) {
  const first = ITEM.exec(lines[at]);
  if (!first) return null;
  const ordered = /\d/.test(first[2]);
  const items = [];
  let end = at;
  while (end < lines.length) {
    const item = ITEM.exec(lines[end]);
    const beside = item && item[1].length < first[1].length + 2; // further in, it belongs to the item
    if (beside && /\d/.test(item[2]) === ordered && !RULE.test(lines[end])) {
      items.push({ indent: Math.min(item[0].length, item[1].length + item[2].length + 1), lines: [lines[end].slice(item[0].length)] });
    } else if (!lines[end].trim()) {
      const next = lines[end + 1] ?? "";
      if (!/^ {2,}\S/.test(next) && !ITEM.test(next)) break;
      items.at(-1).lines.push("");
    } else if (/^\s{2,}/.test(lines[end])) {
      items.at(-1).lines.push(lines[end].replace(new RegExp(`^\\s{1,${items.at(-1).indent}}`), ""));
    } else if (item || startsBlock(lines[end]) || !lines[end - 1].trim()) {
      break;
    } else {
      items.at(-1).lines.push(lines[end]); // a lazy line goes on with the item
    }
    end++;
  }
  return { kind: "list", ordered, start: ordered ? parseInt(first[2], 10) : 1, items: items.map((each) => each.lines), end };
}

function table(lines, at) {
  if (!lines[at].includes("|") || !DIVIDER.test(lines[at + 1] ?? "") || cells(lines[at]).length !== cells(lines[at + 1]).length) return null;
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end++;
  return { kind: "table", rows: [lines[at], ...lines.slice(at + 2, end)].map(cells), end };
}

function cells(line) {
  return line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
}

function paragraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !startsBlock(lines[end])) end++;
  return { kind: "paragraph", text: lines.slice(at, end).join("\n"), end };
}

function startsBlock(line) {
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line) || DISPLAY.test(line);
}

function render(block, depth) {
  switch (block.kind) {
    case "code": return code(block);
    case "math": return formula(block.text, true) ?? element("pre", { class: "tex" }, block.text.trim());
    case "rule": return element("hr");
    case "heading": return element(`h${Math.min(6, block.level + 2)}`, { dir: "auto" }, ...inline(block.text));
    case "quote": return element("blockquote", {}, ...nested(block.lines, depth));
    case "table": return tabular(block.rows);
    case "list": {
      const items = block.items.map((lines) => element("li", { dir: "auto" }, ...itemParts(lines, depth)));
      return element(block.ordered ? "ol" : "ul", block.ordered && block.start !== 1 ? { start: block.start } : {}, ...items);
    }
    default: return element("p", { dir: "auto" }, ...inline(block.text));
  }
}

function nested(lines, depth) {
  if (depth >= DEEPEST) return [lines.join("\n")];
  return blocks(lines).map((block) => render(block, depth + 1));
}

/** An item of one paragraph needs no paragraph. */
function itemParts(lines, depth) {
  const found = depth >= DEEPEST ? [] : blocks(lines);
  if (!found.length) return [lines.join("\n")];
  const head = found[0].kind === "paragraph" ? inline(found[0].text) : [render(found[0], depth + 1)];
  return [...head, ...found.slice(1).map((block) => render(block, depth + 1))];
}

function code(block) {
  const button = element("button", { type: "button", class: "quiet", "aria-label": "Copy this code" }, "Copy");
  button.addEventListener("click", async () => {
    await copy(block.text);
    button.textContent = "Copied";
    say("Copied.");
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  const label = block.language || "text";
  const pre = element("pre", { tabindex: "0", "aria-label": `Code, ${label}` }, element("code", {}, block.text));
  return element("div", { class: "code" }, element("div", { class: "bar" }, element("span", {}, label), button), pre);
}

function tabular([head, ...body]) {
  const row = (tag, texts) => element("tr", {}, ...texts.map((text) => element(tag, tag === "th" ? { scope: "col" } : {}, ...inline(text))));
  const made = element("table", {}, element("thead", {}, row("th", head)), element("tbody", {}, ...body.map((texts) => row("td", texts))));
  return element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table" }, made);
}

const SPANS = [
  { open: "`", close: "`", make: (text) => element("code", {}, text) },
  { open: "\\(", close: "\\)", make: (text) => formula(text) },
  { open: "\\[", close: "\\]", make: (text) => formula(text, true) },
  { open: "$$", close: "$$", make: (text) => formula(text, true) },
  { open: "$", close: "$", fits: (text, after) => !/^\s|\s$/.test(text) && !/^\d/.test(after), make: (text) => formula(text) },
  { open: "***", close: "***", inner: true, make: (...parts) => element("strong", {}, element("em", {}, ...parts)) },
  { open: "**", close: "**", inner: true, make: (...parts) => element("strong", {}, ...parts) },
  { open: "__", close: "__", inner: true, word: true, make: (...parts) => element("strong", {}, ...parts) },
  { open: "*", close: "*", inner: true, make: (...parts) => element("em", {}, ...parts) },
  { open: "_", close: "_", inner: true, word: true, make: (...parts) => element("em", {}, ...parts) },
];
const SPECIAL = /[`\\$*_]/g;

/** Text with its emphasis, code and formulas, as nodes and texts. */
function inline(text, depth = 0) {
  const found = [];
  const closes = new Map(); // where each sign closes next: looked for once, so that all of it is linear
  let held = 0;
  let at = 0;
  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const next = SPECIAL.exec(text);
    if (!next) break;
    at = next.index;
    const read = boxed(text, at) ?? span(text, at, closes, depth) ?? escaped(text, at);
    if (!read) { at++; continue; }
    if (at > held) found.push(text.slice(held, at));
    found.push(read.node);
    at = held = read.end;
  }
  if (held < text.length) found.push(text.slice(held));
  return found;
}

function span(text, at, closes, depth) {
  for (const kind of SPANS) {
    if (!text.startsWith(kind.open, at)) continue;
    const begin = at + kind.open.length;
    if (!(closes.get(kind) >= begin)) {
      const found = text.indexOf(kind.close, begin);
      closes.set(kind, found < 0 ? Infinity : found);
    }
    const end = closes.get(kind);
    if (end === Infinity) continue;
    const inner = text.slice(begin, end);
    const after = text.slice(end + kind.close.length, end + kind.close.length + 1);
    if (!inner.trim() || (kind.fits && !kind.fits(inner, after))) continue;
    if (kind.inner && (/^\s|\s$/.test(inner) || depth >= DEEPEST)) continue;
    if (kind.word && (/\w/.test(text[at - 1] ?? "") || /\w/.test(after))) continue;
    const node = kind.inner ? kind.make(...inline(inner, depth + 1)) : kind.make(inner);
    if (node) return { node, end: end + kind.close.length };
  }
  return null;
}

/** \boxed{…} outside of a formula, as models like to end. */
function boxed(text, at) {
  const opened = /^\\(?:boxed|fbox)\{/.exec(text.slice(at, at + 8));
  if (!opened) return null;
  let depth = 0;
  for (let end = at + opened[0].length - 1; end < Math.min(text.length, at + 1000); end++) {
    if (text[end] === "{") depth++;
    if (text[end] === "}" && --depth === 0) {
      const node = formula(text.slice(at, end + 1)) ?? element("strong", { class: "boxed" }, text.slice(at + opened[0].length, end));
      return { node, end: end + 1 };
    }
  }
  return null;
}

function escaped(text, at) {
  return text[at] === "\\" && /[`\\$*_#[\]()>!|~+.-]/.test(text[at + 1] ?? "") && !/[([\])]/.test(text[at + 1]) ? { node: text[at + 1], end: at + 2 } : null;
}
