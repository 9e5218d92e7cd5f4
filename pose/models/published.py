"""Parameters and multiply-adds published in the paper, for comparison in `tools/count_complexity.py`.

Source: *Dynamic Convolution* (Chen et al., CVPR 2020), section 5 for classifiers, Table 10 for pose models. Our models
follow the paper's text and formulas and are not tuned to its figures. Notes explain differences as far as possible.
"""

from dataclasses import dataclass
from typing import Literal

Part = Literal["classifier", "backbone", "head"]

OVERHEAD = (
    "MAdds: for attention and mixing the paper's tables count less than its own section 3.2 gives, which ours follow."
)
NARROW = "Parameters: not explained; the three wider nets fit."
SMALL = "Parameters: not explained; the dynamic net, which has the same static parts, fits."
MEBI = "Parameters: within 1.1% of the paper's if its million is 2^20."
TYPE_B = "MAdds: not explained; the parameters fit."
TYPE_A = (
    "The paper has the same figures behind every backbone. Its MAdds are between four and five times ours: transposed "
    "convolutions counted at their output's resolution come to four. Its parameters are twice ours behind ResNet-18."
)


@dataclass(frozen=True)
class Published:
    """Published figures of a model or of a part of it.

    Attributes:
        config: name of the packaged config of the model.
        part: ``classifier`` for a whole classifier, ``backbone`` or ``head`` of a pose model.
        params: parameters in 1e6, as printed in the paper.
        madds: multiply-adds in 1e6, as printed in the paper.
        notes: known differences from our counts.
    """

    config: str
    part: Part
    params: float
    madds: float
    notes: tuple[str, ...] = ()


PUBLISHED = (
    Published("imagenet/static_mobilenetv2", "classifier", 3.5, 300.0),
    Published("imagenet/dy_mobilenetv2", "classifier", 11.1, 312.9, (OVERHEAD,)),
    Published("imagenet/static_mobilenetv2_w0.75", "classifier", 2.6, 209.0),
    Published("imagenet/dy_mobilenetv2_w0.75", "classifier", 7.0, 217.5, (OVERHEAD,)),
    Published("imagenet/static_mobilenetv2_w0.5", "classifier", 2.0, 97.0),
    Published("imagenet/dy_mobilenetv2_w0.5", "classifier", 4.0, 101.4, (OVERHEAD,)),
    Published("imagenet/static_mobilenetv2_w0.35", "classifier", 1.7, 59.2),
    Published("imagenet/dy_mobilenetv2_w0.35", "classifier", 2.8, 62.0, (OVERHEAD, NARROW)),
    Published("imagenet/static_mobilenetv3_small", "classifier", 2.9, 66.0, (SMALL,)),
    Published("imagenet/dy_mobilenetv3_small", "classifier", 4.8, 68.5, (OVERHEAD,)),
    Published("imagenet/static_resnet18", "classifier", 11.1, 1810, (MEBI,)),
    Published("imagenet/dy_resnet18", "classifier", 42.7, 1850, (MEBI,)),
    Published("imagenet/static_resnet10", "classifier", 5.2, 890, (MEBI,)),
    Published("imagenet/dy_resnet10", "classifier", 18.6, 910, (MEBI,)),
    Published("pose/B_static_mobilenetv2_256x192", "backbone", 2.2, 292.6),
    Published("pose/B_dy_mobilenetv2_256x192", "backbone", 9.8, 305.3, (OVERHEAD,)),
    Published("pose/B_static_mobilenetv2_w0.5_256x192", "backbone", 0.7, 93.7),
    Published("pose/B_dy_mobilenetv2_w0.5_256x192", "backbone", 2.7, 98.0, (OVERHEAD,)),
    Published("pose/B_static_mobilenetv3_small_256x192", "backbone", 1.1, 62.7),
    Published("pose/B_dy_mobilenetv3_small_256x192", "backbone", 2.8, 65.1, (OVERHEAD,)),
    Published("pose/B_static_mobilenetv2_256x192", "head", 1.2, 701.1, (TYPE_B,)),
    Published("pose/B_dy_mobilenetv2_256x192", "head", 6.3, 709.4, (OVERHEAD, TYPE_B)),
    Published("pose/B_static_mobilenetv3_small_256x192", "head", 1.0, 664.2, (TYPE_B,)),
    Published("pose/B_dy_mobilenetv3_small_256x192", "head", 4.9, 671.1, (OVERHEAD, TYPE_B)),
    Published("pose/A_static_resnet18_256x192", "head", 8.4, 5400, (TYPE_A,)),
    Published("pose/A_static_mobilenetv2_256x192", "head", 8.4, 5400, (TYPE_A,)),
    Published("pose/A_static_mobilenetv3_small_256x192", "head", 8.4, 5400, (TYPE_A,)),
)
