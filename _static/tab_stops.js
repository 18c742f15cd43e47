/* Few stops for the tab key: claims and proofs share one, so do folds of code, and so do the buttons of
   solutions; within a group the arrow keys go from one to the next. The buttons that copy code are for the
   mouse: all of the code is in the notebook, which the button at the top of the page downloads. */
(() => {
  const share = (selector) => {
    const group = [...document.querySelectorAll(selector)];
    const stop = (chosen) => group.forEach((one) => (one.tabIndex = one === chosen ? 0 : -1));
    stop(group[0]);
    group.forEach((one, place) => {
      one.addEventListener("focus", () => stop(one));
      one.addEventListener("keydown", (event) => {
        const next = { ArrowDown: group[place + 1], ArrowUp: group[place - 1] }[event.key];
        if (!next) return;
        event.preventDefault();
        next.focus();
      });
    });
  };
  document.addEventListener("DOMContentLoaded", () => {
    share("details:is(.gfgd-claim, .gfgd-proof) > summary");
    share(".bd-article details.hide > summary");
  });
  // These buttons are made by scripts that may run later.
  window.addEventListener("load", () => {
    share(".bd-article button.toggle-button");
    document.querySelectorAll("button.copybtn").forEach((button) => (button.tabIndex = -1));
  });
})();
