"""A table of trained models: AP, parameters, multiply-adds, time and size, one row per way to run a model."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from pose.config.pose import Config
from pose.engine.distributed import DistContext
from pose.engine.evaluate import TestSet, make_results, predict_crops, score_results
from pose.errors import DataError
from pose.evaluation.coco_ap import Metrics
from pose.export.write import build_onnx, write_export
from pose.files import write_text
from pose.heatmap import decode, flip_average
from pose.inference.backends import is_exported, open_exported
from pose.inference.metadata import HEATMAPS, INPUT, ExportMetadata, read_metadata
from pose.inference.pytorch import in_bf16, predict_heatmaps, prepare_for_inference
from pose.inference.teacher import Teacher
from pose.models.complexity import count_config
from pose.models.weights import load_pose_net

Row = dict[str, str]
"""Cells of one row by column; empty where a figure is not known."""
COLUMNS = (
    "model", "backend", "precision", "flip", "ap", "ap50", "ap_detections", "parameters_1e6", "madds_1e6", "ms",
    "time_ratio", "size_mb", "source",
)  # fmt: skip
"""AP and AP50 (percent, ground-truth boxes), AP with a detector's boxes, milliseconds for one crop on one thread, this
time relative to the peer's, megabytes on disk, and where figures come from that no command of ours has measured."""
KEY = COLUMNS[:4]
"""Columns that identify a row."""
CPU = torch.device("cpu")

CropsToHeatmaps = Callable[[Tensor], Tensor]
"""Maps (B, h, w, 3) uint8 RGB crops to (B, K, h / 4, w / 4) heatmaps, without flip averaging."""


@dataclass(frozen=True)
class Variant:
    """One way to run a model, without and with flip averaging.

    Attributes:
        model: name of the model.
        backend: ``PyTorch``, ``ONNX Runtime`` or ``OpenVINO``.
        precision: ``float32``, ``bfloat16`` or ``int8``.
        config: of the evaluation, with the input of the model.
        heatmaps: runs the model.
        figures: parameters, multiply-adds and size, by column.
        fixed_flip: whether flip averaging is part of the file.
        same_as: backend whose AP this one has too, as its file was verified against it.
    """

    model: str
    backend: str
    precision: str
    config: Config
    heatmaps: CropsToHeatmaps
    figures: Mapping[str, str]
    fixed_flip: bool = False
    same_as: str | None = None

    def with_flip(self, flip: bool, crops_rgb: Tensor) -> Tensor:
        """Return the heatmaps of crops, averaged with those of the flipped crops if ``flip``."""
        heatmaps = self.heatmaps(crops_rgb)
        if not flip or self.fixed_flip:
            return heatmaps
        flipped, test = self.heatmaps(crops_rgb.flip(2)), self.config.test
        return flip_average(heatmaps, flipped, self.config.keypoints.flip_pairs, test.flip_shift)

    def predict(self, flip: bool, crop_rgb: Tensor) -> object:
        """Return the keypoints of crops in heatmap pixels and their scores."""
        return decode(self.with_flip(flip, crop_rgb).numpy())

    @property
    def flips(self) -> tuple[bool, ...]:
        """The values of ``flip`` to measure."""
        return (True,) if self.fixed_flip else (False, True)

    def cells(self, flip: bool) -> Row:
        """Return the cells of its row that need no data."""
        return {
            "model": self.model, "backend": self.backend, "precision": self.precision, "flip": "yes" if flip else "no",
            **self.figures,
        }  # fmt: skip


def open_variants(name: str, path: Path, config: Config, stack: ExitStack) -> Iterator[Variant]:
    """Yield the ways to run a model file.

    Args:
        name: of the model in the table.
        path: a weight file or run folder (run in PyTorch in float32 and bfloat16, and exported to ONNX Runtime), a file
            that ``dyconv-pose export`` wrote, or another ONNX model that `Teacher` opens.
        config: of the evaluation; its model and input are replaced by those of the file.
        stack: keeps the temporary folder of the exported file.

    Raises:
        PoseError: the file cannot be opened, or a backend is not installed.
    """
    if not is_exported(path):
        yield from _weights_variants(name, path, config, stack)
        return
    session = open_exported(path, threads=1)
    figures = {"size_mb": _megabytes(path)}
    if INPUT not in session.metadata:
        teacher = Teacher(path, config.keypoints, config.input, flip=False)
        config = config.model_copy(update={"input": teacher.input_config})
        yield Variant(name, "ONNX Runtime", "float32", config, teacher.heatmaps, figures)
        return
    metadata = read_metadata(session.metadata, path)
    content = path.read_bytes()
    precision = "int8" if b"QuantizeLinear" in content or b"FakeQuantize" in content else "float32"
    backend = "OpenVINO" if path.suffix == ".xml" else "ONNX Runtime"
    yield Variant(
        name, backend, precision, config.model_copy(update={"input": metadata.input_config}),
        partial(_run_session, session.run), figures, fixed_flip=metadata.flip_shift is not None,
    )  # fmt: skip


def _weights_variants(name: str, path: Path, config: Config, stack: ExitStack) -> Iterator[Variant]:
    model, saved = load_pose_net(path)
    config = config.model_copy(update={key: getattr(saved, key) for key in ("model", "input", "skeleton")})
    counts = count_config(saved)
    figures = {
        "parameters_1e6": f"{(counts['backbone_params'] + counts['head_params']) / 1e6:.2f}",
        "madds_1e6": f"{(counts['backbone_madds'] + counts['head_madds']) / 1e6:.1f}",
    }
    fused = prepare_for_inference(CPU, model)
    for precision, heatmap_fn in (("float32", fused.heatmaps), ("bfloat16", in_bf16(fused.heatmaps, CPU))):
        heatmaps = partial(predict_heatmaps, heatmap_fn, flip_pairs=None)
        size = {"size_mb": _megabytes(path)} if path.is_file() else {}
        yield Variant(name, "PyTorch", precision, config, heatmaps, {**figures, **size})
    metadata = ExportMetadata(config.input, config.keypoints, None, "not stated")
    file = Path(stack.enter_context(TemporaryDirectory())) / "model.onnx"
    with write_export(file, build_onnx(file, model, metadata, decodes=False), metadata):
        pass
    run = open_exported(file, threads=1).run
    size = {"size_mb": _megabytes(file)}
    yield Variant(
        name, "ONNX Runtime", "float32", config, partial(_run_session, run), {**figures, **size}, same_as="PyTorch"
    )


def _run_session(run: Callable[[Any], Mapping[str, Any]], crops_rgb: Tensor) -> Tensor:
    return torch.from_numpy(run(crops_rgb.numpy())[HEATMAPS])


def _megabytes(path: Path) -> str:
    """Return the size of a file; for OpenVINO's .xml with its weights."""
    weights = path.with_suffix(".bin")
    size = path.stat().st_size + (weights.stat().st_size if path.suffix == ".xml" else 0)
    return f"{size / 1e6:.1f}"


def measure_ap(variant: Variant, flip: bool, test_set: TestSet, *, dist: DistContext) -> Metrics:
    """Return the COCO metrics of a variant on a test set."""
    config = variant.config
    predictions = predict_crops(partial(variant.with_flip, flip), test_set.persons, config, dist, config.train.workers)
    return score_results(make_results(predictions, test_set, config), test_set, config)


def merge_rows(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """Return the old rows with the cells of new rows of the same `KEY` replaced, and all other new rows after them."""
    merged = {tuple(row.get(column, "") for column in KEY): dict(row) for row in old}
    for row in new:
        merged.setdefault(tuple(row.get(column, "") for column in KEY), {}).update(row)
    return list(merged.values())


def read_rows(path: Path) -> list[Row]:
    """Read a table that `write_rows` wrote.

    Raises:
        DataError: the file is missing or has other columns.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise DataError(f"{path}: expected a table with the columns {', '.join(COLUMNS)}")
            return [{key: value or "" for key, value in row.items()} for row in reader]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a CSV file of models, which `model-table` writes ({error})") from None


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a table as CSV, with all of `COLUMNS`."""
    text = StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def markdown(rows: Sequence[Row]) -> str:
    """Return a table as Markdown, without empty columns."""
    used = [column for column in COLUMNS if any(row.get(column) for row in rows)]
    lines = [used, ["---"] * len(used), *([row.get(column, "") for column in used] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
