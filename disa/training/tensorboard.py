"""The log's lines as TensorBoard shows them: (record of log.jsonl) -> scalars named as there (extra `tensorboard`)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from disa.errors import DisaError


class TensorBoard:
    """Writes to one folder."""

    def __init__(self, folder: Path, start: int) -> None:
        """Open it; what it was told of steps from `start` on no longer counts.

        Raises `DisaError` if TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise DisaError(
                f'tensorboard=true: {error}; pip install "disa[tensorboard]", or leave it out'
            ) from None
        self.writer = SummaryWriter(str(folder), purge_step=start)

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record's numbers: losses as `training/loss`, those of an evaluation as `evaluation/miou`."""
        kind, numbers = (
            ("evaluation", record["evaluation"]) if "evaluation" in record else ("training", record)
        )
        for name, value in _numbers(numbers, f"{kind}/"):
            self.writer.add_scalar(name, value, int(record["step"]))

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()


def _numbers(record: Mapping[str, Any], before: str) -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{before}{name}/")
        elif isinstance(value, int | float) and name != "step":
            yield before + name, float(value)
