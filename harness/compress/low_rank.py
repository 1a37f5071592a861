"""low_rank: layers as chains of smaller ones, by a decomposition of their weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field, model_validator

from harness.compress.channels import count
from harness.compress.factorize import Factorization, Method, built, factorization, pays
from harness.compress.params import Count, Params, Real, Share
from harness.compress.ranks import within_budget
from harness.compress.splittable import splittable_layers
from harness.compress.training import fixed
from harness.errors import HarnessError, UsageError
from harness.interfaces import Compressed, Technique, Workbench
from harness.loading import first_line
from harness.quiet import quiet

STEP = "low_rank"


class LowRankParams(Params):
    method: Annotated[
        Method,
        Field(description="svd; tucker or cp for convolutions with a kernel above 1, and svd for all other layers"),
    ] = "svd"
    energy: Annotated[
        Annotated[Real, Field(gt=0, le=1)] | None,
        Field(description="smallest rank with this share of the squared singular values, for cp of the squared "
                          "weights (0.8 if none is given)"),
    ] = None
    rank: Annotated[Count | None, Field(description="this rank in every layer")] = None
    ratio: Annotated[Share | None, Field(description="this share of the full rank")] = None
    budget: Annotated[
        Annotated[Real, Field(ge=0)] | None,
        Field(description="the least energy, one for all layers, that loses at most this much of the metric on "
                          "validation"),
    ] = None
    ignore: Annotated[list[str], Field(default_factory=list, description="layers to leave as they are, name or glob")]
    threads: Annotated[int, Field(ge=1, le=256, description="threads of this step; part of its key")] = 1

    @model_validator(mode="after")
    def _one(self) -> LowRankParams:
        if sum(value is not None for value in (self.energy, self.rank, self.ratio, self.budget)) > 1:
            raise ValueError("give at most one of energy, rank, ratio, budget")
        return self


class LowRank:
    Params: ClassVar[type[BaseModel]] = LowRankParams
    accepts: ClassVar[frozenset[str]] = frozenset({"eager"})
    gives: ClassVar[str] = "eager"
    needs_train: ClassVar[bool] = False
    renames: ClassVar[bool] = True
    refuses: ClassVar[dict[str, str]] = {
        "zeros": "its factors are dense, the zeros would be lost",
        "values": "its factors are new, the shared values would be lost",
    }

    @staticmethod
    def traits(params: Any) -> dict[str, Any]:
        return {"seeded": params.method == "cp", "reads_data": params.budget is not None}

    @staticmethod
    def preflight(params: Any, model: Any, bench: Workbench) -> None:
        splittable_layers(model, bench.example_inputs, params.ignore, STEP)
        if params.budget is not None:
            _evaluate(bench)

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        """Raises HarnessError where no layer gets smaller, or none within the budget."""
        import torch

        module: Any = model.module
        before, asked, notes = count(module), params, []
        with fixed(bench.seed, params.threads), torch.no_grad(), quiet():
            found = {}
            for name, layer, shape in splittable_layers(module, model.example_inputs, params.ignore, STEP):
                with _decomposing(name):
                    found[name] = factorization(layer, shape, params.method, bench.seed)
            if params.budget is not None:
                asked, note = _chosen(module, found, params, bench)
                notes.append(note)
            split, whole = _split(module, found, asked, bench.progress)
        if not split:
            raise HarnessError(f"{STEP}: no layer gets smaller at this rank", "lower energy, rank or ratio")
        notes += [f"{STEP}: {params.method}, {before} parameters, {count(module)} left",
                  f"{STEP}: {', '.join(split)}"]
        if whole:
            notes.append(f"{STEP}: left whole, the factors would be larger: {', '.join(whole)}")
        return model.with_(module=module.eval(), notes=(*model.notes, *notes))


def _split(
    module: Any, found: Mapping[str, Factorization], asked: Any,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> tuple[list[str], list[str]]:
    """Puts the chains in place. Returns the layers with their ranks, and those for which it would not pay."""
    split, whole = [], []
    for index, (name, one) in enumerate(found.items()):
        progress(index, len(found), name)
        with _decomposing(name):
            ranks = one.ranks(asked)
            chain = built(one, ranks) if ranks is not None and pays(one, ranks) else None
        if ranks is None or chain is None:
            whole.append(name)
            continue
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, chain)
        split.append(f"{name} rank {' x '.join(map(str, ranks))}")
    return split, whole


@contextlib.contextmanager
def _decomposing(name: str) -> Iterator[None]:
    """Names the layer where LAPACK or tensorly fail on its weight: not converged, singular."""
    try:
        yield
    except Exception as error:
        raise HarnessError(f"{STEP}: {name} cannot be decomposed: {first_line(error)}",
                           "take another rank or method, or name it in `ignore`") from error


def _chosen(module: Any, found: Mapping[str, Factorization], params: Any, bench: Workbench) -> tuple[Any, str]:
    """The parameters with the energy that validation allows, and a note of it."""

    def at(energy: float) -> Any:
        return params.model_copy(update={"energy": energy, "budget": None})

    energy, drop = within_budget(module, lambda work, energy: _split(work, found, at(energy)),
                                 _evaluate(bench), params.budget, bench.progress, STEP)
    return at(energy), (f"{STEP}: energy {energy:g} chosen on validation, which loses {drop:.3g} by it; the budget is "
                        f"{params.budget:g}")


def _evaluate(bench: Workbench) -> Callable[[Any], float]:
    """Raises UsageError where nothing can tell what a rank loses."""
    if bench.evaluate is None:
        raise UsageError(f"{STEP}: budget needs a validation split and a metric to judge by",
                         "give them in `data`, or take energy, rank or ratio")
    return bench.evaluate


_: type[Technique] = LowRank
