/* Few stops for the tab key: the folds of a page's claims and proofs share one, and the arrow keys go
   from one to the next. The buttons that copy code are for the mouse: all of the code is in the notebook, which
   the button at the top of the page downloads. */
document.addEventListener("DOMContentLoaded", () => {
  const folds = [...document.querySelectorAll("details:is(.gfgd-claim, .gfgd-proof) > summary")];
  const stop = (chosen) => folds.forEach((fold) => (fold.tabIndex = fold === chosen ? 0 : -1));
  stop(folds[0]);
  folds.forEach((fold, place) => {
    fold.addEventListener("focus", () => stop(fold));
    fold.addEventListener("keydown", (event) => {
      const next = { ArrowDown: folds[place + 1], ArrowUp: folds[place - 1] }[event.key];
      if (!next) return;
      event.preventDefault();
      next.focus();
    });
  });
});
// The buttons are made by a script that may run later.
window.addEventListener("load", () =>
  document.querySelectorAll("button.copybtn").forEach((button) => (button.tabIndex = -1)),
);
