// Shared by the charts: the page's data, its colours, plotly with our defaults. Vanilla, no network.

const NARROW = 620; // px: below it, labels go above the bars and hover shrinks

const element = (id) => document.getElementById(id);
const readData = (id) => JSON.parse(element(id).textContent);

// plotly reads a subset of HTML in every text it shows: names must not be able to write it
const plain = (text) =>
  String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const short = (text, longest) => (text.length > longest ? `${text.slice(0, longest - 1)}…` : text);

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const SYMBOLS = ["circle", "diamond", "square", "triangle-up", "star", "hexagon"];
const distinct = (values) => [...new Set(values)];
const seriesColour = (index) => css(`--series-${(index % 8) + 1}`);

// what the colour tells: the device where there are several, else the format
function groupOf(points) {
  const devices = distinct(points.map((p) => p.device));
  const key = devices.length > 1 ? "device" : "format";
  const names = distinct(points.map((p) => p[key]));
  return { key, names, colour: (point) => seriesColour(names.indexOf(point[key])) };
}

function axisStyle(extra) {
  return {
    gridcolor: css("--grid"), zeroline: false, linecolor: css("--line"), showline: true, ticks: "outside", ticklen: 4,
    tickcolor: css("--line"), automargin: true, fixedrange: window.innerWidth < NARROW, ...extra,
    title: { standoff: 10, font: { size: 13, color: css("--muted") }, ...(extra.title || {}) },
  };
}

function layoutStyle(extra) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", showlegend: false,
    font: { family: css("--font"), size: 12, color: css("--text") },
    hoverlabel: {
      align: "left", bgcolor: css("--card"), bordercolor: css("--line"),
      font: { family: css("--font"), size: window.innerWidth < NARROW ? 11 : 12, color: css("--text") },
    },
    dragmode: window.innerWidth < NARROW ? false : "zoom", ...extra,
  };
}

const CONFIG = {
  responsive: true, displaylogo: false, displayModeBar: false, showTips: false, doubleClick: "reset",
};

// an axis over these numbers with a little room; in plotly's terms (log10 of the ends for a log axis)
function rangeOf(values, log, room) {
  const at = values.filter((v) => v !== null && Number.isFinite(v) && (!log || v > 0)).map((v) => (log ? Math.log10(v) : v));
  const low = Math.min(...at), high = Math.max(...at);
  const pad = (high - low || Math.abs(high) * 0.2 || 1) * room;
  return [low - pad, high + pad];
}

// 1-2-5 ticks for a log axis of our own range: plotly's own crowd or are missing on a short one
function logTicks(range) {
  const ticks = [];
  const short = range[1] - range[0] < 1.3;
  for (let decade = Math.floor(range[0]) - 1; decade <= Math.ceil(range[1]); decade++) {
    for (const step of short ? [1, 1.5, 2, 3, 5, 7] : range[1] - range[0] < 3 ? [1, 2, 5] : [1]) {
      const at = Math.log10(step) + decade;
      if (at >= range[0] && at <= range[1]) ticks.push(step * 10 ** decade);
    }
  }
  const text = (v) => (v >= 1e5 || v < 1e-3 ? v.toExponential(0) : String(Number(v.toPrecision(3))));
  return { tickmode: "array", tickvals: ticks, ticktext: ticks.map(text) };
}
