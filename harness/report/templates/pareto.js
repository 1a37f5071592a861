// The scatter of any two objectives, and the front of these two.

// the points that no other beats on both axes, best x first; equal points are all on the front
function frontOf(points, x, y) {
  const worse = (axis, a, b) => (axis.better === "lower" ? a > b : a < b);
  const at = (point, axis) => point.values[axis.key][0];
  const beats = (a, b) => {
    const no = worse(x, at(a, x), at(b, x)) || worse(y, at(a, y), at(b, y));
    return !no && (worse(x, at(b, x), at(a, x)) || worse(y, at(b, y), at(a, y)));
  };
  return points
    .filter((point) => !points.some((other) => beats(other, point)))
    .sort((a, b) => (worse(x, at(a, x), at(b, x)) ? 1 : -1));
}

function errorBars(points, axis, log) {
  const reach = (point, end) => {
    const [value, low, high] = point.values[axis.key];
    if (low === null || low === undefined || high === null || high === undefined) return 0;
    return Math.max(0, end === "high" ? high - value : log && low <= 0 ? 0 : value - low);
  };
  return {
    type: "data", symmetric: false, thickness: 1, width: 2, color: css("--whisker"),
    array: points.map((p) => reach(p, "high")), arrayminus: points.map((p) => reach(p, "low")),
  };
}

function hoverText(point, axes) {
  const lines = point.texts.flatMap((text, i) => (text === null ? [] : [`${plain(axes[i].name)}  <b>${plain(text)}</b>`]));
  const chance = point.chance === null ? [] : [`on the front  <b>${plain(point.chance)}</b>`];
  const caveats = point.caveats.length ? [`caveats: ${plain(point.caveats.join(", "))}`] : [];
  return [`<b>${plain(point.label)}</b>`, ...lines, ...chance, ...caveats].join("<br>");
}

function markersOf(points, data, group, formats) {
  const sure = (p) => p.front === null || p.front >= data.sure;
  return {
    size: points.map((p) => (p.reported ? 12 : 9)),
    opacity: points.map((p) => (p.reported ? 1 : 0.45)),
    symbol: points.map((p) => SYMBOLS[formats.indexOf(p.format) % SYMBOLS.length] + (p.reported && !sure(p) ? "-open" : "")),
    color: points.map((p) => group.colour(p)),
    line: { width: points.map((p) => (p.reported && !sure(p) ? 2 : 1)), color: points.map((p) => (p.reported && !sure(p) ? group.colour(p) : css("--card"))) },
  };
}

function frontTrace(front, x, y, ranges, logs, colour) {
  const open = (axis, side) => {
    const worst = ranges[side][axis.better === "lower" ? 1 : 0];
    return logs[side] ? 10 ** worst : worst;
  };
  const xs = front.map((p) => p.values[x.key][0]), ys = front.map((p) => p.values[y.key][0]);
  return {
    type: "scatter", mode: "lines", name: "front", hoverinfo: "skip", showlegend: false,
    x: [xs[0], ...xs, open(x, "x")], y: [open(y, "y"), ...ys, ys[ys.length - 1]],
    line: { shape: "hv", width: 2, color: colour, dash: "solid" }, opacity: 0.55,
  };
}

function drawPareto(data, box) {
  const axes = new Map(data.axes.map((axis) => [axis.key, axis]));
  const x = axes.get(element("pareto-x").value), y = axes.get(element("pareto-y").value);
  const logs = { x: element("pareto-log-x").checked && x.log, y: element("pareto-log-y").checked && y.log };
  const points = ofDevice(data.points).filter((p) => p.values[x.key] && p.values[y.key]);
  const narrow = box.clientWidth < NARROW;
  const group = groupOf(data.points), formats = distinct(data.points.map((p) => p.format));
  const ends = (axis) => points.flatMap((p) => p.values[axis.key]);
  const ranges = { x: points.length ? rangeOf(ends(x), logs.x, 0.09) : [0, 1], y: points.length ? rangeOf(ends(y), logs.y, 0.12) : [0, 1] };
  const at = (p, axis) => p.values[axis.key][0];

  const places = distinct(points.map((p) => p.place.join("\n")));
  const fronts = places.map((place) => frontOf(points.filter((p) => p.place.join("\n") === place), x, y));
  const several = group.key === "device";
  const traces = fronts.filter((f) => f.length).map((front) => frontTrace(front, x, y, ranges, logs, several ? group.colour(front[0]) : css("--front")));
  const series = distinct(points.map((p) => (several ? `${p.device} ${p.format}` : p.format)));
  for (const name of series) {
    const mine = points.filter((p) => (several ? `${p.device} ${p.format}` : p.format) === name);
    traces.push({
      type: "scatter", mode: "markers", name: plain(name), x: mine.map((p) => at(p, x)), y: mine.map((p) => at(p, y)),
      error_x: errorBars(mine, x, logs.x), error_y: errorBars(mine, y, logs.y), marker: markersOf(mine, data, group, formats),
      ids: mine.map((p) => p.index), customdata: mine.map((p) => hoverText(p, data.axes)), hovertemplate: "%{customdata}<extra></extra>", showlegend: false,
    });
    // an empty trace for the legend, so that its mark is plain whatever the first point's is
    traces.push({
      type: "scatter", mode: "markers", name: plain(short(name, 40)), x: [null], y: [null], showlegend: true, hoverinfo: "skip",
      marker: { size: 10, color: group.colour(mine[0]), symbol: SYMBOLS[formats.indexOf(mine[0].format) % SYMBOLS.length] },
    });
  }
  const picked = points.filter((p) => p.picked);
  traces.push({
    type: "scatter", mode: "markers", name: "pick", x: picked.map((p) => at(p, x)), y: picked.map((p) => at(p, y)),
    hoverinfo: "skip", showlegend: false, marker: { size: 23, symbol: "circle-open", color: css("--accent"), line: { width: 2.5 } },
  });

  const height = narrow ? 380 : 500;
  const margin = { l: narrow ? 52 : 66, r: 14, t: 36, b: 56 };
  const title = (axis) => `${plain(short(axis.name, 40))}${axis.unit ? ` (${plain(axis.unit)})` : ""}, ${axis.better} is better`;
  const scaleOf = (axis, side) => axisStyle({
    title: { text: title(axis) }, type: logs[side] ? "log" : "linear", range: ranges[side],
    ...(logs[side] ? logTicks(ranges[side]) : { nticks: narrow && side === "x" ? 5 : 9 }),
  });
  const layout = layoutStyle({
    height, margin, showlegend: series.length > 1, xaxis: scaleOf(x, "x"), yaxis: scaleOf(y, "y"),
    legend: { orientation: "h", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom", font: { size: 12 }, itemclick: false, itemdoubleclick: false },
    annotations: paretoLabels(points, fronts.flat(), x, y, ranges, logs, box.clientWidth - margin.l - margin.r, height - margin.t - margin.b),
  });
  const names = fronts.flat().map((p) => p.label).join(", ");
  box.setAttribute("aria-label", `Scatter chart of ${points.length} results: ${x.name} across, ${y.name} up. On the front of these two: ${names || "none"}.`);
  return Plotly.react(box, traces, layout, CONFIG);
}

function paretoLabels(points, front, x, y, ranges, logs, width, height) {
  const part = (value, side) => ((logs[side] ? Math.log10(value) : value) - ranges[side][0]) / (ranges[side][1] - ranges[side][0]);
  const pixel = (p) => ({ x: part(p.values[x.key][0], "x") * width, y: (1 - part(p.values[y.key][0], "y")) * height });
  const rank = (p) => (p.picked ? 0 : front.includes(p) ? 1 : p.reported ? 2 : 3);
  const least = width < NARROW ? 1 : points.length <= 24 ? 3 : 2;
  const wanted = points.filter((p) => rank(p) <= least).sort((a, b) => rank(a) - rank(b));
  const placed = placeLabels(wanted.map((p) => ({ ...pixel(p), point: p, text: short(p.variant, 28), must: p.picked })), points.map(pixel), width, height);
  const labels = placed.map(({ point, text, dx, dy }) => ({
    x: logs.x ? Math.log10(point.values[x.key][0]) : point.values[x.key][0], y: logs.y ? Math.log10(point.values[y.key][0]) : point.values[y.key][0],
    xref: "x", yref: "y", text: point.picked ? `<b>${plain(text)}</b>` : plain(text), showarrow: false, xshift: dx, yshift: -dy,
    font: { size: 11.5, color: point.picked ? css("--accent") : rank(point) < 3 ? css("--text") : css("--muted") },
  }));
  const good = { right: x.better === "higher", top: y.better === "higher" };
  labels.push({
    xref: "paper", yref: "paper", x: good.right ? 1 : 0, y: good.top ? 1 : 0, xanchor: good.right ? "right" : "left", yanchor: good.top ? "top" : "bottom",
    text: `${good.top ? (good.right ? "↗" : "↖") : good.right ? "↘" : "↙"} better`, showarrow: false, xshift: good.right ? -6 : 6, yshift: good.top ? -4 : 4,
    font: { size: 11.5, color: css("--muted") },
  });
  return labels;
}

// `opened`: what to do with the index of the result whose point was clicked
function startPareto(opened) {
  const box = element("pareto-chart");
  if (!box) return null;
  const data = readData("pareto-data");
  for (const point of data.points) point.values = Object.fromEntries(data.axes.map((axis, i) => [axis.key, point.values[i]]));
  const axes = new Map(data.axes.map((axis) => [axis.key, axis]));
  const suit = (side) => {
    const axis = axes.get(element(`pareto-${side}`).value), check = element(`pareto-log-${side}`);
    check.disabled = !axis.log;
    check.checked = axis.log && axis.wide;
  };
  const draw = () => drawPareto(data, box);
  for (const side of ["x", "y"]) {
    suit(side);
    element(`pareto-${side}`).addEventListener("change", () => { suit(side); draw(); });
    element(`pareto-log-${side}`).addEventListener("change", draw);
  }
  element("pareto-controls").addEventListener("submit", (event) => event.preventDefault());
  let listening = false; // plotly gives the box its `on` with the first drawing
  return { draw: () => {
    const done = draw();
    if (!listening) box.on("plotly_click", ({ points }) => points[0] && points[0].id !== undefined && opened(points[0].id));
    listening = true;
    return done;
  } };
}
