"""k-means of numbers: Lloyd's iterations on sorted values, where each cluster is a range."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy

Init = Literal["linear", "density"]
ITERATIONS = 10_000  # a limit only: a layer of 147,456 weights needed 1,000 at 256 clusters, one is 20 µs


def centroids(values: numpy.ndarray[Any, Any], count: int, init: Init) -> numpy.ndarray[Any, Any]:
    """`count` ascending centroids (float64) of `values` [n], at least `count` of which differ: those where one more
    iteration moves no value, and every centroid has some.

    `init`: linear spreads the first centroids evenly from the least to the largest value, density evenly over the
    sorted values (Han et al., Deep Compression, 2016, section 3.1: linear serves the few large weights best). A
    centroid that is nearest to no value goes to the cluster of greatest error (linear ones in a gap, such as pruning
    leaves around zero)."""
    import numpy

    ordered = numpy.sort(values.astype(numpy.float64))
    sums, squares = (numpy.concatenate([[0.0], numpy.cumsum(ordered**power)]) for power in (1, 2))
    found = first_centroids(ordered, count, init)
    ends = _ends(ordered, found)
    for _ in range(ITERATIONS):
        counts, totals = numpy.diff(ends), numpy.diff(sums[ends])
        found = numpy.where(counts > 0, totals / numpy.maximum(counts, 1), found)
        if not counts.all():
            worst = (numpy.diff(squares[ends]) - found * totals).argmax()
            found[counts.argmin()] = (found[worst] + ordered[ends[worst + 1] - 1]) / 2
            found.sort()
        before, ends = ends, _ends(ordered, found)
        if (before == ends).all():
            break
    return found


def first_centroids(ordered: numpy.ndarray[Any, Any], count: int, init: Init) -> numpy.ndarray[Any, Any]:
    import numpy

    places = numpy.linspace(ordered[0], ordered[-1], count)
    if init == "density":
        places = numpy.quantile(ordered, (numpy.arange(count) + 0.5) / count)
    return places


def nearest(values: numpy.ndarray[Any, Any], found: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
    """The number of the centroid (ascending) nearest to each value."""
    import numpy

    return numpy.searchsorted((found[1:] + found[:-1]) / 2, values)


def _ends(ordered: numpy.ndarray[Any, Any], found: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
    """Cluster i is ordered[ends[i] : ends[i + 1]]."""
    import numpy

    middles = numpy.searchsorted(ordered, (found[1:] + found[:-1]) / 2, side="right")
    return numpy.concatenate([[0], middles, [len(ordered)]])
