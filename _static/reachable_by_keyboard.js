/* The theme lets the keyboard reach every box that scrolls, but looks for them only when the window
   changes its size. Let it look again when the page does, because something was unfolded. */
document.addEventListener("DOMContentLoaded", () => {
  const look = () => window.dispatchEvent(new Event("resize"));
  new ResizeObserver(look).observe(document.querySelector("main"));
  // docutils calls the works cited a list, and none of them a list's item.
  document.querySelectorAll(".citation-list").forEach((works) => works.removeAttribute("role"));
});
