// Names beside points, without overlap: each tries a few places around its point and is left out if none is free,
// but a name with `must` takes the place that covers least.

// points: [{x, y, text, must}] with x, y in px from the plot's top left; returns those placed, with dx, dy added
function placeLabels(points, taken, width, height) {
  const boxes = taken.map((p) => ({ left: p.x - 7, right: p.x + 7, top: p.y - 7, bottom: p.y + 7 }));
  const placed = [];
  for (const point of points) {
    const wide = point.text.length * 6.6 + 6, high = 16;
    const spots = [
      { dx: 10 + wide / 2, dy: -12 }, { dx: 10 + wide / 2, dy: 12 }, { dx: 0, dy: -18 }, { dx: 0, dy: 19 },
      { dx: -10 - wide / 2, dy: -12 }, { dx: -10 - wide / 2, dy: 12 }, { dx: 10 + wide / 2, dy: 0 },
    ];
    const boxAt = (spot) => ({
      left: point.x + spot.dx - wide / 2, right: point.x + spot.dx + wide / 2,
      top: point.y + spot.dy - high / 2, bottom: point.y + spot.dy + high / 2,
    });
    const inside = (box) => box.left >= 2 && box.right <= width - 2 && box.top >= 2 && box.bottom <= height - 2;
    const covered = (box) =>
      boxes.filter((b) => box.left < b.right && box.right > b.left && box.top < b.bottom && box.bottom > b.top).length;
    const fitting = spots.filter((spot) => inside(boxAt(spot))).map((spot) => [covered(boxAt(spot)), spot]).sort((a, b) => a[0] - b[0]);
    const free = fitting.length && (fitting[0][0] === 0 || point.must) ? fitting[0][1] : null;
    if (free) {
      boxes.push(boxAt(free));
      placed.push({ ...point, ...free });
    }
  }
  return placed;
}
