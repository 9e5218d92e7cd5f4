"""Parameters and multiply-adds published in the paper, for comparison in `dyconv-pose count-complexity`.

Source: *Dynamic Convolution* (Chen et al., CVPR 2020), section 5 for classifiers, CondConv among them (Table 2), Tables
10 and 11 for pose models. Our models follow the paper's text and formulas and are not tuned to its figures. Notes
explain differences as far as possible. Models whose published figures are not at hand, or that the paper does not
count, are rows without figures.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Part = Literal["classifier", "backbone", "head"]

OVERHEAD = (
    "MAdds: for attention and mixing the paper's tables count less than its own section 3.2 gives, which ours follow."
)
NARROW = "Parameters: not explained; the three wider nets fit."
SMALL = "Parameters: not explained; the dynamic net, which has the same static parts, fits."
MEBI = "Parameters: within 1.1% of the paper's if its million is 2^20."
CONDCONV = (
    "Layers: the choice that fits both published parameter counts: blocks 7 to 17, the last 1x1 convolution and the "
    "classifier. Each layer has its own attention; one for each block has 0.1 million parameters less at x1.0."
)
TYPE_B = "MAdds: not explained; the parameters fit."
TYPE_A = (
    "The paper has the same figures behind every backbone. Its MAdds are between four and five times ours: transposed "
    "convolutions counted at their output's resolution come to four. Its parameters are twice ours behind ResNet-18."
)


@dataclass(frozen=True)
class Published:
    """A model of the paper, or a part of one, and its published figures.

    Attributes:
        config: name of the packaged config of the model.
        part: ``classifier`` for a whole classifier, ``backbone`` or ``head`` of a pose model.
        params: parameters in 1e6, as printed in the paper; None: not at hand, or not counted there.
        madds: multiply-adds in 1e6, like ``params``.
        notes: known differences from our counts.
        overrides: options of the model, ``key=value``, that differ from the config.
    """

    config: str
    part: Part
    params: float | None = None
    madds: float | None = None
    notes: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """Config and overrides, the same for all parts of a model."""
        return " ".join((self.config, *self.overrides))


_MOBILENET_V2: dict[str, tuple[float, float, float, float, tuple[str, ...]]] = {
    "": (3.5, 300.0, 11.1, 312.9, (OVERHEAD,)),
    "_w0.75": (2.6, 209.0, 7.0, 217.5, (OVERHEAD,)),
    "_w0.5": (2.0, 97.0, 4.0, 101.4, (OVERHEAD,)),
    "_w0.35": (1.7, 59.2, 2.8, 62.0, (OVERHEAD, NARROW)),
}
"""Parameters and MAdds of the static and the dynamic classifier (K = 4), and the notes of the latter, by width."""

_BACKBONES: dict[str, tuple[float | None, float | None]] = {
    "static_resnet18": (None, None),
    "dy_resnet18": (None, None),
    "static_mobilenetv2": (2.2, 292.6),
    "dy_mobilenetv2": (9.8, 305.3),
    "static_mobilenetv2_w0.5": (0.7, 93.7),
    "dy_mobilenetv2_w0.5": (2.7, 98.0),
    "static_mobilenetv3_small": (1.1, 62.7),
    "dy_mobilenetv3_small": (2.8, 65.1),
}
"""Parameters and MAdds of the pose backbones by kind and name."""

_TYPE_B_HEADS: dict[str, tuple[float, float]] = {
    "static_mobilenetv2": (1.2, 701.1),
    "dy_mobilenetv2": (6.3, 709.4),
    "static_mobilenetv3_small": (1.0, 664.2),
    "dy_mobilenetv3_small": (4.9, 671.1),
}
"""Parameters and MAdds of the type-B heads by kind and backbone. MobileNetV2 has 1280 features at each width."""

_POSE_MODELS = (
    ("A", "static", "resnet18"),
    ("A", "dybackbone", "resnet18"),
    ("A", "static", "mobilenetv2"),
    ("A", "dybackbone", "mobilenetv2"),
    ("A", "static", "mobilenetv2_w0.5"),
    ("A", "dybackbone", "mobilenetv2_w0.5"),
    ("A", "static", "mobilenetv3_small"),
    ("A", "dybackbone", "mobilenetv3_small"),
    ("B", "static", "mobilenetv2"),
    ("B", "dy", "mobilenetv2"),
    ("B", "static", "mobilenetv2_w0.5"),
    ("B", "dyhead", "mobilenetv2_w0.5"),
    ("B", "dybackbone", "mobilenetv2_w0.5"),
    ("B", "dy", "mobilenetv2_w0.5"),
    ("B", "static", "mobilenetv3_small"),
    ("B", "dy", "mobilenetv3_small"),
)
"""The sixteen models of Tables 10 and 11: head type, what is dynamic, backbone."""


def _pose_rows(head_type: str, kind: str, backbone: str) -> Iterator[Published]:
    """Yield backbone and head of a pose model; equal parts of two models have the same figures."""
    config = f"pose/{head_type}_{kind}_{backbone}_256x192"
    backbone_kind, head_kind = ("dy" if kind in ("dy", f"dy{part}") else "static" for part in ("backbone", "head"))
    params, madds = _BACKBONES[f"{backbone_kind}_{backbone}"]
    noted = backbone_kind == "dy" and madds is not None
    yield Published(config, "backbone", params, madds, (OVERHEAD,) if noted else ())
    if head_type == "A":
        yield Published(config, "head", 8.4, 5400, (TYPE_A,))
    else:
        notes = (OVERHEAD, TYPE_B) if head_kind == "dy" else (TYPE_B,)
        yield Published(config, "head", *_TYPE_B_HEADS[f"{head_kind}_{backbone.removesuffix('_w0.5')}"], notes)


def _uncounted(config: str, *overrides: str) -> Published:
    """Return a classifier without published figures."""
    return Published(f"imagenet/{config}", "classifier", overrides=overrides)


def _mobilenet_v2_rows(width: str) -> Iterator[Published]:
    """Yield static and dynamic classifiers of a width; those of K = 2, 6 and 8 without published figures."""
    static_params, static_madds, params, madds, notes = _MOBILENET_V2[width]
    dynamic = f"dy_mobilenetv2{width}"
    yield Published(f"imagenet/static_mobilenetv2{width}", "classifier", static_params, static_madds)
    yield _uncounted(dynamic, "model.num_kernels=2")
    yield Published(f"imagenet/{dynamic}", "classifier", params, madds, notes)
    for kernels in (6, 8):
        yield _uncounted(dynamic, f"model.num_kernels={kernels}")


SECTIONS = {
    "Tables 1 and 8: MobileNetV2, static and with K = 2, 4, 6 and 8 kernels": tuple(
        row for width in _MOBILENET_V2 for row in _mobilenet_v2_rows(width)
    ),
    "Table 8: MobileNetV3-Small and ResNets, static and with K = 4 kernels": (
        Published("imagenet/static_mobilenetv3_small", "classifier", 2.9, 66.0, (SMALL,)),
        Published("imagenet/dy_mobilenetv3_small", "classifier", 4.8, 68.5, (OVERHEAD,)),
        Published("imagenet/static_resnet18", "classifier", 11.1, 1810, (MEBI,)),
        Published("imagenet/dy_resnet18", "classifier", 42.7, 1850, (MEBI,)),
        Published("imagenet/static_resnet10", "classifier", 5.2, 890, (MEBI,)),
        Published("imagenet/dy_resnet10", "classifier", 18.6, 910, (MEBI,)),
    ),
    "Table 2: CondConv on MobileNetV2, K = 8 kernels": (
        Published("imagenet/condconv_mobilenetv2", "classifier", 27.5, 329.0, (CONDCONV,)),
        Published("imagenet/condconv_mobilenetv2_w0.5", "classifier", 15.5, 113.0, (CONDCONV,)),
        *(
            _uncounted(f"condconv_mobilenetv2{width}", "model.first_dynamic_block=12", "model.dynamic_last=false")
            for width in ("", "_w0.5")
        ),
    ),
    "Table 5: dynamic layers of MobileNetV2 x0.5": tuple(
        _uncounted(f"ablation/layers_{layers}") for layers in ("c1", "c2", "c3", "c1_c2", "c1_c3", "c2_c3")
    ),
    "Table 7: MobileNetV3-Small without squeeze-and-excitation": (
        _uncounted("ablation/squeeze_off_static"),
        _uncounted("ablation/squeeze_off_dy"),
    ),
    "Figures 6 and 7: MobileNetV2 with depth 0.7 and 0.5": tuple(
        row
        for depth in ("model.depth=0.7", "model.depth=0.5")
        for width in _MOBILENET_V2
        for row in (
            _uncounted(f"static_mobilenetv2{width}", depth),
            *(_uncounted(f"dy_mobilenetv2{width}", depth, f"model.num_kernels={kernels}") for kernels in (2, 4, 6, 8)),
        )
    ),
    "Tables 10 and 11: pose models": tuple(row for model in _POSE_MODELS for row in _pose_rows(*model)),
    "The literal reading: all layers but the first are dynamic": (
        *(_uncounted(f"dy_mobilenetv2{width}", "model.dynamic_last=true") for width in _MOBILENET_V2),
        _uncounted("dy_mobilenetv3_small", "model.dynamic_last=true"),
        _uncounted("dy_resnet18", "model.dynamic_shortcuts=true"),
        _uncounted("dy_resnet10", "model.dynamic_shortcuts=true"),
    ),
}
"""Rows of the paper's tables and figures, by heading."""

PUBLISHED = tuple(row for rows in SECTIONS.values() for row in rows)
