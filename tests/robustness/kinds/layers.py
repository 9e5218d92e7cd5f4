"""Dynamic layers and `make_dynamic`: arguments by chance, compared with the layers of PyTorch."""

import copy
from pathlib import Path
from random import Random
from typing import Any

import torch
from harness import Answer, Case
from mutate import VALUES, Raw, brief
from torch import nn

from pose import make_dynamic
from pose.models.dynamic_conv import DynamicConv2d
from pose.models.dynamic_layers import DynamicConv1d, DynamicConv3d, DynamicConvTranspose2d

ERRORS = (ValueError, TypeError)
PAIRS = {
    DynamicConv1d: nn.Conv1d,
    DynamicConv2d: nn.Conv2d,
    DynamicConv3d: nn.Conv3d,
    DynamicConvTranspose2d: nn.ConvTranspose2d,
}
PLAIN = tuple(
    value for value in VALUES if not isinstance(value, Raw) and not (type(value) in (int, float) and abs(value) > 1000)
)


def layers(rng: Random, world: Path, folder: Path) -> Case:
    """Make a case of a layer with arguments by chance, or of `make_dynamic`."""
    return _make_dynamic(rng) if rng.random() < 0.3 else _layer(rng)


def _layer(rng: Random) -> Case:
    dynamic = rng.choice((DynamicConv2d, DynamicConv2d, *PAIRS))
    axes = 1 if dynamic is DynamicConv1d else 3 if dynamic is DynamicConv3d else 2
    groups = rng.choice((1, 1, 2, 4))

    def size(*values: int) -> Any:
        return rng.choice(values) if rng.random() < 0.7 else tuple(rng.choice(values) for _ in range(axes))

    arguments: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": rng.choice((4, 8)),
        "kernel_size": size(1, 1, 2, 3),
        "stride": size(1, 1, 2),
        "padding": size(0, 1) if axes != 2 or rng.random() < 0.8 else rng.choice(("same", "valid")),
        "dilation": size(1, 1, 2),
        "groups": groups,
        "bias": rng.choice((True, False)),
    }
    if dynamic is DynamicConvTranspose2d:
        arguments["padding"] = size(0, 1)
        arguments["output_padding"] = size(0, 0, 1)
    elif rng.random() < 0.3:
        arguments["padding_mode"] = rng.choice(("zeros", "reflect", "replicate", "circular"))
    own: dict[str, Any] = {"num_kernels": rng.choice((1, 2, 4)), "temperature": rng.choice((1.0, 30.0))}
    changed = rng.random()
    what = ""
    if changed < 0.35:
        name = rng.choice(list(arguments))
        arguments[name] = rng.choice(PLAIN)
        what = f", {name} is {brief(arguments[name])}"
    elif changed < 0.55:
        name = rng.choice(("num_kernels", "temperature", "reduction", "attention"))
        own[name] = rng.choice(PLAIN)
        what = f", {name} is {brief(own[name])}"
    batch = rng.choice((0, 1, 2, 3))
    memory = rng.choice((torch.contiguous_format, torch.channels_last)) if axes == 2 else torch.contiguous_format
    x = torch.randn(
        batch, 4, *(9 for _ in range(axes)), generator=torch.Generator().manual_seed(rng.randrange(1 << 30))
    )
    x = x.contiguous(memory_format=memory)
    static: Any = None
    try:
        static = PAIRS[dynamic](**arguments)
        expected_shape: Any = static(x).shape
    except Exception:
        expected_shape = None

    def act() -> Any:
        layer = dynamic(**arguments, **own)
        with torch.no_grad():
            if expected_shape is not None:
                layer.weight[:] = static.weight
                if layer.bias is not None:
                    layer.bias[:] = static.bias
            try:
                return layer(x)
            except RuntimeError as error:  # an input that PyTorch's layer refuses in the same way
                if expected_shape is None:
                    raise ValueError(str(error)) from None
                raise

    def check(answer: Answer) -> str | None:
        if expected_shape is None:
            return f"accepted, and {PAIRS[dynamic].__name__} refuses it"
        if answer.value.shape != expected_shape:
            return f"output of {tuple(answer.value.shape)}, expected {tuple(expected_shape)}"
        if own.get("attention", "softmax") != "softmax":
            return None
        with torch.no_grad():
            return None if torch.allclose(answer.value, static(x), atol=1e-4, rtol=1e-4) else "other values"

    text = {name: value for name, value in arguments.items() if name not in what}
    return Case(
        f"{dynamic.__name__}{what} with {text} {own if not what else ''} batch {batch}", act, check=check, errors=ERRORS
    )


def _make_dynamic(rng: Random) -> Case:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, groups=8)).eval()
    options: dict[str, Any] = {}
    values = {
        "num_kernels": (1, 2, 4), "temperature": (1.0, 30.0), "reduction": (1, 4), "attention": ("softmax", "sigmoid"),
        "skip_first": (True, False), "include": (None, "*", "2", ["3"]), "exclude": (None, "2", "x"),
    }  # fmt: skip
    for name, choices in values.items():
        if rng.random() < 0.5:
            options[name] = rng.choice(choices)
    if rng.random() < 0.5:
        options[rng.choice(list(values))] = rng.choice(PLAIN)
    subject: Any = (
        model if rng.random() < 0.9 else rng.choice((None, 5, "model", nn.ReLU(), nn.Linear(3, 3), nn.Sequential()))
    )
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))

    def check(answer: Answer) -> str | None:
        with torch.no_grad():
            if not torch.allclose(answer.value(x), model(x), atol=1e-4):
                return "other outputs than the model"
        if any(not torch.equal(value, before[name]) for name, value in model.state_dict().items()):
            return "the model was changed"
        return None

    what = f"make_dynamic({type(subject).__name__}, { {key: brief(value) for key, value in options.items()} })"
    return Case(
        what, lambda: make_dynamic(subject, **options), check=check, errors=(ValueError, TypeError, AttributeError)
    )
