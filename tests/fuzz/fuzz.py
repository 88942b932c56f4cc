"""Damaged inputs without end: each is an answer or a `DisaError`, in bounded time and memory.

    python tests/fuzz/fuzz.py --minutes 60                    every reader in turn
    python tests/fuzz/fuzz.py --readers results --number 17   one input again

An input is a function of its reader's name and a number. What fails is kept in ./fuzz-failures,
with its traceback.
"""

import argparse
import contextlib
import faulthandler
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "fuzz"), str(TESTS / "data"), str(TESTS / "training"), str(TESTS)]

from damage import damaged  # noqa: E402
from reader import Reader  # noqa: E402
from readers import READERS  # noqa: E402

from disa.errors import DisaError  # noqa: E402

MOST_SECONDS = 10.0  # of a processor's time
MOST_GROWTH = 1e9  # bytes that one input may add to the largest memory so far
HUNG = 120  # seconds after which the process ends, with a traceback
FAILURES = Path("fuzz-failures")


@dataclass
class Count:
    """What became of a reader's inputs."""

    inputs: int = 0
    answers: int = 0
    failures: int = 0
    seconds: float = 0.0
    longest: float = 0.0  # seconds
    growth: float = 0.0  # bytes of the largest memory

    def add(self, outcome: "Outcome") -> None:
        self.inputs += 1
        self.answers += outcome.kind == "answer"
        self.failures += outcome.fault != ""
        # Laying out an input takes about as long as reading a small one.
        self.seconds += outcome.seconds + 0.003
        self.longest = max(self.longest, outcome.seconds)
        self.growth = max(self.growth, outcome.growth)


@dataclass
class Outcome:
    """What became of one input; `fault` says what should not have been."""

    kind: str
    fault: str
    seconds: float
    growth: float


class Bench:
    """A reader with its whole input, and a place for damaged ones."""

    def __init__(self, reader: Reader, root: Path) -> None:
        self.reader = reader
        self.whole = root / "whole"
        self.input = root / "input"
        self.whole.mkdir(parents=True)
        reader.write(self.whole)
        self.files = sorted(file for glob in reader.files for file in self.whole.glob(glob))
        assert self.files, reader.name

    def check_whole(self) -> None:
        """Read every file as it is: without this, all damage would be refused in vain."""
        for file in self.files:
            self._lay_out()
            self.reader.read(self.input, self.input / file.relative_to(self.whole))

    def run(self, number: int) -> Outcome:
        """Damage the input as this number says, and read it."""
        rng = random.Random(f"{self.reader.name} {number}")
        file = rng.choice(self.files)
        return self.read(file, damaged(file.read_bytes(), file.suffix, rng))

    def read(self, whole: Path, content: bytes) -> Outcome:
        """Read the input with other content in one of its files."""
        self._lay_out()
        file = self.input / whole.relative_to(self.whole)
        file.write_bytes(content)
        memory = peak_memory()
        start = time.process_time()
        kind, fault = "answer", ""
        try:
            self.reader.read(self.input, file)
        except DisaError as error:
            kind = "refusal"
            if not str(error).strip():
                fault = "an empty message"
        except KeyboardInterrupt:
            raise
        except BaseException:
            kind, fault = "failure", traceback.format_exc()
        seconds = time.process_time() - start
        growth = peak_memory() - memory
        if not fault and seconds > MOST_SECONDS:
            fault = f"{seconds:.1f} seconds"
        if not fault and growth > MOST_GROWTH:
            fault = f"{growth / 1e9:.1f} GB"
        return Outcome(kind, fault, seconds, growth)

    def keep(self, number: int, fault: str) -> None:
        """Keep a failing input, and say how to repeat it."""
        folder = FAILURES / f"{self.reader.name}-{number}"
        shutil.copytree(self.input, folder, dirs_exist_ok=True)
        (folder / "fault.txt").write_text(fault)

    def _lay_out(self) -> None:
        shutil.rmtree(self.input, ignore_errors=True)
        shutil.copytree(self.whole, self.input)


def peak_memory() -> float:
    """Return the largest memory of this process so far, in bytes; 0 where it is not known."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


@contextlib.contextmanager
def quiet(root: Path):
    """Keep off the terminal what libraries say, and out of the user's cache what disa keeps."""
    os.environ["DISA_CACHE"] = str(root / "cache")
    with warnings.catch_warnings(), (root / "said.txt").open("w") as said:
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            yield


def main() -> int:
    """Run readers in turn for some minutes, or one input; 1 if something failed."""
    names = [reader.name for reader in READERS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--readers", nargs="*", choices=names, default=names)
    parser.add_argument("--start", type=int, default=random.randrange(10**9))
    parser.add_argument("--number", type=int, help="repeat one input")
    options = parser.parse_args()
    counts = {name: Count() for name in options.readers}
    first = options.start if options.number is None else options.number
    print(f"first number: {first}", flush=True)
    end = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        root = Path(name)
        out = stack.enter_context(os.fdopen(os.dup(1), "w"))
        stack.enter_context(quiet(root))
        chosen = [reader for reader in READERS if reader.name in options.readers]
        benches = [Bench(reader, root / reader.name) for reader in chosen]
        FAILURES.mkdir(exist_ok=True)
        # Ctrl-C ends with the table, too.
        stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        while time.monotonic() < end:
            # All get the same time, so quick readers get more inputs.
            bench = min(benches, key=lambda bench: counts[bench.reader.name].seconds)
            count = counts[bench.reader.name]
            number = first + count.inputs
            # Where the process itself ends, this says at what.
            (FAILURES / "now.txt").write_text(f"--readers {bench.reader.name} --number {number}\n")
            faulthandler.dump_traceback_later(HUNG, exit=True, file=out)
            outcome = bench.run(number)
            count.add(outcome)
            if outcome.fault:
                bench.keep(number, outcome.fault)
                last = outcome.fault.strip().splitlines()[-1][:200]
                line = f"--readers {bench.reader.name} --number {number}: {last}"
                print(line, file=out, flush=True)
            if options.number is not None:
                break
    faulthandler.cancel_dump_traceback_later()
    print("reader             inputs  answers failures longest s  growth MB")
    for name, count in counts.items():
        print(
            f"{name:16} {count.inputs:8} {count.answers:8} {count.failures:8} "
            f"{count.longest:9.2f} {count.growth / 1e6:10.0f}"
        )
    return int(any(count.failures for count in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
