"""What `harness.run` and `harness.latest` give: a session's answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.answers import Result
from harness.errors import UsageError
from harness.guest import own_errors
from harness.metrics import nearest

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """A session's answer. `document` is what `harness run --json` writes (docs/contract.md); `page` is the HTML report.

    `for result in outcome` gives every `Result`, `outcome["int8"]` the one of that variant.

    Example: `outcome = harness.run("experiment.yaml"); outcome["int8"].latency_ms`."""

    document: Mapping[str, Any]
    page: Path | None

    @property
    def experiment(self) -> str:
        return str(self.document["experiment"])

    @property
    def label(self) -> str | None:
        """The release's name, where it was given one."""
        return None if self.document["label"] is None else str(self.document["label"])

    @property
    def results(self) -> tuple[Result, ...]:
        """One for each variant, format, device, thread count, …: what failed is there, with its reason."""
        return tuple(Result(document=result) for result in self.document["results"])

    @property
    def simulated(self) -> bool:
        """Whether a device of it is a simulated one."""
        return any(result.simulated for result in self.results)

    def __getitem__(self, variant: str) -> Result:
        """The one result of this variant. Raises UsageError for an unknown one, and where there are several."""
        found = [result for result in self.results if result.variant == variant]
        if len(found) == 1:
            return found[0]
        if not found:
            names = {result.variant for result in self.results}
            hint = nearest(variant, names) if isinstance(variant, str) and names else "a variant's name"
            raise UsageError(f"{self.experiment} has no variant {variant!r}", hint)
        keys = ("exporter", "device", "threads", "cpus", "seed", "input")
        differ = [key for key in keys if len({result.document[key] for result in found}) > 1]
        raise UsageError(
            f"{variant} has {len(found)} results, which differ in {', '.join(differ) or 'nothing that has a name'}",
            f'[r for r in outcome if r.variant == {variant!r} and r.document["{(differ or keys)[0]}"] == …]',
        )

    def __contains__(self, variant: object) -> bool:
        """Whether there is a result of the variant of this name (or this very result)."""
        return any(variant is result or variant == result.variant for result in self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    @property
    def pick(self) -> Mapping[str, Any] | None:
        """The variant to ship, with its `probability` (0 to 1); None where the experiment asks for none, nothing fits,
        or the session is a quick one, which never decides."""
        found: Mapping[str, Any] | None = self.document["pick"]
        return found

    @own_errors
    def frame(self) -> pandas.DataFrame:
        """One row per result; the columns are those of `results`."""
        from harness.frames import results_frame

        return results_frame([self.document])

    @own_errors
    def show(self) -> None:
        """In a notebook: the page, below the cell (without one the table). Elsewhere: the table that `harness run`
        prints, on stdout."""
        from harness import notebook

        if not notebook.in_notebook():
            from harness.commands.running import show

            show(dict(self.document))
        elif self.page is not None and self.page.is_file():
            notebook.show_page(self.page)
        else:
            notebook.show_html(self._repr_html_(), repr(self))

    def _repr_html_(self) -> str:
        from harness.outcome_html import table

        return table(self.document)

    def __repr__(self) -> str:
        statuses = [result.status for result in self.results]
        counts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
        told = [self.experiment, *([f"label {self.label}"] if self.label else []), counts or "no results"]
        told += [f"pick {self.pick['variant']}"] if self.pick is not None else []
        return f"<{'simulated ' if self.simulated else ''}{', '.join(told)}>"
