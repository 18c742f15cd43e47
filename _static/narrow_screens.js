/* On a phone a cell that holds numbers only keeps to one line.
   What scrolls sideways fades at an edge behind which there is more. On a phone a long formula within a
   line breaks, and a wide table becomes cards, a row each. Both wait until the formulas are set, since
   only then is it known what fits. Without this script all of them scroll. */
document.addEventListener("DOMContentLoaded", () => {
  const phone = matchMedia("(width < 40rem)");
  // What is there for screen readers only is wider than the formula and does not count.
  const tooLong = (formula) => {
    const set = formula.querySelector("mjx-math") ?? formula;
    return set.getBoundingClientRect().width > formula.clientWidth + 1;
  };
  const groups = { thead: "rowgroup", tbody: "rowgroup" };
  const roles = { ...groups, table: "table", tr: "row", th: "columnheader", td: "cell" };
  const named = new WeakSet();
  const numbers = /^(?:[-−+±×/%().,:\d⁻⁰¹²³⁴-⁹\s]|\bto\b)+$/;
  // No line begins with the mark that follows a formula.
  for (const formula of document.querySelectorAll(".bd-article span.math")) {
    const after = formula.nextSibling;
    const marks = after?.nodeType === Node.TEXT_NODE && /^[.,;:!?)\]’”]+/.exec(after.data);
    if (!marks) continue;
    after.splitText(marks[0].length);
    const kept = document.createElement("span");
    kept.className = "gfgd-kept";
    formula.before(kept);
    kept.append(formula, after);
  }
  for (const cell of document.querySelectorAll(".bd-article td"))
    cell.classList.toggle("gfgd-number", numbers.test(cell.textContent));
  // A card's lines are named after the columns. The roles stay those of a table.
  const name = (table) => {
    if (named.has(table)) return;
    named.add(table);
    const heads = [...table.tHead.rows[0].cells];
    for (const row of table.tBodies[0].rows)
      [...row.cells].forEach((cell, place) => {
        const label = document.createElement("span");
        label.className = "gfgd-column";
        label.ariaHidden = "true";
        label.append(...[...heads[place].childNodes].map((part) => part.cloneNode(true)));
        const value = document.createElement("span");
        value.append(...cell.childNodes);
        cell.append(label, value);
      });
    keepRoles(table);
  };
  const keepRoles = (table) => {
    for (const part of [table, ...table.querySelectorAll("thead, tbody, tr, th, td")])
      part.setAttribute("role", roles[part.localName]);
  };
  const plain = (table) =>
    table.tHead?.rows.length === 1 &&
    table.tBodies.length === 1 &&
    !table.querySelector("[colspan], [rowspan], .gfgd-live, button");
  const scrollers = document.querySelectorAll(
    "div.math, .pst-scrollable-table-container, .bd-article pre",
  );
  const inside = (box) => (box.matches("div.math") ? [...box.children] : [box]);
  const fade = (part) =>
    part.classList.toggle("gfgd-more", part.scrollWidth - part.clientWidth - part.scrollLeft > 3);
  const look = () => [...scrollers].flatMap(inside).forEach(fade);
  const fit = () => {
    narrow();
    look();
  };
  const narrow = () => {
    const tables = document.querySelectorAll(".bd-article table");
    const formulas = document.querySelectorAll(".bd-article span.math");
    tables.forEach((table) => table.classList.remove("gfgd-rows"));
    formulas.forEach((formula) => formula.classList.remove("gfgd-long"));
    if (!phone.matches) return;
    document.querySelectorAll("table.autosummary").forEach(keepRoles);
    const long = [...formulas].filter(tooLong);
    const broad = [...tables].filter(
      (table) => plain(table) && table.scrollWidth > table.parentElement.clientWidth + 1,
    );
    long.forEach((formula) => formula.classList.add("gfgd-long"));
    broad.forEach(name);
    broad.forEach((table) => table.classList.add("gfgd-rows"));
  };
  window.addEventListener("load", () =>
    Promise.resolve(window.MathJax?.startup?.promise).then(() => {
      fit();
      window.addEventListener("resize", look);
      phone.addEventListener("change", fit);
      const heed = (part) => part.addEventListener("scroll", () => fade(part), { passive: true });
      [...scrollers].flatMap(inside).forEach(heed);
      document.querySelectorAll("details").forEach((fold) => fold.addEventListener("toggle", fit));
    }),
  );
});
