"""cluster: the weights of a layer share a few values. The file shrinks once it is zipped; no kernel is quicker by it.

Exporters fold batch norms into the weights, which multiplies the number of values: behind fold_bn the file zips
better.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from harness.compress import kmeans
from harness.compress.layer_weights import layer_weights, named
from harness.compress.params import TrainParams
from harness.compress.patterns import VALUES, ZEROS, added
from harness.compress.training import fixed, task_loss, train
from harness.errors import HarnessError
from harness.interfaces import Compressed, Technique, Workbench

STEP = "cluster"


class ClusterParams(TrainParams):
    clusters: Annotated[
        int, Field(ge=2, le=65_536, description="values per layer; zero is one of them where a layer has zeros")
    ] = 16
    init: Annotated[
        kmeans.Init, Field(description="first centroids, evenly spread over: the values' range, or the values")
    ] = "linear"
    ignore: Annotated[list[str], Field(default_factory=list, description="layers that stay whole, by name or glob")]
    epochs: Annotated[int, Field(ge=0, le=10_000, description="passes over train that move the shared values")] = 0


class Cluster:
    """Weights of Linear and convolutions, never biases and norms. Each layer has its own values (Han et al., Deep
    Compression, 2016, section 3). Zeros stay zero."""

    Params: ClassVar[type[BaseModel]] = ClusterParams
    accepts: ClassVar[frozenset[str]] = frozenset({"eager"})
    gives: ClassVar[str] = "eager"
    needs_train: ClassVar[bool] = False
    makes: ClassVar[frozenset[str]] = frozenset({"values"})

    @staticmethod
    def traits(params: Any) -> dict[str, Any]:
        trains = params.epochs > 0
        return {"needs_train": trains, "reads_data": trains, "seeded": trains, "epochs": params.epochs}

    @staticmethod
    def preflight(params: Any, model: Any, bench: Workbench) -> None:
        if all(weight.value.numel() <= params.clusters for weight in layer_weights(model, params.ignore, STEP)):
            raise _nothing(params)

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        """Raises HarnessError where no layer has more values than it may have."""
        module: Any = model.module
        notes = list(model.notes)
        with fixed(bench.seed, params.threads):
            weights = layer_weights(module, params.ignore, STEP)
            left = [weight for weight in weights if not _cluster(weight.value, params)]
            if len(left) == len(weights):
                raise _nothing(params)
            zeros = [weight.name for weight in weights if not weight.value.all()]
            patterns = added(added(model.patterns, zeros, ZEROS), [weight.name for weight in weights], VALUES)
            notes.append(f"{STEP}: {len(weights) - len(left)} layers of {params.clusters} values each")
            if left:
                notes.append(f"{STEP}: left, they have no more values than that: {named(left)}")
            if params.epochs:
                task = task_loss(bench)
                notes += train(module, bench, lambda output, inputs, target: task(output, target), params, STEP,
                               patterns=patterns)
        return model.with_(notes=tuple(notes), patterns=patterns)


def _cluster(weight: Any, params: Any) -> bool:
    """Moves each weight to the centroid nearest to it. Whether there were more values than centroids."""
    import torch

    values = weight.detach().double().numpy()
    if len(torch.unique(weight)) <= params.clusters:
        return False
    others = values[values != 0]
    found = kmeans.centroids(others, params.clusters - (others.size < values.size), params.init)
    values[values != 0] = found[kmeans.nearest(others, found)]
    with torch.no_grad():
        weight.copy_(torch.from_numpy(values))
    return True


def _nothing(params: Any) -> HarnessError:
    return HarnessError(f"{STEP}: no layer has more than {params.clusters} different weights", "lower clusters")


_: type[Technique] = Cluster
