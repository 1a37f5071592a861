"""cluster: few values per layer, those that k-means finds, and that training keeps them shared."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy
import pytest
import torch
from pydantic import ValidationError
from scipy.cluster.vq import kmeans2
from torch import nn

from harness import chains, registry
from harness.compress import kmeans
from harness.compress.cluster import ClusterParams
from harness.compress.patterns import VALUES, ZEROS
from harness.errors import HarnessError, UsageError
from harness.types import Step
from tests.test_compress import apply, bench, net, run

LAYERS = ("head", "stem.0", "body")


def weights(model: Any) -> list[torch.Tensor]:
    return [model.get_submodule(name).weight.detach() for name in LAYERS]


def distinct(model: Any) -> list[int]:
    return [len(w.unique()) for w in weights(model)]


def preflight(model: Any, **params: Any) -> None:
    technique = registry.load("technique", "cluster")
    technique.preflight(technique.Params(**params), model, bench())


def by_scipy(values: Any, first: Any) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an empty cluster
        found, labels = kmeans2(values[:, None], first[:, None], iter=400, minit="matrix")
    return found[:, 0], labels


@pytest.mark.parametrize(("init", "count"), [("linear", 2), ("linear", 5), ("linear", 16), ("density", 2),
                                             ("density", 5), ("density", 16)])
@pytest.mark.parametrize("shape", ["normal", "uniform", "few"])
def test_centroids_are_scipys_from_the_same_start(init: Any, count: int, shape: str) -> None:
    random = numpy.random.default_rng(0)
    values = {"normal": random.normal(size=4000), "uniform": random.random(3000),
              "few": random.choice(random.random(200), 900)}[shape]
    want, labels = by_scipy(values, kmeans.first_centroids(numpy.sort(values), count, init))
    assert len(set(labels)) == count
    have = kmeans.centroids(values, count, init)
    assert have == pytest.approx(want, abs=1e-9)
    assert numpy.array_equal(have[kmeans.nearest(values, have)], have[labels])


@pytest.mark.parametrize("values", [
    numpy.random.default_rng(0).standard_t(2, 4000),  # the range is that of a few far values
    numpy.concatenate([numpy.random.default_rng(0).normal(side, 0.1, 500) for side in (-1, 1)]),
    numpy.array([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 1000]),  # each value a cluster
])
def test_no_centroid_is_left_in_a_gap(values: Any) -> None:
    have = kmeans.centroids(values, 16, "linear")
    assert len(set(kmeans.nearest(values, have))) == 16 and (numpy.diff(have) > 0).all()
    scipys, labels = by_scipy(values, kmeans.first_centroids(numpy.sort(values), 16, "linear"))
    assert len(set(labels)) < 16
    error, scipys_error = (((values - at) ** 2).sum() for at in (have[kmeans.nearest(values, have)], scipys[labels]))
    assert error < scipys_error
    means = [values[kmeans.nearest(values, have) == index].mean() for index in range(16)]
    assert have == pytest.approx(means, abs=1e-9)


def test_a_value_half_way_goes_to_the_lower_centroid() -> None:
    values = numpy.array([0.0, 1, 2])
    have = kmeans.centroids(values, 2, "linear")  # from 0 and 2
    assert have.tolist() == [0.5, 2]
    assert kmeans.nearest(numpy.array([1.25]), have).tolist() == [0]


def test_first_centroids_are_even_over_the_range_or_over_the_values() -> None:
    values = numpy.array([0.0, 1, 2, 3, 4, 5, 6, 70])
    assert kmeans.first_centroids(values, 3, "linear").tolist() == [0, 35, 70]
    assert kmeans.first_centroids(values, 2, "density").tolist() == [1.75, 5.25]  # the quartiles


def test_each_layer_has_so_many_values_and_each_weight_the_one_nearest_to_it() -> None:
    before, after = net(), apply("cluster", clusters=8)
    assert distinct(after.module) == [8, 8, 8]
    for old, new in zip(weights(before), weights(after.module), strict=True):
        values = new.unique()
        nearest = values[(old.reshape(-1, 1) - values).abs().argmin(1)]
        assert torch.equal(new.reshape(-1), nearest)
    assert "cluster: 3 layers of 8 values each" in after.notes
    for name, value in before.state_dict().items():
        if name.removesuffix(".weight") not in LAYERS:
            assert torch.equal(value, after.module.state_dict()[name]), name  # type: ignore[attr-defined]


def test_zeros_of_an_earlier_pruning_stay_and_zero_is_one_of_the_values() -> None:
    pruned = apply("prune_magnitude", ratio=0.6, ignore=["head"])
    zeros = [w == 0 for w in weights(pruned.module)]
    technique = registry.load("technique", "cluster")
    for params in ({}, {"epochs": 2, "lr": 0.01}):
        start = pruned.with_(module=copy.deepcopy(pruned.module))
        after = technique().apply(start, technique.Params(clusters=6, **params), bench())
        assert all(torch.equal(w == 0, zero) for w, zero in zip(weights(after.module), zeros, strict=True))
        assert distinct(after.module) == [6, 6, 6]
    assert after.patterns["body.weight"] == {ZEROS, VALUES} and after.patterns["head.weight"] == {VALUES}


def test_zeros_that_no_step_has_named_stay_through_training_too() -> None:
    model = net()
    with torch.no_grad():
        model.body.weight[:4] = 0.0
    after: Any = apply("cluster", model=model, epochs=2, lr=0.01).module
    assert not after.body.weight[:4].any() and after.body.weight[4:].all()


def test_training_moves_the_values_and_keeps_them_shared() -> None:
    still, moved = apply("cluster", clusters=8), apply("cluster", clusters=8, epochs=2, lr=0.01)
    for old, new in zip(weights(still.module), weights(moved.module), strict=True):
        groups = old.unique(return_inverse=True)[1]
        assert not torch.equal(old, new)
        assert all(len(new[groups == group].unique()) == 1 for group in range(8))
    again = apply("cluster", clusters=8, epochs=2, lr=0.01)
    assert torch.equal(run(moved), run(again))


def test_later_training_keeps_the_values_shared() -> None:
    after = apply("cluster", clusters=8)
    finetune = registry.load("technique", "finetune")
    trained = finetune().apply(after, finetune.Params(epochs=2, lr=0.01), bench())
    assert distinct(trained.module) == [8, 8, 8]


def test_layers_with_no_more_values_are_left_and_named() -> None:
    model = net()
    before = model.head.weight.detach().clone()
    after: Any = apply("cluster", model=model, clusters=64)  # the head has 64 weights
    assert torch.equal(after.module.head.weight, before)
    assert "cluster: left, they have no more values than that: head" in after.notes


def test_pruning_may_follow_and_adds_zero_to_the_values() -> None:
    clustered = apply("cluster", clusters=8)
    pruned = registry.load("technique", "prune_magnitude")
    after = pruned().apply(clustered, pruned.Params(ratio=0.5, epochs=1, lr=0.01), bench())
    assert all(count <= 9 for count in distinct(after.module))
    assert chains.refusal([Step(name="cluster", params={}), Step(name="prune_magnitude", params={})]) is None
    assert chains.refusal([Step(name="prune_magnitude", params={}), Step(name="cluster", params={})]) is None


def test_what_the_model_does_not_allow_is_told_before_any_work() -> None:
    with pytest.raises(UsageError, match="no layer matches 'haed'"):
        preflight(net(), ignore=["haed"])
    with pytest.raises(HarnessError, match="no linear layer and no convolution"):
        preflight(nn.Sequential(nn.ReLU()))
    with pytest.raises(HarnessError, match="no layer has more than 5000 different weights"):
        preflight(net(), clusters=5000)
    with pytest.raises(HarnessError, match="no layer has more than 8 different weights"):
        apply("cluster", model=apply("cluster", clusters=8).module, clusters=8)


@pytest.mark.parametrize("params", [{"clusters": 1}, {"clusters": 2.5}, {"clusters": "16"}, {"init": "random"},
                                    {"epochs": -1}, {"k": 16}])
def test_impossible_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ClusterParams(**params)


def test_a_step_needs_data_only_where_it_trains() -> None:
    still, trains = (chains.traits(Step(name="cluster", params=p)) for p in ({}, {"epochs": 3}))
    assert (still.needs_train, still.reads_data, still.seeded, still.epochs) == (False, False, False, 0)
    assert (trains.needs_train, trains.reads_data, trains.seeded, trains.epochs) == (True, True, True, 3)
    assert still.makes == {"values"}
