// Starts what is on the page; draws again when the device, the colours, the width class or the medium change.

const arrangeAll = startRows();
const recount = startTable();
const detail = startDetail(startOperators());
const past = startHistory();
const charts = [startPareto((index) => detail && detail.open(index)), startLatency(), startSustained(), past, detail].filter(Boolean);
const drawAll = () => charts.forEach((chart) => chart.draw());
drawAll();

if (element("page-device")) {
  element("page-device").addEventListener("change", () => {
    arrangeAll();
    recount();
    for (const chart of charts) (chart.filter || chart.draw)();
  });
  element("page-device").form.addEventListener("submit", (event) => event.preventDefault());
}

window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
// on paper the colours are light, and nothing can be unfolded
window.matchMedia("print").addEventListener("change", (event) => {
  document.querySelectorAll("main details:not(.columns, .profile)").forEach((details) => {
    if (event.matches) details.dataset.was = details.open ? "open" : "closed";
    details.open = event.matches || details.dataset.was === "open";
  });
  if (event.matches && detail) detail.show();
  drawAll();
});
let width = window.innerWidth, waiting = 0;
window.addEventListener("resize", () => {
  if (window.innerWidth === width) return; // a phone's address bar changes the height only
  width = window.innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(drawAll, 120);
});
