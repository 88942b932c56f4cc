"""Measure `result.foreground` on a data set of your own: its things against its stuff.

    python experiments/foreground/photographs.py DIR --model mini

Every class in DIR's classes.json needs a `kind`, "thing" or "stuff". Pixels without a label do not
count. "everything" is the foreground that covers all of every picture.
"""

import argparse
from pathlib import Path

import numpy as np

import disa
from disa.data.dataset import FOLDER, open_dataset


def main() -> None:
    """Print the IoU of the foreground, of the background, and of a foreground of everything."""
    parser = argparse.ArgumentParser(description="Measure the foreground on a data set.")
    parser.add_argument("data", type=Path, help="a folder as docs/data.md describes")
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", default="mini")
    options = parser.parse_args()

    dataset = open_dataset(FOLDER, options.data, options.split)
    kinds = [category.kind for category in dataset.vocabulary.categories]
    if not set(kinds) <= {"thing", "stuff"}:
        raise SystemExit(f"{options.data}: every class in classes.json needs a kind")
    is_thing = np.array([kind == "thing" for kind in kinds])
    segmenter = disa.load(options.model)

    # Pixels by what is predicted (row) and what is true (column): stuff 0, things 1.
    counts = np.zeros((2, 2), np.int64)
    for index in range(len(dataset.ids)):
        labels = dataset.labels(index)
        known = labels != dataset.ignored
        true = is_thing[labels[known]]
        predicted = segmenter(dataset.image(index), ["anything"]).foreground[known]
        np.add.at(counts, (predicted.astype(int), true.astype(int)), 1)

    for kind, name in ((1, "foreground"), (0, "background")):
        either = counts[kind].sum() + counts[:, kind].sum() - counts[kind, kind]
        print(f"{name} IoU {counts[kind, kind] / either:.1%}")
    print(f"everything: foreground IoU {counts[:, 1].sum() / counts.sum():.1%}")


if __name__ == "__main__":
    main()
