"""Try many damaged inputs, print the faults by class, and keep one failing input of each class.

Examples:
    make fuzz N=10000 SEED=1
    python tests/robustness/fuzz.py --count 2000 --seed 1 --kinds annotations,weights
    python tests/robustness/fuzz.py --case weights:17 --seed 1      (one case again, with its traceback)

A case is a pure function of seed, kind and number. Exits with 1 if there is a fault.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DYCONV_POSE_DETECTOR", "pose")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.gettempdir()
os.environ |= {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}  # no network

from batches import Limits, in_child, run_all
from harness import MakeCase, Outcome, Report
from world import make_world

KINDS = {
    "annotations": ("coco_files", 16),
    "detections": ("coco_files", 8),
    "results": ("coco_files", 6),
    "configs": ("configs", 14),
    "weights": ("weights", 8),
    "checkpoints": ("weights", 7),
    "exports": ("onnx_files", 5),
    "detectors": ("onnx_files", 4),
    "teachers": ("onnx_files", 2),
    "images": ("media", 8),
    "videos": ("media", 5),
    "caches": ("caches", 4),
    "curves": ("curves", 5),
    "commands": ("commands", 7),
    "predictor_calls": ("api", 7),
    "arrays": ("api", 5),
    "layers": ("layers", 6),
    "full_disk": ("full_disk", 2),
}
"""Module and weight of each kind."""
KEEP = Path("runs/fuzz")


def main() -> int:
    """Parse the arguments, run the cases, print the report."""
    args = _parser().parse_args()
    names = args.kinds.split(",") if args.kinds else list(KINDS)
    cases = _cases(names, args.count, args.seed)
    if args.case:
        kind, _, index = args.case.partition(":")
        names, cases = [kind], [(kind, int(index))]
    kinds: dict[str, MakeCase] = {}
    for name in names:
        module = import_module(f"kinds.{KINDS[name][0] if name in KINDS else name}")
        kinds[name] = getattr(module, name)
    report, start = Report(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name).resolve()
        (folder / "world").mkdir()
        if not args.no_world:
            in_child(lambda: _make_world(folder))
            _import_all((folder / "modules.txt").read_text().split())
        made = time.monotonic()
        keep = None if args.keep is None else args.keep.resolve() / f"seed{args.seed}"
        if keep is not None:
            shutil.rmtree(keep, ignore_errors=True)
        limits = Limits(args.seed, folder / "world", folder / "work", keep, args.seconds)
        for count, outcome in enumerate(run_all(kinds, cases, limits, args.workers), 1):
            report.add(outcome)
            if args.all is not None:
                with args.all.open("a") as file:
                    file.write(outcome.to_json() + "\n")
            if args.case:
                print(outcome.result, outcome.what, outcome.detail, outcome.place, sep="\n")
            if count % 500 == 0:
                rate = count / (time.monotonic() - made)
                print(
                    f"{count} of {len(cases)}, {rate:.0f}/s, {len(report.faults)} classes", file=sys.stderr, flush=True
                )
    print(_text(report, time.monotonic() - made, made - start))
    if keep is not None and report.faults:
        print(f"one failing input of each class: {keep}")
    if args.json is not None:
        args.json.write_text(_json(report))
    return 1 if report.faults else 0


def _cases(names: list[str], count: int, seed: int) -> list[tuple[str, int]]:
    """Return (kind, number) of all cases, by weight; those of a kind together, in an order of batches by chance."""
    weights = {name: KINDS[name][1] if name in KINDS else 1 for name in names}
    total = sum(weights.values())
    blocks = []
    for name, weight in weights.items():
        numbers = list(range(max(1, round(count * weight / total))))
        blocks += [[(name, number) for number in numbers[start : start + 60]] for start in range(0, len(numbers), 60)]
    random.Random(seed).shuffle(blocks)
    return [case for block in blocks for case in block]


def _make_world(folder: Path) -> None:
    make_world(folder / "world")
    (folder / "modules.txt").write_text("\n".join(name for name in sys.modules if not name.startswith("__")))


def _import_all(names: list[str]) -> None:
    """Import what the commands have imported, once before the processes fork; no library starts threads by that."""
    for name in names:
        with contextlib.suppress(Exception):
            import_module(name)


def _text(report: Report, seconds: float, world_seconds: float) -> str:
    lines = [f"{'kind':<15}{'tried':>7}{'right':>8}{'refused':>9}{'faults':>8}{'ms':>8}"]
    rows = sorted(report.tried.items())
    totals = {name: sum(counts.get(name, 0) for _, counts in rows) for name in ("right", "refused", "fault")}
    for name, counts in [*rows, ("all", totals)]:
        numbers = [counts.get(key, 0) for key in ("right", "refused", "fault")]
        spent = report.seconds[name] if name in report.seconds else sum(report.seconds.values())
        cost = 1000 * spent / max(1, sum(numbers))
        lines.append(f"{name:<15}{sum(numbers):>7}{numbers[0]:>8}{numbers[1]:>9}{numbers[2]:>8}{cost:>8.0f}")
    tried = sum(totals.values())
    lines.append(f"{seconds:.0f} s, {tried / max(seconds, 1e-9):.0f} a second; {world_seconds:.0f} s to make the files")
    lines.append(f"{len(report.faults)} classes of faults")
    for name, outcomes in sorted(report.faults.items(), key=lambda item: -len(item[1])):
        lines.append(f"{len(outcomes):>6}  {name}\n        e.g. {_example(outcomes[0])}")
    return "\n".join(lines)


def _example(outcome: Outcome) -> str:
    first = outcome.detail.partition("\n")[0]
    return f"{outcome.kind}:{outcome.index}  {outcome.what[:160]}  ->  {first[:160]}"


def _json(report: Report) -> str:
    faults = {name: [vars(outcome) for outcome in outcomes[:3]] for name, outcomes in report.faults.items()}
    counts = {name: len(outcomes) for name, outcomes in report.faults.items()}
    return json.dumps({"tried": report.tried, "classes": counts, "faults": faults}, indent=1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="number of cases (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all cases (default: 0)")
    parser.add_argument("--kinds", help=f"only these, separated by commas: {', '.join(KINDS)}")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes (default: up to 2)")
    parser.add_argument("--seconds", type=float, default=20, help="time limit of a case (default: %(default)s)")
    parser.add_argument("--keep", type=Path, help=f"folder for one failing input of each class, such as {KEEP}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report to this file")
    parser.add_argument("--all", type=Path, metavar="FILE", help="append every outcome to this file, a JSON line each")
    parser.add_argument("--no-world", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--case", metavar="KIND:NUMBER", help="run this case only")
    return parser


if __name__ == "__main__":
    sys.exit(main())
