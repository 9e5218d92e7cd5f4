"""The parts of `dyconv-pose gpu-check`. Each is a function from a device and a `Scale` to named cases.

Training steps are those of the trainer, on one batch of random images and heatmaps that is copied to the device again
in each step.
"""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
import torch.distributed as torch_dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from pose.config.loader import load_config, packaged_names
from pose.config.pose import Config
from pose.datasets.samples import PoseSample
from pose.engine.distributed import DistContext, convert_sync_batch_norm
from pose.engine.metrics_log import EpochLog
from pose.engine.pose_task import adam, pose_loss
from pose.engine.state import make_state
from pose.engine.trainer import train_one_epoch
from pose.export.verify import synthetic_crops
from pose.inference.pytorch import normalize
from pose.models import build_pose_net
from pose.models.pose_net import PoseNet
from pose.models.weights import load_pose_net
from pose.packaged import PACKAGED_WEIGHTS

Row = dict[str, Any]
"""What was measured of one case: figures by name or, under ``failed``, what went wrong."""
Cases = Iterator[tuple[str, Callable[[], Row]]]
"""Names of cases, and functions that measure them."""

COCO_CONFIGS = [name for name in packaged_names() if name.startswith("pose/") and name.endswith("_256x192")]
"""The paper's pose models."""
MODELS = (
    "pose/B_static_mobilenetv2_w0.5_256x192",
    "pose/B_dy_mobilenetv2_w0.5_256x192",
    "pose/A_dybackbone_resnet18_256x192",
)
"""A static model and two dynamic ones, for the parts that compare variants."""
TESTS = ("-m", "gpu", "tests")
"""Arguments of pytest for the tests that need a GPU."""
WARMUP = 3
"""Steps before a timing."""
REPEATABLE = 1e-2
"""Largest difference of float32 heatmaps, relative to the largest value, between two ways to compute them."""
LOW_PRECISION = 0.15
"""The same for a packaged model in bfloat16 or fp16 against float32."""
no_tf32 = partial(torch.backends.cudnn.flags, enabled=True, allow_tf32=False)
"""Context in which cuDNN multiplies float32 numbers in full precision."""
TESTS_LIMIT_S = 85
"""Time limit of pytest."""


@dataclass(frozen=True)
class Scale:
    """Sizes of the models and batches.

    Attributes:
        batches: batch sizes of the training step.
        batch: batch size of the other parts.
        steps: steps of a timing.
        overrides: of every config.
        configs: of the training step.
        models: of the other parts.
        compiler: backend of ``torch.compile``.
    """

    batches: tuple[int, ...] = (32, 128, 512)
    batch: int = 64
    steps: int = 5
    overrides: tuple[str, ...] = ()
    configs: Sequence[str] = field(default_factory=lambda: COCO_CONFIGS)
    models: Sequence[str] = MODELS
    compiler: str = "inductor"


SMALL = Scale(
    batches=(1, 2),
    batch=2,
    steps=1,
    overrides=("input.size_hw=[64,64]", "model.width=0.35", "model.depth=0.1", "model.head_width=0.25"),
    configs=MODELS[1:2],
    models=MODELS[:2],
    compiler="eager",
)
"""For ``--device cpu``."""


# --- parts


def run_tests(device: torch.device, scale: Scale) -> Cases:
    """Run the tests that need a GPU; on a CPU they are all skipped."""
    yield f"pytest {' '.join(TESTS)}", _run_pytest


def _run_pytest() -> Row:
    root = Path(__file__).resolve().parents[1]
    if not (root / "tests").is_dir():
        return {"skipped": "the tests are part of a clone, not of the wheel"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=TESTS_LIMIT_S)
    last = (done.stdout.strip().splitlines() or ["no output"])[-1]
    return {"summary": last} if done.returncode == 0 else {"failed": last, "output": done.stdout[-5000:]}


def check_precision(device: torch.device, scale: Scale) -> Cases:
    """Train with autocast in bfloat16 and fp16 (with loss scaling); compare the heatmaps of the packaged models."""
    for name, precision in product(scale.models, ("fp32", "bf16", "fp16")):
        config = load_config(name, [*scale.overrides, f"train.precision={precision}"])
        yield f"{name} {precision}", partial(train_steps, config, device, scale.batch, scale.steps)
    # Newly initialized models would not do: they amplify rounding errors from layer to layer.
    for (name, path), dtype in product(PACKAGED_WEIGHTS.items(), (torch.bfloat16, torch.float16)):
        if path.suffix == ".pt":
            yield f"packaged model {name} {dtype}", partial(_compare_precision, path, dtype, device)


def _compare_precision(weights: Path, dtype: torch.dtype, device: torch.device) -> Row:
    model, config = load_pose_net(weights)
    images = normalize(torch.from_numpy(synthetic_crops(config.input, 2))).to(device).contiguous()
    heatmap_fn = model.to(device).heatmaps
    with torch.inference_mode():
        expected = heatmap_fn(images)
        with torch.autocast(device.type, dtype):
            return _compare(heatmap_fn(images), expected, LOW_PRECISION)


def time_channels_last(device: torch.device, scale: Scale) -> Cases:
    """Train with contiguous and with channels_last tensors."""
    for name, precision, channels_last in product(scale.models, ("fp32", "bf16"), (False, True)):
        options = [f"train.precision={precision}", f"train.channels_last={str(channels_last).lower()}"]
        config = load_config(name, [*scale.overrides, *options])
        case = f"{name} {precision} {'channels_last' if channels_last else 'contiguous'}"
        yield case, partial(train_steps, config, device, scale.batch, scale.steps)


def time_compiled(device: torch.device, scale: Scale) -> Cases:
    """Time the forward pass with and without ``torch.compile``."""
    for name, batch in product(scale.models, (1, scale.batch)):
        config = load_config(name, list(scale.overrides))
        yield f"{name} batch {batch}", partial(_time_compiled, config, device, batch, scale)


def _time_compiled(config: Config, device: torch.device, batch: int, scale: Scale) -> Row:
    model, images = _model(config, device), _images(config, batch, device)
    compiled = cast(PoseNet, torch.compile(model, backend=scale.compiler))
    with torch.inference_mode():
        with no_tf32():
            row = _compare(compiled(images), model(images), REPEATABLE)
        for kind, forward in (("eager", model), ("compiled", compiled)):
            seconds = _seconds(partial(forward, images), device, WARMUP, 4 * scale.steps)
            row[f"{kind}_ms"] = round(1e3 * seconds, 3)
    return row


def check_collectives(device: torch.device, scale: Scale) -> Cases:
    """Run what distributed training needs in one process: NCCL on a GPU, gloo on a CPU."""
    config = load_config(MODELS[1], list(scale.overrides))
    yield (
        "DistributedDataParallel, batch norm over all ranks, all_reduce",
        partial(_check_collectives, config, device, scale.batch),
    )


def _check_collectives(config: Config, device: torch.device, batch: int) -> Row:
    backend = "nccl" if device.type == "cuda" else "gloo"
    with TemporaryDirectory() as folder:
        torch_dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=0, world_size=1)
        try:
            images = _images(config, batch, device)
            alone = _model(config, device).train()
            synced = convert_sync_batch_norm(_model(config, device).train(), device)
            wrapped = DistributedDataParallel(synced, [device] if device.type == "cuda" else None)
            with no_tf32():
                row = {"backend": backend, **_compare(wrapped(images), alone(images), REPEATABLE)}
            wrapped(images).square().mean().backward()
            total = torch.ones(1, device=device)
            torch_dist.all_reduce(total)
            return {**row, "all_reduce": float(total)}
        finally:
            torch_dist.destroy_process_group()


def time_training(device: torch.device, scale: Scale) -> Cases:
    """Measure memory and images/s of the training step."""
    for precision, batch, name in product(("bf16", "fp32"), scale.batches, scale.configs):
        config = load_config(name, [*scale.overrides, f"train.precision={precision}"])
        yield f"{name} {precision} batch {batch}", partial(train_steps, config, device, batch, scale.steps)


PARTS: dict[str, Callable[[torch.device, Scale], Cases]] = {
    "tests": run_tests,
    "precision": check_precision,
    "channels_last": time_channels_last,
    "compile": time_compiled,
    "nccl": check_collectives,
    "train": time_training,
}
"""The parts by name."""


# --- what they share


class _Losses(list[float]):
    """Stands in for `pose.engine.metrics_log.EpochLog`, and keeps the losses."""

    def next_batch(self, batches: Iterator[PoseSample]) -> PoseSample:
        return next(batches)

    def step(self, loss: float | None, rate: float) -> None:
        if loss is not None:
            self.append(loss)


def train_steps(config: Config, device: torch.device, batch: int, steps: int) -> Row:
    """Train a new model on one batch; return images/s, peak memory (GPU) and the first and last loss.

    Raises:
        TrainingError: a loss is not finite.
    """
    model, options = _model(config, device).train(), config.train
    dist, losses = DistContext(0, 1, device), _Losses()
    state = make_state(model, adam(model, options, device), options, dist)
    on_gpu = device.type == "cuda"
    sample = _sample(config, batch, pin=on_gpu)

    def train_until(step: int) -> None:
        log = cast(EpochLog, losses)
        train_one_epoch(state, repeat(sample), pose_loss(options, device), step, options, dist, log)

    train_until(WARMUP)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = _seconds(lambda: train_until(WARMUP + steps), device, 0, 1) / steps
    row: Row = {"images_per_s": round(batch / seconds, 1), "first_loss": losses[0], "last_loss": losses[-1]}
    return {**row, "peak_memory_mb": round(torch.cuda.max_memory_allocated() / 1e6)} if on_gpu else row


def _model(config: Config, device: torch.device) -> PoseNet:
    """Return a new model in evaluation mode, always the same one."""
    torch.manual_seed(0)
    return build_pose_net(config).to(device).eval()


def _images(config: Config, batch: int, device: torch.device) -> Tensor:
    """Return random normalized images (batch, 3, h, w), always the same ones."""
    return torch.randn((batch, 3, *config.input.size_hw), generator=torch.Generator().manual_seed(0)).to(device)


def _sample(config: Config, batch: int, pin: bool) -> PoseSample:
    """Return a random training batch in the memory of the CPU."""
    generator, (height, width) = torch.Generator().manual_seed(0), config.input.size_hw
    keypoints, (map_width, map_height) = config.keypoints.num_keypoints, config.input.heatmap_wh
    sample = PoseSample(
        torch.randint(0, 256, (batch, height, width, 3), dtype=torch.uint8, generator=generator),
        torch.rand((batch, keypoints, map_height, map_width), generator=generator),
        torch.ones(batch, keypoints),
        torch.arange(batch),
    )
    return PoseSample(*(tensor.pin_memory() for tensor in sample)) if pin else sample


def _compare(actual: Tensor, expected: Tensor, tolerance: float) -> Row:
    """Return the largest difference relative to the largest value; a failure if it exceeds the tolerance."""
    difference = float((actual.float() - expected.float()).abs().max() / expected.abs().max())
    if not math.isfinite(difference):  # which JSON cannot hold
        return {"failed": f"the difference of the heatmaps is {difference}"}
    row: Row = {"difference": difference}
    return row if difference <= tolerance else {**row, "failed": f"heatmaps differ by {difference:.1e} of the largest"}


def _seconds(call: Callable[[], object], device: torch.device, warmup: int, repeats: int) -> float:
    """Return the mean time of a call, with the work that it leaves to the device."""
    for _ in range(warmup):
        call()
    start = _now(device)
    for _ in range(repeats):
        call()
    return (_now(device) - start) / repeats


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
