"""Check a machine with an NVIDIA GPU in under 10 minutes: tests, precision, memory layout, compilation, NCCL, speed.

Examples:
    dyconv-pose gpu-check --json gpu.json
    dyconv-pose gpu-check --json gpu.json --only compile train
    dyconv-pose gpu-check --json check.json --device cpu         (a small version of all parts, to test the command)

Each part runs in a process of its own with a time limit, so a failure, a crash or a lack of memory ends only that part,
and what was measured before is kept. The file holds the machine and, for each part, its result in words and its rows.
Exit status 1: something failed. The data are random; accuracy is not measured.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pose.cli import ToolParser, run
from pose.cli.arguments import output_file
from pose.errors import PoseError
from pose.files import write_json
from pose.json_file import read_json

LIMITS_S = {"tests": 100, "precision": 80, "channels_last": 50, "compile": 130, "nccl": 40, "train": 190}
"""Parts and their time limits: together under 10 minutes."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments and run the parts; or, in a process started for it, one part."""
    args = _parser().parse_args(argv)
    if args.part is not None:
        _run_part(args.part, args.device, args.json)
        return
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        raise PoseError("gpu-check: PyTorch sees no NVIDIA GPU here; --device cpu tests the command without one")
    report: dict[str, Any] = {"machine": _machine(args.device), "parts": {}}
    print(", ".join(f"{name} {value}" for name, value in report["machine"].items()))
    for part in args.only or LIMITS_S:
        report["parts"][part] = _run_isolated(part, args.device)
        print(f"{part:<14}" + f"\n{'':14}".join(report["parts"][part]["result"]), flush=True)
        write_json(args.json, report, indent=1)
    if any(part["failed"] for part in report["parts"].values()):
        print(f"something failed; {args.json} has the details", file=sys.stderr)
        sys.exit(1)


def _parser() -> ToolParser:
    parser = ToolParser(__doc__)
    parser.add_argument("--json", type=output_file, required=True, metavar="FILE", help="file to write")
    parser.add_argument("--only", nargs="+", choices=list(LIMITS_S), metavar="PART", help=f"of {', '.join(LIMITS_S)}")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="default: cuda")
    parser.add_argument("--part", choices=list(LIMITS_S), help="run this part in this process (used by the command)")
    return parser


def _machine(device: str) -> dict[str, str]:
    import torch

    gpu = {"GPU": torch.cuda.get_device_name(), "CUDA": str(torch.version.cuda)} if device == "cuda" else {}
    return {**gpu, "torch": torch.__version__, "Python": sys.version.split()[0]}


# --- one part, in a process of its own


def _run_isolated(part: str, device: str) -> dict[str, Any]:
    """Run a part in a new process; return its rows, its result in words and whether it failed."""
    start = time.monotonic()
    with TemporaryDirectory() as folder:
        rows_file = Path(folder) / "rows.json"
        command = [sys.executable, __file__, "--part", part, "--device", device, "--json", str(rows_file)]
        failures, note = [], ""
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMITS_S[part])
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                failures.append(f"the process ended with status {done.returncode}: {last[:300]}")
        except subprocess.TimeoutExpired:
            note = f", stopped after {LIMITS_S[part]} s"
        rows = read_json(rows_file, list[dict[str, Any]], "rows of gpu-check") if rows_file.exists() else []
    seconds = time.monotonic() - start
    if note and not rows:
        failures.append("the first case did not end")
    failures += [f"{row['case']}: {row['failed']}" for row in rows if "failed" in row]
    skipped = [f"{row['case']}: {row['skipped']}" for row in rows if "skipped" in row]
    words = [f"{len(rows)} cases in {seconds:.0f} s{note}"]
    words += [f"skipped: {line}" for line in skipped] + [f"FAILED: {line}" for line in failures]
    return {"result": words, "failed": bool(failures), "seconds": round(seconds, 1), "rows": rows}


def _run_part(part: str, device_name: str, rows_file: Path) -> None:
    """Run the cases of a part; write the rows after each, as the process may be stopped."""
    import torch

    parts = import_module("pose.tools._gpu_parts")
    device = torch.device(device_name)
    rows: list[dict[str, Any]] = []
    for case, measure in parts.PARTS[part](device, parts.Scale() if device.type == "cuda" else parts.SMALL):
        try:
            row = measure()
        except torch.cuda.OutOfMemoryError:
            row = {"skipped": "out of GPU memory"}
        except Exception as error:  # of any kind: the other cases go on
            row = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        rows.append({"case": case, **row})
        write_json(rows_file, rows)
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    run(main)
