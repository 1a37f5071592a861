// Starts what is on the page; draws again when the colours or the width class change.

startTable();
const draws = [startPareto(), startLatency(), startSustained()].filter(Boolean);
const drawAll = () => draws.forEach((draw) => draw());
drawAll();

window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
let width = window.innerWidth, waiting = 0;
window.addEventListener("resize", () => {
  if (window.innerWidth === width) return; // a phone's address bar changes the height only
  width = window.innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(drawAll, 120);
});
