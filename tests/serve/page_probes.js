({
  /* Texts whose contrast with what lies behind them is below 4.5 (WCAG 2.2, 1.4.3). */
  contrast() {
    const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const light = (colour) => colour.slice(0, 3).reduce((sum, v, i) => sum + linear(v / 255) * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (at) => {
      for (; at; at = at.parentElement) {
        const colour = parse(getComputedStyle(at).backgroundColor);
        if (colour[3] !== 0) return colour;
      }
      return [255, 255, 255];
    };
    const low = [];
    for (const each of document.querySelectorAll("body *")) {
      const written = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
      if (!written || !each.checkVisibility() || each.matches(":disabled, .unseen, option")) continue;
      const [one, other] = [light(parse(getComputedStyle(each).color)), light(behind(each))].sort((a, b) => b - a);
      const ratio = (one + 0.05) / (other + 0.05);
      if (ratio < 4.5) low.push([each.tagName, each.className, ratio]);
    }
    return low;
  },

  /* A text that looks otherwise when it comes in pieces, or loses letters; null if none does. */
  async grows() {
    const { Markdown } = await import("/page/markdown.js");
    const bits = [
      "a", "b c", " ", "\n", "\n\n", "*", "**", "_", "`", "```", "```py\n", "# ", "- ", "1. ", "  ", "> ", "|", "|-|\n", "$", "$$", "\\(", "\\)", "\\[", "\\]",
      "\\frac", "{", "}", "\\boxed{", "^", "é", "😀", "<p>", "&", "---", "~~~", "\\begin{cases}", "\\end{cases}", "\\\\",
    ];
    let seed = 1;
    const random = (below) => (seed = (seed * 48271) % 2147483647) % below;
    const letters = (text) => [...text].filter((each) => /[abcé😀]/u.test(each)).join("");
    for (let round = 0; round < 500; round++) {
      const text = Array.from({ length: 1 + random(40) }, () => bits[random(bits.length)]).join("");
      const [once, grown] = [document.createElement("div"), document.createElement("div")];
      new Markdown(once).show(text);
      const view = new Markdown(grown);
      for (let end = 0; end < text.length; end += 1 + random(9)) view.show(text.slice(0, end));
      view.show(text);
      if (once.innerHTML !== grown.innerHTML) return text;
      for (const label of once.querySelectorAll(".bar")) label.remove();
      if (!/```|~~~|begin|end|frac|boxed/.test(text) && letters(once.textContent) !== letters(text)) return text;
    }
    return null;
  },

  /* Milliseconds for 6,000 and for 60,000 characters of `piece`. */
  async times(piece) {
    const { Markdown } = await import("/page/markdown.js");
    const took = (size) => {
      const text = piece.repeat(Math.ceil(size / piece.length));
      const began = performance.now();
      new Markdown(document.createElement("div")).show(text);
      return performance.now() - began;
    };
    took(1000);
    return [Math.min(took(6000), took(6000)), Math.min(took(60000), took(60000), took(60000))];
  },

  /* Keep what a screen reader is told in window.told. */
  listen() {
    window.told = [];
    const place = document.getElementById("said");
    const keep = () => { if (place.textContent) window.told.push(place.textContent); };
    new MutationObserver(keep).observe(place, { childList: true, characterData: true, subtree: true });
  },

  /* Places that a screen reader reads out when they change. */
  live() {
    return [...document.querySelectorAll("[aria-live], [role=status], [role=alert], [role=log], output")].map((each) => each.id);
  },

  /* Of what has the focus: its name, whether that shows, whether it is seen at all. */
  focused() {
    const at = document.activeElement;
    const shows = getComputedStyle(at).outlineStyle !== "none" || at.closest("#composer:focus-within") !== null;
    return [at.id || at.textContent.slice(0, 12), shows, at.checkVisibility()];
  },

  /* What can be used and has no name. */
  unnamed() {
    const used = [...document.querySelectorAll("button, input, select, textarea, summary, [tabindex='0']")];
    const named = (each) => each.textContent.trim() || each.getAttribute("aria-label") || each.labels?.length;
    return used.filter((each) => each.checkVisibility() && !named(each)).map((each) => each.outerHTML);
  },

  /* What sticks out of the window. */
  outside() {
    const seen = [...document.querySelectorAll("button, select, input, textarea, .figures")].filter((each) => each.checkVisibility());
    const boxes = seen.map((each) => [each, each.getBoundingClientRect()]).filter(([, box]) => box.width > 1);
    return boxes.filter(([, box]) => box.left < 0 || box.right > window.innerWidth).map(([each]) => each.outerHTML);
  },
})
