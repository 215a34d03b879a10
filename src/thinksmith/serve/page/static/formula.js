// LaTeX to MathML, as much of it as answers have. What is not known gives null, and the source is shown instead.

const MATHML = "http://www.w3.org/1998/Math/MathML";
const LONGEST = 4000; // characters
const DEEPEST = 40; // braces in braces

const GREEK = {
  alpha: "α", beta: "β", gamma: "γ", delta: "δ", epsilon: "ϵ", varepsilon: "ε", zeta: "ζ", eta: "η", theta: "θ", iota: "ι", kappa: "κ",
  lambda: "λ", mu: "μ", nu: "ν", xi: "ξ", pi: "π", rho: "ρ", sigma: "σ", tau: "τ", upsilon: "υ", phi: "ϕ", varphi: "φ", chi: "χ",
  psi: "ψ", omega: "ω", Gamma: "Γ", Delta: "Δ", Theta: "Θ", Lambda: "Λ", Xi: "Ξ", Pi: "Π", Sigma: "Σ", Phi: "Φ", Psi: "Ψ", Omega: "Ω",
  infty: "∞", ell: "ℓ", emptyset: "∅", varnothing: "∅", partial: "∂", nabla: "∇", hbar: "ℏ", degree: "°", ldots: "…", dots: "…",
  cdots: "⋯", vdots: "⋮", angle: "∠", triangle: "△", aleph: "ℵ", Re: "ℜ", Im: "ℑ", prime: "′",
};
const OPERATORS = {
  times: "×", cdot: "⋅", div: "÷", pm: "±", mp: "∓", leq: "≤", le: "≤", geq: "≥", ge: "≥", neq: "≠", ne: "≠", approx: "≈", equiv: "≡",
  sim: "∼", cong: "≅", propto: "∝", to: "→", rightarrow: "→", leftarrow: "←", Rightarrow: "⇒", implies: "⟹", iff: "⟺",
  Leftrightarrow: "⇔", mapsto: "↦", in: "∈", notin: "∉", subset: "⊂", subseteq: "⊆", supset: "⊃", cup: "∪", cap: "∩", setminus: "∖",
  land: "∧", wedge: "∧", lor: "∨", vee: "∨", neg: "¬", forall: "∀", exists: "∃", mid: "∣", parallel: "∥", perp: "⊥", circ: "∘",
  ast: "∗", star: "⋆", oplus: "⊕", otimes: "⊗", ll: "≪", gg: "≫", lfloor: "⌊", rfloor: "⌋", lceil: "⌈", rceil: "⌉", langle: "⟨",
  rangle: "⟩", lvert: "|", rvert: "|", vert: "|", therefore: "∴", because: "∵", "{": "{", "}": "}", "|": "‖", colon: ":", bmod: "mod",
};
const LARGE = { sum: "∑", prod: "∏", int: "∫", iint: "∬", oint: "∮", bigcup: "⋃", bigcap: "⋂" };
const FUNCTIONS = new Set("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp lim max min sup inf gcd lcm det dim ker deg arg mod Pr".split(" "));
const BELOW = new Set(["lim", "max", "min", "sup", "inf", "sum", "prod", "bigcup", "bigcap", "gcd"]);
const SPACES = { ",": ".17em", ":": ".22em", ";": ".28em", " ": ".25em", "!": "-.17em", quad: "1em", qquad: "2em", thinspace: ".17em" };
const ACCENTS = { bar: "¯", overline: "¯", hat: "^", vec: "→", tilde: "~", dot: "˙", ddot: "¨", overrightarrow: "→", underline: "_" };
const TEXTS = new Set(["text", "textbf", "textit", "textrm", "mathrm", "operatorname", "mbox", "mathbf", "mathit", "mathsf", "texttt"]);
const IGNORED = new Set(["left", "right", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "displaystyle", "textstyle", "limits", "nolimits", "!"]);
const DOUBLE = { R: "ℝ", N: "ℕ", Z: "ℤ", Q: "ℚ", C: "ℂ", P: "ℙ", E: "𝔼" };
const TABLES = { matrix: ["", ""], pmatrix: ["(", ")"], bmatrix: ["[", "]"], vmatrix: ["|", "|"], cases: ["{", ""], aligned: ["", ""], align: ["", ""], "align*": ["", ""], array: ["", ""], gathered: ["", ""] };
const TOKEN = /\\[a-zA-Z]+|\\[\s\S]|\d+(?:[.,]\d+)*|\s+|[\s\S]/gu;

/** A `math` element for LaTeX without its dollars, or null where it has what is not known here. */
export function formula(source, display = false) {
  if (source.length > LONGEST) return null;
  try {
    const reader = new Reader(source);
    const body = reader.row(() => false, 0);
    const math = make("math", body);
    if (display) math.setAttribute("display", "block");
    return math;
  } catch (error) {
    if (error instanceof Unknown) return null;
    throw error;
  }
}

class Unknown extends Error {}

function make(tag, ...children) {
  const made = document.createElementNS(MATHML, tag);
  made.append(...children);
  return made;
}

class Reader {
  constructor(source) {
    this.tokens = source.match(TOKEN) ?? [];
    this.at = 0;
  }

  peek() {
    return this.tokens[this.at];
  }

  /** Atoms with their scripts until `ends(token)`, which is left; at the top until the source ends. */
  row(ends, depth) {
    if (depth > DEEPEST) throw new Unknown();
    const row = make("mrow");
    while (this.at < this.tokens.length && !ends(this.peek())) {
      const token = this.peek();
      if (token === "}" || token === "&" || token === "\\\\") throw new Unknown();
      const atom = this.atom(depth);
      if (atom) row.append(this.scripts(atom, depth));
    }
    if (depth && this.at >= this.tokens.length) throw new Unknown(); // a brace that never closes
    return row;
  }

  /** What stands in braces, or one atom. */
  argument(depth) {
    while (/^\s/.test(this.peek() ?? "")) this.at++;
    if (this.peek() !== "{") {
      const atom = this.at < this.tokens.length ? this.atom(depth + 1) : null;
      if (!atom) throw new Unknown();
      return atom;
    }
    this.at++;
    const row = this.row((token) => token === "}", depth + 1);
    this.at++;
    return row;
  }

  /** The plain text in braces. */
  text() {
    while (/^\s/.test(this.peek() ?? "")) this.at++;
    if (this.peek() !== "{") throw new Unknown();
    let text = "";
    for (this.at++; this.peek() !== "}"; this.at++) {
      const token = this.peek();
      if (token === undefined || token === "{" || token === "$" || /^\\[a-zA-Z]/.test(token)) throw new Unknown();
      text += token.startsWith("\\") ? token.slice(1) : token;
    }
    this.at++;
    return text;
  }

  scripts(base, depth) {
    let below = null;
    let above = null;
    for (;;) {
      const sign = this.peek();
      if (sign === "'" ) { this.at++; above = make("mrow", ...(above ? [above] : []), make("mo", "′")); continue; }
      if (sign !== "^" && sign !== "_") break;
      this.at++;
      if (sign === "^") above = this.argument(depth);
      else below = this.argument(depth);
    }
    if (!below && !above) return base;
    const under = base.getAttribute("data-under") !== null;
    if (below && above) return make(under ? "munderover" : "msubsup", base, below, above);
    return below ? make(under ? "munder" : "msub", base, below) : make(under ? "mover" : "msup", base, above);
  }

  atom(depth) {
    const token = this.tokens[this.at++];
    if (/^\s/.test(token)) return null;
    if (token === "{") { this.at--; return this.argument(depth); }
    if (token === "^" || token === "_") { this.at--; return make("mrow"); }
    if (/^\d/.test(token)) return make("mn", token);
    if (/^\p{L}$/u.test(token)) return make("mi", token);
    if (token === "~") return space(".25em");
    if (token === "%" || token === "$" || token === "#") throw new Unknown();
    if (!token.startsWith("\\")) return make("mo", token === "-" ? "−" : token === "*" ? "∗" : token);
    return this.command(token.slice(1), depth);
  }

  command(name, depth) {
    if (IGNORED.has(name)) {
      if (/^(left|right)$/.test(name) && this.peek() === ".") this.at++; // an invisible bracket
      return null;
    }
    if (Object.hasOwn(GREEK, name)) return make("mi", GREEK[name]);
    if (Object.hasOwn(OPERATORS, name)) return make("mo", OPERATORS[name]);
    if (Object.hasOwn(LARGE, name)) return under(make("mo", LARGE[name]), name);
    if (FUNCTIONS.has(name)) return under(make("mi", name), name);
    if (Object.hasOwn(SPACES, name)) return space(SPACES[name]);
    if (Object.hasOwn(ACCENTS, name)) {
      return make(name === "underline" ? "munder" : "mover", this.argument(depth), make("mo", ACCENTS[name]));
    }
    if (TEXTS.has(name)) {
      const text = make("mtext", this.text().replace(/^ | $/g, "\u00a0"));
      if (name === "textbf" || name === "mathbf") text.setAttribute("class", "strong");
      return text;
    }
    if (name === "%" || name === "$" || name === "#" || name === "_" || name === "&") return make("mo", name);
    if (/^[dt]?frac$/.test(name)) return make("mfrac", this.argument(depth), this.argument(depth));
    if (/^[dt]?binom$/.test(name)) return make("mrow", make("mo", "("), this.over(depth), make("mo", ")"));
    if (name === "sqrt") return this.root(depth);
    if (name === "boxed" || name === "fbox") {
      const boxed = this.argument(depth);
      boxed.setAttribute("class", "boxed");
      return boxed;
    }
    if (name === "mathbb") {
      const letter = this.text();
      if (!Object.hasOwn(DOUBLE, letter)) throw new Unknown();
      return make("mi", DOUBLE[letter]);
    }
    if (name === "pmod") return make("mrow", make("mo", "("), make("mi", "mod"), space(".3em"), this.argument(depth), make("mo", ")"));
    if (name === "begin") return this.table(depth);
    throw new Unknown();
  }

  over(depth) {
    const fraction = make("mfrac", this.argument(depth), this.argument(depth));
    fraction.setAttribute("linethickness", "0");
    return fraction;
  }

  root(depth) {
    if (this.peek() !== "[") return make("msqrt", this.argument(depth));
    this.at++;
    const degree = this.row((token) => token === "]", depth + 1);
    this.at++;
    return make("mroot", this.argument(depth), degree);
  }

  table(depth) {
    const name = this.text();
    if (!Object.hasOwn(TABLES, name)) throw new Unknown();
    if (name === "array") this.text();
    const ends = (token) => token === "&" || token === "\\\\" || token === "\\end";
    const table = make("mtable");
    let row = make("mtr");
    for (;;) {
      row.append(make("mtd", this.row(ends, depth + 1)));
      const token = this.tokens[this.at++];
      if (token === "&") continue;
      table.append(row);
      row = make("mtr");
      if (token === "\\end") break;
    }
    if (this.text() !== name) throw new Unknown();
    if (name === "cases" || name.startsWith("align")) table.setAttribute("class", "left");
    const [open, close] = TABLES[name];
    return make("mrow", ...(open ? [make("mo", open)] : []), table, ...(close ? [make("mo", close)] : []));
  }
}

function under(operator, name) {
  if (BELOW.has(name)) operator.setAttribute("data-under", "");
  return operator;
}

function space(width) {
  const made = make("mspace");
  made.setAttribute("width", width);
  return made;
}
