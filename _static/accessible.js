/* What the theme and Sphinx leave undone for the keyboard and for screen readers. */
document.addEventListener("DOMContentLoaded", () => {
  // The keyboard reaches every box that scrolls. The theme looks for them, but a while after the window
  // changes its size, and not when something is unfolded or a formula is set. Here a box is looked at in
  // the frame in which it, or what it holds, changes its size. On the way to a new size a page is for
  // some frames wider than it ends: a box loses its place only when the page has come to rest.
  const boxes =
    "pre, .nboutput > .output_area, .cell_output > .output, .jp-RenderedHTMLCommon, " +
    ".pst-scrollable-table-container, div.math";
  const rest = 400; // ms
  // MathJax sets a formula in a box of its own, inside the one that was there from the beginning.
  const scrollers = (box) => (box.matches("div.math") ? [...box.children] : [box]);
  const scrolls = (part) =>
    part.scrollWidth > part.clientWidth || part.scrollHeight > part.clientHeight;
  const reach = (part) => {
    if (scrolls(part)) part.tabIndex = 0;
  };
  const settle = () =>
    [...document.querySelectorAll(boxes)]
      .flatMap(scrollers)
      .forEach((part) => (part.tabIndex = scrolls(part) ? 0 : -1));
  let resting;
  const sized = new ResizeObserver((changes) => {
    for (const box of new Set(changes.map((change) => change.target.closest(boxes))))
      scrollers(box).forEach(reach);
    clearTimeout(resting);
    resting = setTimeout(settle, rest);
  });
  document.querySelectorAll(boxes).forEach((box) => {
    sized.observe(box);
    // Code holds thousands of words, which change their size only with the font.
    if (box.tagName !== "PRE") [...box.children].forEach((part) => sized.observe(part));
  });
  document.fonts.ready.then(settle);
  // Sphinx sets the parameters of a long signature as a list that defines nothing.
  document.querySelectorAll("dt.sig dl, dt.sig dd").forEach((list) => (list.role = "none"));
  // The arrow that unfolds the pages below another in the contents shows no words.
  document.querySelectorAll("nav li.has-children > details > summary").forEach((arrow) => {
    const page = arrow.closest("li").querySelector("a").textContent.trim();
    arrow.setAttribute("aria-label", `Pages below ${page}`);
  });
  // docutils calls the works cited a list, and none of them a list's item.
  document.querySelectorAll(".citation-list").forEach((works) => works.removeAttribute("role"));
  // myst-nb gives all folds of code one name, "Toggle hidden content", in place of their own text.
  const folds = document.querySelectorAll("details.hide > summary");
  folds.forEach((fold) => fold.removeAttribute("aria-label"));
});
