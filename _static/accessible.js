/* What the theme and Sphinx leave undone for the keyboard and for screen readers. */
document.addEventListener("DOMContentLoaded", () => {
  // The theme lets the keyboard reach every box that scrolls, but looks for them only when the window
  // changes its size. Let it look again when the page does, because something was unfolded.
  const look = () => window.dispatchEvent(new Event("resize"));
  new ResizeObserver(look).observe(document.querySelector("main"));
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
