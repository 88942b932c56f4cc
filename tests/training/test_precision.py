import pytest
import torch

from disa.errors import DisaError
from disa.training import precision
from disa.training.precision import check_precision, slowdown


def test_products_are_timed_in_both() -> None:
    assert 0.01 < slowdown() < 1000


@pytest.mark.parametrize(
    ("factor", "refused"), [(0.3, False), (1.9, False), (5.0, True), (80.0, True)]
)
def test_a_cpu_that_emulates_bf16_is_refused(
    factor: float, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "slowdown", lambda: factor)
    if refused:
        with pytest.raises(
            DisaError, match=f"takes {factor:.0f} times as long.*add --set precision=fp32"
        ):
            check_precision("bf16", "cpu")
    else:
        check_precision("bf16", "cpu")
    check_precision("fp32", "cpu")


def test_a_gpu_without_bf16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation
    )
    with pytest.raises(DisaError, match="this GPU cannot compute it; use precision=fp16"):
        check_precision("bf16", "cuda:0")
    check_precision("fp16", "cuda:0")


def test_fp16_is_not_for_cpus() -> None:
    with pytest.raises(DisaError, match="use precision=fp32"):
        check_precision("fp16", "cpu")
