/* Shows pictures one after the other, with a button to stop and a slider. Emitted by live.py.
   `frames` are data URIs. Does not start by itself for readers who ask for reduced motion. */
window.gfgdAnimation = (root, frames, interval) => {
  "use strict";
  const image = root.querySelector("img");
  const [button, slider] = ["button", "input"].map((tag) => root.querySelector(tag));
  let timer = null;
  const show = (index) => {
    slider.value = index;
    image.src = frames[index];
  };
  const play = (on) => {
    clearInterval(timer);
    timer = on ? setInterval(() => show((Number(slider.value) + 1) % frames.length), interval) : null;
    button.textContent = on ? "Pause" : "Play";
  };
  root.querySelector(".controls").hidden = false;
  slider.max = frames.length - 1;
  slider.addEventListener("input", () => {
    play(false);
    show(Number(slider.value));
  });
  button.addEventListener("click", () => play(timer === null));
  show(0);
  play(!window.matchMedia("(prefers-reduced-motion: reduce)").matches);
};
