"""The bundled model's table: variants x seeds, trained from one CLIP with one budget, measured alike.

    python benchmarks/mini_table.py --clip runs/clip --out runs/table --steps 3000 --seeds 0,1,2
    python benchmarks/mini_table.py --plan plan.json --clip runs/clip --out runs/table --steps 3000

Runs follow each other, each in a process of its own: one that dies does not take the others along. Started again, the
script skips what is complete and goes on with what was interrupted. OUT gets NAME/SEED/ (run folder and result.json),
OUT/log.txt and, after every run, OUT/table.md. A plan is a list of [name, recipe, {field: value, ...}].
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

PLAN: list[tuple[str, str, dict[str, Any]]] = [
    ("baseline", "mini-baseline", {}),
    ("DiSa, the paper's settings", "mini", {"saliency_split": "top_k", "saliency_itm_head": "compare"}),
    ("DiSa, best settings", "mini", {}),
]
GROUPS = ("seen_things", "unseen_things", "seen_stuff", "unseen_stuff")
FLOOR = "dense CLIP alone"


def main() -> None:
    """Do what is left of the plan, then print the table."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = _options()
    plan = json.loads(options.plan.read_text()) if options.plan else PLAN
    options.out.mkdir(parents=True, exist_ok=True)
    _floor(options)
    for seed in options.seeds.split(","):
        for name, recipe, changes in plan:
            _run(options, name, recipe, changes, seed)
            (options.out / "table.md").write_text(markdown(options.out, [entry[0] for entry in plan]))
    print((options.out / "table.md").read_text())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, required=True, help="folder of the CLIP that every run starts from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plan", type=Path, help="JSON file; default: baseline and two settings of DiSa")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", default="3000")
    parser.add_argument("--scenes", default="500", help="test scenes of the measurement")
    parser.add_argument("--set", action="append", default=[], help="name=value for every run, e.g. bf16=true")
    return parser.parse_args()


def _run(options: argparse.Namespace, name: str, recipe: str, changes: dict[str, Any], seed: str) -> None:
    folder = options.out / _slug(name) / seed
    if (folder / "result.json").exists():
        return
    settings = [*options.set, *(f"{field}={value}" for field, value in changes.items()), "evaluate_scenes=0"]
    flags = [part for setting in settings for part in ("--set", setting)]
    train = ["train", recipe, "--clip", str(options.clip), "--out", str(folder), "--steps", options.steps]
    _disa(options.out, f"{name}, seed {seed}: train", [*train, "--seed", seed, *flags])
    if (folder / "model").is_dir():
        _measure(options, f"{name}, seed {seed}: evaluate", folder / "model", folder / "result.json")


def _floor(options: argparse.Namespace) -> None:
    """Measure CLIP alone, through a model that has been trained for no more than one step at no learning rate."""
    folder = options.out / _slug(FLOOR)
    if (folder / "result.json").exists():
        return
    flags = ["--steps", "1", "--lr", "1e-30", "--set", "evaluate_scenes=0"]
    train = ["train", "mini-baseline", "--clip", str(options.clip), "--out", str(folder), *flags]
    _disa(options.out, f"{FLOOR}: set up", train)
    _measure(options, f"{FLOOR}: evaluate", folder / "model", folder / "result.json", "--dense-clip")


def _measure(options: argparse.Namespace, what: str, model: Path, result: Path, *flags: str) -> None:
    command = ["evaluate", "picturebook", "--model", str(model), "--json", str(result), "--limit", options.scenes]
    _disa(options.out, what, [*command, *flags])


def _disa(out: Path, what: str, words: list[str]) -> None:
    """Run one command and write down how it went; its output goes to the log, a failure does not end the script."""
    begun = time.time()
    with (out / "log.txt").open("a") as log:
        log.write(f"{time.strftime('%F %T')} {what}\n  disa {' '.join(words)}\n")
        log.flush()
        process = subprocess.Popen([sys.executable, "-m", "disa", *words], stdout=log, stderr=log)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()  # it saves a checkpoint and leaves
            code = process.wait()
        log.write(f"{time.strftime('%F %T')} exit code {code} after {(time.time() - begun) / 60:.1f} min\n")
    if code in (130, -signal.SIGTERM):
        raise SystemExit(f"interrupted at {what}; the same command goes on")
    print(f"{what}: done" if code == 0 else f"{what}: FAILED, see {out / 'log.txt'}", flush=True)


def markdown(out: Path, names: list[str]) -> str:
    """Return the table of everything measured so far: means over the seeds, with the spread of the mIoU."""
    lines = [
        "| network | seeds | mIoU | seen things | unseen things | seen stuff | unseen stuff "
        "| ITM AUC seen / unseen | saliency AP things / stuff | split IoU | foreground IoU |",
        "|" + "---|" * 11,
    ]
    for name in (FLOOR, *names):
        files = sorted((out / _slug(name)).glob("**/result.json"))
        if files:
            lines.append(_row(name, [json.loads(file.read_text()) for file in files]))
    return "\n".join(lines) + "\n"


def _row(name: str, results: list[dict[str, Any]]) -> str:
    cells = [name, str(len(results)), _spread([result["miou"] for result in results])]
    cells += [_spread([result["groups"][group] for result in results]) for group in GROUPS]
    if results[0]["itm_auc"] is None:
        return "| " + " | ".join([*cells, "-", "-", "-", "-"]) + " |"
    auc = [f"{mean(result['itm_auc'][part] for result in results):.3f}" for part in ("seen", "unseen")]
    saliency = [
        f"{mean(result['saliency_ap'][f'{seen}_{kind}'] for result in results for seen in ('seen', 'unseen')):.2f}"
        for kind in ("things", "stuff")
    ]
    split = f"{mean(result['split_iou']['all'] for result in results):.1f}"
    foreground = _spread([result["foreground_iou"] for result in results])
    return "| " + " | ".join([*cells, " / ".join(auc), " / ".join(saliency), split, foreground]) + " |"


def _spread(values: list[float]) -> str:
    """Return mean and standard deviation, the latter from two values on."""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _slug(name: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


if __name__ == "__main__":
    main()
