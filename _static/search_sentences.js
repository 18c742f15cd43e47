/* Each result comes with the sentence in which the words were found, also where the book is opened from a
   folder: there a page may not read the others, as Sphinx would. The sentences are in a script that only
   the search page loads. */
DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
document.addEventListener("DOMContentLoaded", () => {
  const results = document.getElementById("search-results");
  const query = new URLSearchParams(location.search).get("q");
  if (!results || !query) return;
  const terms = query.toLowerCase().split(/[^\p{L}\p{N}_]+/u).filter((term) => term.length > 1);

  /* The sentence with the most of the words; of several the first. */
  function best(sections, anchor) {
    let found = "", most = 0;
    const here = sections.filter(([name]) => name === anchor);
    for (const [, sentences] of here.length ? [...here, ...sections] : sections)
      for (const sentence of sentences) {
        const text = sentence.toLowerCase();
        const count = terms.filter((term) => text.includes(term)).length;
        if (count > most) [found, most] = [sentence, count];
      }
    return found;
  }
  /* Formulas come as TeX has them: η_0 is read η₀, and λ^2 λ². */
  const raised = (digits, signs) => digits.replace(/\d/g, (digit) => signs[digit]);
  const read = (sentence) =>
    sentence
      .replace(/_(\d+)(?![\p{L}\d_])/gu, (_, digits) => raised(digits, "₀₁₂₃₄₅₆₇₈₉"))
      .replace(/\^(\d+)/g, (_, digits) => raised(digits, "⁰¹²³⁴⁵⁶⁷⁸⁹"));
  function marked(sentence) {
    const line = document.createElement("p");
    line.className = "context";
    for (const part of sentence.split(new RegExp(`(${terms.join("|")})`, "iu"))) {
      const hit = terms.includes(part.toLowerCase());
      const piece = hit ? document.createElement("mark") : document.createTextNode(part);
      if (hit) piece.textContent = part;
      line.append(piece);
    }
    return line;
  }
  function explain() {
    for (const link of results.querySelectorAll("li > a:not([data-read])")) {
      link.dataset.read = "";
      const [address, anchor = ""] = link.getAttribute("href").split("#");
      const sections = window.gfgdTexts[address.split("?")[0].replace(/\.html$/, "")];
      const sentence = sections ? best(sections, anchor) : "";
      if (sentence) link.parentElement.append(marked(read(sentence)));
    }
  }
  const script = document.createElement("script");
  script.src = "_static/search_texts.js";
  script.addEventListener("load", () => {
    new MutationObserver(explain).observe(results, { childList: true, subtree: true });
    explain();
  });
  document.head.append(script);
});
