/* "What holds": show the claims of one kind, chapter or slide. Without this script all are shown. */
document.addEventListener("DOMContentLoaded", () => {
  const bar = document.querySelector(".gfgd-filter");
  if (!bar) return;
  const fields = [...bar.querySelectorAll("select")];
  const claims = [...document.querySelectorAll("ul.gfgd-claims > li")];
  const sections = [...document.querySelectorAll("main section")].reverse();
  const show = () => {
    for (const claim of claims)
      claim.hidden = fields.some((f) => f.value && claim.dataset[f.dataset.filter] !== f.value);
    for (const list of document.querySelectorAll("ul.gfgd-claims"))
      list.hidden = !list.querySelector("li:not([hidden])");
    // A heading whose claims are all hidden goes with them.
    for (const section of sections)
      section.hidden =
        section.querySelector("ul.gfgd-claims") !== null &&
        section.querySelector("ul.gfgd-claims > li:not([hidden])") === null &&
        section.querySelector("h1") === null;
    const left = claims.filter((claim) => !claim.hidden).length;
    bar.querySelector("output").value = `${left} of ${claims.length}`;
  };
  for (const field of fields) field.addEventListener("change", show);
  bar.hidden = false;
  show();
});
