"""Every task metric of a session's rows: scores, and what was lost against the reference and against the control.

A control was trained as long as the variant and not compressed: against it, the loss is the compression's alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analyze.accuracy import accuracy, loss, no_loss, scored
from harness.analyze.measured import MetricObject, absent
from harness.analyze.peers import Peers
from harness.analyze.task import Floats, Score, Task, on_device, on_validation
from harness.types import Session


@dataclass(frozen=True, kw_only=True)
class Losses:
    """`device` and `validation`: each row's score on the device's samples and on the validation split."""

    task: Task
    peers: Peers
    device: Sequence[Score]
    validation: Sequence[Score]

    @classmethod
    def of(cls, session: Session, task: Task, peers: Peers) -> Losses:
        return cls(
            task=task, peers=peers, validation=[on_validation(row.build, task) for row in peers.rows],
            device=[on_device(row, session, task) if row.device else Score() for row in peers.rows],
        )  # fmt: skip

    def metrics(self, i: int) -> dict[str, MetricObject]:
        return {
            "accuracy": accuracy(self.device[i], self.peers.rows[i].build, self.task),
            "accuracy_drop": self._against_reference("accuracy_drop", i, self.device, "device"),
            "accuracy_drop_control": self._against_control(i),
            "validation_accuracy": scored("validation_accuracy", self.validation[i], self.task, "host"),
            "validation_drop": self._against_reference("validation_drop", i, self.validation, "host"),
        }

    def samples(self, i: int) -> dict[str, Floats]:
        """Metric -> its value for each sample, for those that have one."""
        device, validation = self.device[i].samples, self.validation[i].samples
        r, c = self._reference(i), self._control(i)
        known = {
            "accuracy": device,
            "accuracy_drop": self._paired(device, self._other(self.device, r).samples),
            "accuracy_drop_control": self._paired(device, self._other(self.device, c).samples),
            "validation_accuracy": validation,
            "validation_drop": self._paired(validation, self._other(self.validation, r).samples),
        }
        return {name: values for name, values in known.items() if values is not None}

    def _reference(self, i: int) -> int | None:
        return self.peers.beside(i, self.task.reference)

    def _control(self, i: int) -> int | None:
        name = self.task.controls.get(self.peers.rows[i].build.variant)
        return None if name is None else self.peers.beside(i, name)

    def _other(self, scores: Sequence[Score], j: int | None) -> Score:
        """What row j scored, if it may be compared with: a host's score needs nothing of the device."""
        if j is None or (scores is self.device and not self.peers.usable(j)):
            return Score()
        return scores[j]

    def _lacking(self, scores: Sequence[Score], j: int | None, what: str) -> str:
        if j is not None and self.peers.usable(j):
            return f"{what} has no score: {scores[j].absent}"
        return self.peers.why_not(j, what)

    def _against_reference(self, name: str, i: int, scores: Sequence[Score], source: str) -> MetricObject:
        own, r, task = scores[i], self._reference(i), self.task
        if own.value is None:
            return absent(own.absent)
        if r == i:
            return no_loss(name, own, task, source, reference=task.reference)
        other = self._other(scores, r)
        if other.value is None:
            return absent(self._lacking(scores, r, f"the reference {task.reference}"))
        return loss(name, own, other, task, source, reference=task.reference)

    def _against_control(self, i: int) -> MetricObject:
        task, own, variant = self.task, self.device[i], self.peers.rows[i].build.variant
        if why := _why_no_control(task, variant):
            return absent(why)
        if own.value is None:
            return absent(own.absent)
        control, c = task.controls[variant], self._control(i)
        other = self._other(self.device, c)
        if other.value is None:
            return absent(self._lacking(self.device, c, f"the control {control}"))
        return loss("accuracy_drop_control", own, other, task, "device", control=control)

    def _paired(self, own: Floats | None, other: Floats | None) -> Floats | None:
        if own is None or other is None or own.size != other.size:
            return None
        paired: Floats = self.task.sign * (other - own)
        return paired


def _why_no_control(task: Task, variant: str) -> str | None:
    if not task.controls:
        return "the experiment has no control"
    if variant in task.controls.values():
        return "this is the control"
    return None if variant in task.controls else "this variant trains no longer than the reference"
