"""Parquet: a row a picture, which holds what NAME.json and NAME_labels.png do."""

from pathlib import Path
from typing import Any

from disa.formats.results import Entry, Results
from disa.running.files import write_whole

ROWS = 1000  # in memory at a time


def write_parquet(results: Results, out: Path, tolerance: float) -> list[str]:
    """Write results.parquet. Label maps stay as they are, so the tolerance is not used."""
    import pyarrow as pa
    from pyarrow import parquet

    columns = {
        "name": pa.string(),
        "image": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "words": pa.list_(pa.string()),
        "labels": pa.binary(),
        "json": pa.string(),
    }
    schema = pa.schema(columns)

    def write(file: Any) -> None:
        with parquet.ParquetWriter(file, schema) as writer:
            for start in range(0, len(results.entries), ROWS):
                rows = [_row(results, entry) for entry in results.entries[start : start + ROWS]]
                writer.write_table(pa.Table.from_pylist(rows, schema))

    write_whole(out / "results.parquet", write)
    return []


def _row(results: Results, entry: Entry) -> dict[str, Any]:
    height, width = entry.size
    results.labels(entry)  # refuses a damaged map
    return {
        "name": entry.name,
        "image": entry.picture,
        "width": width,
        "height": height,
        "words": list(entry.words),
        "labels": (results.folder / f"{entry.name}_labels.png").read_bytes(),
        "json": (results.folder / f"{entry.name}.json").read_text(encoding="utf-8"),
    }
