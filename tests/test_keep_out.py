"""`keep_out`: operators that XNNPACK is not given, so that a file is slower, or right, in the same cell."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.errors import HarnessError
from harness.export.executorch import ExecuTorch, ExecuTorchParams
from harness.interfaces import Compressed, Exported
from tests.test_export import Net, X, pte


def exported(out: Path, **params: object) -> Exported:
    model = Compressed(module=Net().eval(), form="eager", example_inputs=(X,))
    return ExecuTorch().export(model, ExecuTorchParams.model_validate(params), out)


def test_what_is_kept_out_is_left_to_the_portable_kernels_and_gives_the_same(tmp_path: Path) -> None:
    import torch

    facts = exported(tmp_path / "m.pte", keep_out=["convolution"]).facts
    assert facts["delegation"]["left_outside"] == {"convolution": 1}
    assert 0 < facts["delegated_fraction"] < 1
    assert torch.allclose(pte(tmp_path / "m.pte")[0], Net().eval()(X), atol=1e-5)
    params = ExecuTorchParams(keep_out=["convolution"])
    assert ExecuTorch().backend(params) == "xnnpack"  # the same cell as without


def test_an_operator_that_no_delegate_takes_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="convolutoin") as refused:
        exported(tmp_path / "m.pte", keep_out=["convolutoin"])
    assert "'convolution'" in str(refused.value.hint)


@pytest.mark.parametrize("params", [{"keep_out": ["relu"], "backend": "portable"}, {"keep_out": ["a.b"]}])
def test_what_means_nothing_is_refused_when_it_is_read(params: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ExecuTorchParams.model_validate(params)
