"""The published data sets by name. A new one is a record in a file of its own, and a line here."""

from disa.data.ade20k import A150, A847
from disa.data.benchmark_record import Benchmark
from disa.data.coco_stuff import COCO_STUFF
from disa.data.pascal_context import PC59, PC459
from disa.data.pascal_voc import PAS20, PAS20B
from disa.errors import DisaError

RECORDS = (COCO_STUFF, A150, A847, PC59, PC459, PAS20, PAS20B)
BENCHMARKS = {benchmark.name: benchmark for benchmark in RECORDS}
# The columns of the papers' table of results, in its order.
PAPER = ("a847", "pc459", "a150", "pc59", "pas20", "pas20b")


def find_benchmark(name: str) -> Benchmark:
    """Return a data set by its name. Raises `DisaError` that lists them for any other."""
    if name not in BENCHMARKS:
        raise DisaError(
            f'unknown data set "{name}"; use {", ".join(BENCHMARKS)}, picturebook, '
            'or "folder" for your own'
        )
    return BENCHMARKS[name]
