// What the audit found in a trace: marks in the thinking, and a list that leads to them.

import { counted, element } from "./elements.js";

const KINDS = { restate: "restates", plan: "plans", compute: "computes", check: "checks", backtrack: "turns back", conclude: "concludes" };

/** The thinking in segments, each with its label; equations, the answer's first place and a loop are marked. */
export function marked(text, found) {
  const at = offsets(text);
  const equations = found.equations.map((each) => ({ ...each, start: at(each.start), end: at(each.end), first: same(each, found.first_false) }));
  const loop = found.loop && { start: at(found.loop.start), end: at(found.loop.end) };
  const answer = found.answer_first_at == null ? null : at(found.answer_first_at);
  let next = 0;
  return found.segments.map((segment) => {
    const start = at(segment.start);
    const end = at(segment.end);
    const own = [];
    while (next < equations.length && equations[next].end <= end) own.push(equations[next++]);
    const body = element("span", { class: "said" }, ...pieces(text, start, end, own, loop, answer));
    return element("div", { class: `segment ${segment.kind}` }, element("span", { class: "kind" }, KINDS[segment.kind] ?? segment.kind), body);
  });
}

/** Nodes for `text[start:end]`. Chains share a side (3 + 4 = 2 + 5 = 7): a later equation's mark begins where the one before ends. */
function pieces(text, start, end, equations, loop, answer) {
  const last = start + text.slice(start, end).trimEnd().length;
  const cuts = new Set([start, last]);
  let from = start;
  for (const each of equations) {
    each.from = Math.max(from, each.start);
    from = each.end;
    cuts.add(each.from).add(each.end);
  }
  if (loop) cuts.add(loop.start).add(loop.end);
  if (answer !== null) cuts.add(answer);
  const places = [...cuts].filter((place) => place >= start && place <= last).sort((one, other) => one - other);
  const made = [];
  let at = 0;
  let mark = null; // of the equation that the piece before belongs to
  for (let i = 0; i + 1 < places.length; i++) {
    const [begin, stop] = [places[i], places[i + 1]];
    while (at < equations.length && equations[at].end <= begin) at++;
    const equation = equations[at] && equations[at].from <= begin ? equations[at] : null;
    const inside = loop && begin >= loop.start && stop <= loop.end;
    const nodes = [];
    if (begin === answer) nodes.push(element("span", { class: "first", tabindex: "-1", "data-at": "answer" }, element("span", { class: "unseen" }, " (the answer first stands here) ")));
    if (inside) nodes.push(element("span", { class: "loop", tabindex: "-1", "data-at": begin === loop.start ? "loop" : null }, text.slice(begin, stop)));
    else nodes.push(text.slice(begin, stop));
    if (!equation) {
      mark = null;
      made.push(...nodes);
      continue;
    }
    if (!mark || begin === equation.from) made.push(mark = equationMark(equation));
    mark.append(...nodes);
    if (stop === equation.end) mark.append(...signs(equation));
  }
  return made;
}

function equationMark(equation) {
  return element("mark", { class: String(equation.true), tabindex: equation.first ? "-1" : null, "data-at": equation.first ? "false" : null });
}

function signs(equation) {
  const told = equation.true ? " (true)" : ` (false: ${equation.left} is not ${equation.right})`;
  return [element("span", { class: "sign", "aria-hidden": "true" }, equation.true ? " ✓" : " ✗"), element("span", { class: "unseen" }, told)];
}

/** The list of what was found. `show(what)` brings the mark of `false`, `answer` or `loop` into sight. */
export function listed(found, show) {
  const list = element("dl", {});
  const row = (name, value, at, tone) => {
    const told = at ? jump(value, () => show(at)) : value;
    list.append(element("div", { class: tone ?? "" }, element("dt", {}, name), element("dd", {}, told)));
  };
  const right = found.equations.filter((each) => each.true).length;
  row("Equations", found.equations.length ? `${right} of ${found.equations.length} true` : "none that can be checked", null, found.equations.length && right === found.equations.length ? "good" : "");
  const wrong = found.first_false;
  if (wrong) row("First false", `${wrong.text}: ${wrong.left} is not ${wrong.right}`, "false", "bad");
  row("Answer", ...answerOf(found));
  const habits = [found.has_check && "checks itself", found.has_backtrack && "turns back"].filter(Boolean);
  row("Habits", habits.join(", ") || "neither checks itself nor turns back");
  if (found.loop) row("Loop", `“${found.loop.unit.slice(0, 60)}” ${found.loop.repeats} times on end${found.loop.at_end ? ", until the end" : ""}`, "loop", "bad");
  if (found.disagreement) row("Disagreement", "the thinking ends in another value than the answer", null, "bad");
  return list;
}

/** The findings in a sentence, for who listens. */
export function told(found) {
  const wrong = found.equations.filter((each) => !each.true).length;
  const parts = [found.equations.length ? `${counted(found.equations.length, "equation")}, ${wrong ? `${wrong} false` : "all true"}` : "no equation that can be checked"];
  if (found.loop) parts.push("it runs in circles");
  if (found.disagreement) parts.push("the thinking ends in another value than the answer");
  return `Audit: ${parts.join("; ")}.`;
}

function answerOf(found) {
  if (!found.answer) return ["none found"];
  if (found.answer_first_at == null) return [`${found.answer}, which never stands in the ${found.part}`];
  const share = found.characters ? Math.round((100 * found.answer_first_at) / found.characters) : 0;
  const after = found.tokens_after_answer == null ? "" : `, about ${counted(found.tokens_after_answer, "token")} before its end`;
  return [`${found.answer}, first at ${share} % of the ${found.part}${after}`, "answer"];
}

function jump(text, show) {
  const button = element("button", { type: "button", class: "jump" }, text);
  button.addEventListener("click", show);
  return button;
}

function same(one, other) {
  return other != null && one.start === other.start && one.end === other.end;
}

/** The server counts characters, a browser UTF-16 units: the same unless a character needs two. */
function offsets(text) {
  if (!/[\ud800-\udbff]/.test(text)) return (place) => place;
  const starts = [];
  let unit = 0;
  for (const character of text) {
    starts.push(unit);
    unit += character.length;
  }
  return (place) => starts[place] ?? unit;
}
