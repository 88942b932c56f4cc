"""The published data sets by name. A new one is a record in a file of its own, and a line here."""

from disa.data.ade20k import A150, A847
from disa.data.benchmark_record import Benchmark
from disa.data.coco_stuff import COCO_STUFF
from disa.data.pascal_context import PC59, PC459
from disa.data.pascal_voc import PAS20, PAS20B
from disa.errors import DisaError

BENCHMARKS = {
    benchmark.name: benchmark for benchmark in (COCO_STUFF, A150, A847, PC59, PC459, PAS20, PAS20B)
}


def find_benchmark(name: str) -> Benchmark:
    """Return a data set by its name. Raises `DisaError` that lists them for any other."""
    if name not in BENCHMARKS:
        raise DisaError(
            f'unknown data set "{name}"; use {", ".join(BENCHMARKS)}, picturebook, '
            'or "folder" for your own'
        )
    return BENCHMARKS[name]


def _paper_order() -> tuple[str, ...]:
    columns = {
        benchmark.paper_column: benchmark.name
        for benchmark in BENCHMARKS.values()
        if benchmark.paper_column is not None
    }
    return tuple(name for _, name in sorted(columns.items()))


PAPER = _paper_order()  # the data sets in the papers' table of results, in its order
