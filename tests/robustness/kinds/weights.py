"""Weight files, and checkpoints that a run resumes from."""

import io
import zipfile
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from harness import Answer, Case, command
from mutate import VALUES, Raw, brief, choose_path, damage_bytes

from kinds.coco_files import link
from pose.errors import PoseError

BOX = [[10, 5, 30, 40]]
VALUES_OF_FILES = tuple(value for value in VALUES if not isinstance(value, Raw))
BAD, OPEN, SAME = "refused", "either", "right"


@lru_cache
def content_of(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


@lru_cache
def image() -> Any:
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def keypoints_with(path: Path) -> Any:
    """Return keypoints and scores, (1, 17, 3), that the model of a file finds."""
    from pose import PosePredictor

    poses = PosePredictor(path, "cpu", flip=False, runtime="pytorch")(image(), BOX)
    return np.concatenate([poses.keypoints, poses.scores[..., None]], axis=-1)


@lru_cache
def expected_keypoints(path: Path) -> Any:
    return keypoints_with(path)


# --- damage


def damage_file(rng: Random, data: bytes) -> tuple[bytes, str, bool]:
    """Return a damaged file: bytes changed in the file, or in a member of the zip with its checksum corrected.

    The third value is whether the checksums of the zip can tell: then it must be refused, or give the same.
    """
    if rng.random() < 0.6:
        return *damage_bytes(rng, data), True
    source = zipfile.ZipFile(io.BytesIO(data))
    members = {info.filename: source.read(info) for info in source.infolist()}
    name = rng.choice([*members, *(2 * [name for name in members if name.endswith(".pkl")])])
    match rng.randrange(4):
        case 0:
            del members[name]
            what = "removed"
        case _:
            members[name], what = damage_bytes(rng, members[name])
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED if rng.random() < 0.8 else zipfile.ZIP_DEFLATED) as file:
        for member, value in members.items():
            file.writestr(member, value)
    return target.getvalue(), f"zip member {name.rpartition('/')[2]}: {what}", False


def damage_tensor(rng: Random, tensor: torch.Tensor) -> tuple[Any, str, str]:
    """Return a changed tensor, what was changed, and the expected outcome."""
    value = tensor.clone()
    is_float = value.is_floating_point()
    flat = value.reshape(-1)
    match rng.randrange(12):
        case 0 | 1 if is_float and flat.numel():
            flat[rng.randrange(flat.numel())] = rng.choice((float("nan"), float("inf"), -float("inf")))
            return flat.view(value.shape), "not finite", BAD
        case 2 if is_float:
            kind = rng.choice((torch.int32, torch.uint8, torch.bool, torch.complex64, torch.int64))
            return value.to(kind), f"of type {kind}", BAD
        case 3:
            return value.to(torch.float64), "of type float64", OPEN
        case 4 if is_float:
            kind = rng.choice((torch.float16, torch.bfloat16))
            return value.to(kind), f"of type {kind}", OPEN
        case 5:
            return value.reshape(1, *value.shape), "with one more axis", BAD if is_float and value.dim() else OPEN
        case 6:
            return flat[:-1].clone(), "of another shape", BAD if value.dim() else OPEN
        case 7:
            return torch.zeros(()).expand(1 << 20, 1 << 16), "a bomb of 256 GB", BAD if is_float else OPEN
        case 8 if is_float and value.dim() == 2:
            return value.to_sparse(), "sparse", OPEN
        case 9:
            other = rng.choice(VALUES_OF_FILES)
            return other, f"is {brief(other)}", OPEN
        case 10 if is_float:
            return value * 1e30, "times 1e30", OPEN
        case _:
            return value.t() if value.dim() == 2 and value.shape[0] == value.shape[1] else value, "as it was", OPEN


def damage_content(rng: Random, content: dict[str, Any], within: tuple[str, ...]) -> tuple[dict[str, Any], str, str]:
    """Return changed content of a weight file; ``within`` are the keys in which changes are made most often."""
    changed = _copy(content)
    path: tuple[Any, ...] = ()
    if rng.random() < 0.85:
        prefix = rng.choice([key for key in within if changed.get(key) is not None])
        path = (prefix, *choose_path(rng, changed[prefix]))
    else:
        path = (rng.choice(list(changed)),)
    parent: Any = changed
    for key in path[:-1]:
        parent = parent[key]
    key, name = path[-1], ".".join(map(str, path))
    if isinstance(parent[key], torch.Tensor) and rng.random() < 0.8:
        parent[key], what, expected = damage_tensor(rng, parent[key])
        return changed, f"{name} {what}", expected if path[0] in ("model", "ema") else OPEN
    match rng.randrange(4):
        case 0:
            del parent[key]
            return changed, f"{name} removed", OPEN
        case 1 if isinstance(parent, dict):
            parent[rng.choice((f"{key}x", "unknown", 5))] = parent.pop(key)
            return changed, f"{name} renamed", OPEN
        case _:
            value = rng.choice(VALUES_OF_FILES)
            parent[key] = value
            return changed, f"{name} is {brief(value)}", OPEN


def _copy(value: Any) -> Any:
    """Copy mappings and lists, not tensors."""
    if isinstance(value, dict):
        return type(value)((key, _copy(item)) for key, item in value.items())
    return [_copy(item) for item in value] if isinstance(value, list) else value


# --- weight files


def weights(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of a damaged weight file."""
    source = world / rng.choice(("weights.pt", "run/best.pt"))
    file, expected, bytes_changed = folder / "model.pt", OPEN, False
    if rng.random() < 0.5:
        content, what, bytes_changed = damage_file(rng, source.read_bytes())
        file.write_bytes(content)
    else:
        tree, what, expected = damage_content(rng, content_of(source), ("model", "model", "config"))
        torch.save(tree, file)
        uses_average = content_of(source).get("ema") is not None
        if uses_average and what.startswith("model."):
            expected = OPEN  # inference uses the moving average

    def check(answer: Answer) -> str | None:
        if not np.isfinite(answer.value).all():
            return "keypoints or scores that are not finite"
        if np.abs(answer.value).max() > 1e6:
            return f"a keypoint at {np.abs(answer.value).max():g}"
        if bytes_changed and not np.array_equal(answer.value, expected_keypoints(source)):
            return "damaged bytes, and other keypoints"
        return None

    def check_packed(answer: Answer) -> str | None:
        try:
            return check(Answer(keypoints_with(folder / "packed.pt"), "", ""))
        except PoseError:
            return None  # the command knows no model, whose loading refuses what does not fit

    target = rng.random()
    if target < 0.7:
        return Case(f"predict: {what}", lambda: keypoints_with(file), expected, check)
    if target < 0.85:
        act = command("pack-weights", "--weights", "model.pt", "--output", "packed.pt")
        if "axis" in what or "shape" in what:
            return Case(f"pack-weights: {what}", act)  # knows no model, whose loading refuses the shape
        if bytes_changed:
            return Case(f"pack-weights: {what}", act, expected)
        return Case(f"pack-weights: {what}", act, expected, check_packed)
    link(world, folder, "config.yaml", "persons.json", "images", "boxes.json")
    if target < 0.92:
        arguments = (
            "--cfg",
            "config.yaml",
            "--weights",
            "model.pt",
            "--gt-boxes",
            "--device",
            "cpu",
            "--output",
            "out",
        )
        return Case(f"test: {what}", command("test", *arguments), expected)
    if target < 0.97:
        return Case(f"export: {what}", command("export", "--weights", "model.pt", "--output", "model.onnx"), expected)
    if "model.head." in what or "ema.head." in what:
        expected = OPEN  # a head of other shapes is initialized anew
    arguments = ("--cfg", "config.yaml", "--run-dir", "new", "--device", "cpu", "train.start=model.pt")
    return Case(f"train.start: {what}", command("train", *arguments), expected)


# --- checkpoints


def resumed_state(path: Path, world: Path) -> dict[str, Any]:
    """Return all that training continues with, from a checkpoint."""
    from pose.engine.checkpoint import load_checkpoint

    state = _new_state(world)
    load_checkpoint(state, path)
    return {
        "model": state.model.state_dict(),
        "ema": state.ema.model.state_dict() if state.ema is not None else None,
        "optimizer": state.optimizer.state_dict(),
        "progress": vars(state.progress),
    }


def _new_state(world: Path) -> Any:
    from pose.config.pose import Config
    from pose.engine.distributed import DistContext
    from pose.engine.pose_task import adam
    from pose.engine.state import make_state
    from pose.models import build_pose_net

    config = Config.model_validate(content_of(world / "run/last.pt")["config"])
    model, device = build_pose_net(config), torch.device("cpu")
    return make_state(model, adam(model, config.train, device), config.train, DistContext(0, 1, device))


@lru_cache
def expected_state(world: Path) -> dict[str, Any]:
    return resumed_state(world / "run/last.pt", world)


def differences(a: Any, b: Any, name: str = "") -> str | None:
    """Return the name of the first difference of two trees with tensors."""
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return f"{name}: other keys"
        return next(filter(None, (differences(a[key], b[key], f"{name}.{key}") for key in a)), None)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        pairs = [differences(x, y, f"{name}[]") for x, y in zip(a, b, strict=False)]
        return f"{name}: other length" if len(a) != len(b) else next(filter(None, pairs), None)
    if isinstance(a, torch.Tensor):
        return None if isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b) else name
    return None if type(a) is type(b) and a == b else name


def checkpoints(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of a damaged checkpoint to resume."""
    source, file = world / "run/last.pt", folder / "last.pt"
    expected, bytes_changed = OPEN, False
    if rng.random() < 0.35:
        content, what, bytes_changed = damage_file(rng, source.read_bytes())
        file.write_bytes(content)
    else:
        keys = ("progress", "progress", "optimizer", "optimizer", "scaler", "model", "ema", "config")
        tree, what, expected = damage_content(rng, content_of(source), keys)
        if _bad_progress(tree.get("progress")):
            expected = BAD
        torch.save(tree, file)

    def check(answer: Answer) -> str | None:
        different = differences(expected_state(world), answer.value)
        if bytes_changed and different:
            return f"damaged bytes, and another{different}"
        return _wrong_state(answer.value, expected_state(world))

    if rng.random() < 0.8:
        return Case(f"resume: {what}", lambda: resumed_state(file, world), expected, check)
    link(world, folder, "config.yaml", "persons.json", "images", "boxes.json")
    epochs = rng.choice(("1", "2"))
    arguments = ("--cfg", "config.yaml", "--resume", "last.pt", "--run-dir", "new", "--device", "cpu")
    return Case(f"train --resume: {what}", command("train", *arguments, f"train.epochs={epochs}"), expected)


def _bad_progress(progress: Any) -> bool:
    """Return whether progress is clearly damaged: a count that is missing, no whole number from 0, or of 64 bits."""
    if not isinstance(progress, dict):
        return True
    counts = [progress.get(name) for name in ("epoch", "step", "global_step", "samples")]
    if any(type(count) is not int or not 0 <= count < 2**63 for count in counts):
        return True
    numbers = [progress.get(name) for name in ("seconds", "best_score")]
    return any(type(number) not in (int, float) or abs(number) == float("inf") for number in numbers)


def _wrong_state(state: dict[str, Any], expected: dict[str, Any]) -> str | None:
    """Return what is wrong with a resumed state, whatever was damaged."""
    for part in ("model", "ema"):
        for name, value in (state[part] or {}).items():
            if value.dtype != expected[part][name].dtype or not value.isfinite().all():
                return f"{part}.{name} of {value.dtype}, or not finite"
    if state["optimizer"]["state"].keys() != expected["optimizer"]["state"].keys():
        return "another number of optimizer states: the optimizer starts again in silence"
    for number, moments in state["optimizer"]["state"].items():
        for name, value in moments.items():
            if not isinstance(value, torch.Tensor) or not value.isfinite().all():
                return f"optimizer {name} that is no finite tensor"
            if value.shape != expected["optimizer"]["state"][number][name].shape:
                return f"optimizer {name} of another shape"
    for group, before in zip(state["optimizer"]["param_groups"], expected["optimizer"]["param_groups"], strict=True):
        if group.keys() != before.keys():
            return f"optimizer options {sorted(group.keys() ^ before.keys(), key=str)[:2]}"
        for name, value in group.items():
            if type(value) is not type(before[name]) and not (type(value) in (int, float) and name == "lr"):
                return f"optimizer option {name} is {brief(value)}"
    if _bad_progress(state["progress"]):
        return f"progress {str(state['progress'])[:100]}"
    return None
