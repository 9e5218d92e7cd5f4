"""All suites, each in a process of its own, into the folder of measurements that the page of benchmarks is made of."""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pose.cli.arguments import output_folder
from pose.errors import PoseError

from ._hrnet import SOURCE as HRNET_SOURCE

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmark.py"

ARGUMENTS = {
    "backends": ("--seconds", "5"),
    "decode": ("--seconds", "5"),
    "detect_every": ("--rounds", "1", "--frames", "60"),
    "dynamic_conv": ("--parts", "nets", "small", "memory", "--seconds", "8"),
    "evaluate": ("--rounds", "1"),
    "growth": ("--rounds", "1"),
    "latency": ("--parts", "pose", "--widths", "1", "0.5", "--seconds", "3"),
    "make_dynamic": ("--batches", "1", "--seconds", "5"),
    "nms": ("--rounds", "3"),
    "peer": ("--weights", "default", "--seconds", "6"),
    "pipeline": ("--seconds", "4"),
    "video": ("--frames", "60", "--rounds", "2"),
}
"""Arguments of each suite: enough to see differences of 10%, in half an hour for all."""

PEERS = {"decode": "hrnet", "evaluate": "hrnet", "nms": "hrnet", "pipeline": "hrnet", "peer": "movenet"}
"""The argument of `add_arguments` that is the suite's ``--peer``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder, the peers, and what else runs on the machine."""
    parser.add_argument(
        "--json", type=output_folder, required=True, metavar="FOLDER", help="write SUITE.json of each suite to it"
    )
    parser.add_argument("--movenet", type=Path, metavar="ONNX", help="MoveNet Lightning; without it no suite 'peer'")
    parser.add_argument(
        "--hrnet", type=Path, metavar="PATH", help=f"checkout of HRNet's code ({HRNET_SOURCE}); without it no such rows"
    )
    parser.add_argument("--conditions", default="", metavar="TEXT", help="what else runs on the machine")
    parser.add_argument(
        "--suites", nargs="+", choices=sorted(ARGUMENTS), default=sorted(ARGUMENTS), metavar="SUITE",
        help="only these suites (default: all)",
    )  # fmt: skip


def run_all(folder: Path, suites: Sequence[str], peers: dict[str, Path | None], conditions: str) -> None:
    """Run the suites one after another; a suite that fails does not stop the others.

    Args:
        folder: of the measurements; a suite that fails leaves its file as it is.
        suites: names.
        peers: paths of ``movenet`` and ``hrnet``; None: without it.
        conditions: what else runs on the machine.

    Raises:
        PoseError: suites failed; names them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for name, command in commands(folder, suites, peers, conditions):
        print(f"\n--- {name}", flush=True)
        if subprocess.run(command).returncode:
            failed.append(name)
    if failed:
        raise PoseError(
            f"benchmark all: {', '.join(failed)} failed; their errors are above, the others are in {folder}"
        )


def commands(
    folder: Path, suites: Sequence[str], peers: dict[str, Path | None], conditions: str
) -> Iterator[tuple[str, list[str]]]:
    """Yield each suite's name and command line; of ``peer`` only with MoveNet's file, which it needs."""
    for name in suites:
        peer = peers.get(PEERS.get(name, ""))
        if name == "peer" and peer is None:
            continue
        words = [sys.executable, str(BENCHMARK), name, *ARGUMENTS[name]]
        words += [] if peer is None else ["--peer", str(peer)]
        words += ["--conditions", conditions] if conditions else []
        yield name, [*words, "--json", str(folder / f"{name}.json")]
