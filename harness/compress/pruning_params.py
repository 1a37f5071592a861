"""The parameters of prune_magnitude, and which of them exclude each other."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harness.compress.params import Count, Real, Share, TrainParams


class PruneMagnitudeParams(TrainParams):
    ratio: Annotated[
        Share | None, Field(description="share of the weights that is zero in the end (0.5 if nothing else is given)")
    ] = None
    threshold: Annotated[
        Annotated[Real, Field(gt=0)] | None, Field(description="instead: weights of a smaller magnitude become zero")
    ] = None
    pattern: Annotated[
        Annotated[str, Field(pattern=r"^[1-9]\d{0,3}:[1-9]\d{0,3}$")] | None,
        Field(description="instead: N:M, at most N of M weights in a row are left"),
    ] = None
    scope: Annotated[
        Literal["global", "layer"], Field(description="whether ratio is of all weights together or of each layer")
    ] = "global"
    importance: Annotated[
        Literal["l1", "gradient"], Field(description="|w|, or |w·gradient|: first-order change of the loss")
    ] = "l1"
    batches: Annotated[Count, Field(description="of train (else calibration), for the gradient")] = 8
    how: Annotated[
        Literal["one_shot", "iterative", "gradual"],
        Field(description="at once; in rounds of pruning and training; bit by bit while training"),
    ] = "one_shot"
    rounds: Annotated[int, Field(ge=2, le=1000, description="iterative: each trains for `epochs`")] = 3
    curve: Annotated[
        Literal["polynomial", "constant"], Field(description="gradual: how ratio rises; constant: at once, at `begin`")
    ] = "polynomial"
    power: Annotated[Real, Field(gt=0, le=10, description="of the polynomial; 3 is cubic, 1 a straight line")] = 3.0
    begin: Annotated[Real, Field(ge=0, lt=1, description="gradual: share of the steps before the first pruning")] = 0.0
    ramp: Annotated[Real, Field(gt=0, le=1, description="polynomial: share of the steps in which ratio rises")] = 0.5
    every: Annotated[Count, Field(description="polynomial: steps from one pruning to the next")] = 10
    ignore: Annotated[list[str], Field(default_factory=list, description="layers that stay whole, by name or glob")]
    epochs: Annotated[
        int, Field(ge=0, le=10_000, description="passes over train: after one_shot, in each round, or while gradual")
    ] = 0

    @property
    def n_m(self) -> tuple[int, int] | None:
        n, _, m = (self.pattern or "").partition(":")
        return (int(n), int(m)) if m else None

    @property
    def asked(self) -> str:
        if self.threshold is not None:
            return f"threshold {self.threshold:g}"
        return f"ratio {self.final:g}" if self.pattern is None else f"pattern {self.pattern}"

    @property
    def final(self) -> float:
        return 0.5 if self.ratio is None else float(self.ratio)

    @model_validator(mode="after")
    def _applicable(self) -> PruneMagnitudeParams:
        """What the others have no use for is refused, not passed over."""
        if sum(value is not None for value in (self.ratio, self.threshold, self.pattern)) > 1:
            raise ValueError("give at most one of ratio, threshold, pattern")
        if self.n_m is not None and self.n_m[0] >= self.n_m[1]:
            raise ValueError(f"pattern {self.pattern} removes nothing: N must be smaller than M")
        if self.how != "one_shot" and not self.epochs:
            raise ValueError(f"how: {self.how} prunes while it trains: give epochs")
        if self.begin + self.ramp > 1 and self.curve == "polynomial":
            raise ValueError("begin and ramp are shares of one training: their sum must not be above 1")
        ratio, gradual = self.threshold is None and self.pattern is None, self.how == "gradual"
        rising = gradual and self.curve == "polynomial"
        used = {
            "how": (ratio, "with ratio"), "scope": (ratio, "with ratio"),
            "importance": (self.threshold is None, "without threshold"),
            "batches": (self.importance == "gradient", "with importance: gradient"),
            "rounds": (self.how == "iterative", "with how: iterative"),
            "curve": (gradual, "with how: gradual"), "begin": (gradual, "with how: gradual"),
            **dict.fromkeys(("power", "ramp", "every"), (rising, "with how: gradual and curve: polynomial")),
            "patience": (not gradual, "where the ratio does not change while training"),
        }
        defaults = type(self).model_construct()
        for name, (is_used, when) in used.items():
            if not is_used and getattr(self, name) != getattr(defaults, name):
                raise ValueError(f"{name} is of use only {when}")
        return self
