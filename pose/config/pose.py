"""Config of pose estimation: every option with type, unit, default and source.

A `Config` is frozen and forbids unknown keys; `pose.config.loader` reads it from YAML and the command line. Derived
values (heatmap size, aspect ratio, keypoint set) are properties and never configured.

"paper" is *Dynamic Convolution: Attention over Convolution Kernels* (Chen et al., CVPR 2020).
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pose.config.base import (
    BatchSize,
    ExperimentConfig,
    InputSide,
    Multiplier,
    OptimizationConfig,
    Positive,
    PositiveInt,
    Probability,
    Section,
    Temperature,
    check_training,
)
from pose.config.data import DataConfig
from pose.config.skeleton import SkeletonOption, make_skeleton, reads_annotations
from pose.heatmap import DecodeMethod
from pose.skeleton import Skeleton

STRIDE = 4
"""Input pixels per heatmap pixel: both heads output a quarter of the input resolution (paper, section 6)."""

MAX_RELATIVE_SIZE = 256
"""Limit of width**2 * depth * K, with which the number of weights grows: about 1e9 weights."""

Kernels = Annotated[int, Field(gt=0, le=64)]
Scale = Annotated[float, Field(ge=0.01, le=100)]


class BackboneConfig(Section):
    """Backbone (paper, section 3)."""

    backbone: Literal["mobilenet_v2", "mobilenet_v3_small", "resnet10", "resnet18"] = "mobilenet_v2"
    """Architecture of the backbone, whose output stride is 32 unless `first_strides` is set."""
    width: Multiplier = 1.0
    """Width multiplier of MobileNetV2 (paper: 1.0, 0.75, 0.5, 0.35); other backbones need 1."""
    depth: Multiplier = 1.0
    """Depth multiplier of MobileNetV2's stages (paper, Figure 6); other backbones need 1."""
    first_strides: tuple[Literal[1, 2], Literal[1, 2]] = (2, 2)
    """Strides of MobileNetV2's stem and of its first strided stage; [1, 1] gives output stride 8, for a classifier of
    32x32 images. Other backbones and pose models need [2, 2]."""
    early_stride: bool = True
    """MobileNetV3: reach stride 16 one block later, as the paper's parameter counts imply; false: as in torchvision."""
    squeeze: bool = True
    """MobileNetV3: squeeze-and-excitation in the blocks (paper, Table 7)."""
    last_squeeze: bool = True
    """MobileNetV3: squeeze-and-excitation after the last 1x1 conv, as the paper's parameter counts imply; false: as in
    torchvision."""
    dynamic_backbone: bool = False
    """Dynamic convolution in the blocks of the backbone."""
    first_dynamic_block: Annotated[int, Field(ge=1, le=17)] = 1
    """MobileNetV2: first of its 17 blocks with dynamic convolutions, counted from 1 (1: all blocks)."""
    dynamic_last: bool = False
    """Dynamic convolution also in a MobileNet's last 1x1 conv (implied by the paper's text, but not by its counts)."""
    dynamic_shortcuts: bool = False
    """Dynamic convolution also in a ResNet's 1x1 projection shortcuts (as `dynamic_last`: text, but not counts)."""
    num_kernels: Kernels | tuple[Kernels, ...] = 4
    """Number of kernels K per dynamic convolution; 1: static. If only the backbone's blocks are dynamic, also a list of
    one K per convolution of a block (paper, Table 5): expansion, depthwise, projection; in a ResNet: first, second."""
    reduction: PositiveInt = 4
    """Reduction ratio of softmax attention: input channels / hidden units."""
    attention: Literal["softmax", "sigmoid"] = "softmax"
    """Attention over kernels. softmax: two linear layers and a temperature (paper); sigmoid: one linear layer, no
    temperature, weights that do not sum to 1 (CondConv, Table 2)."""

    def _check_size(self, name: str, size: float) -> None:
        kernels = max(self.num_kernels, default=1) if isinstance(self.num_kernels, tuple) else self.num_kernels
        if size * kernels > MAX_RELATIVE_SIZE:
            raise ValueError(
                f"{name} * num_kernels must be at most {MAX_RELATIVE_SIZE}, got {size * kernels:g}: the model would be "
                "too large"
            )

    @model_validator(mode="after")
    def _check_backbone(self) -> "BackboneConfig":
        for name, backbone in _BACKBONE_OF_OPTION.items():
            value = getattr(self, name)
            if self.backbone != backbone and value != type(self).model_fields[name].default:
                raise ValueError(f"{name} {value} needs backbone: {backbone}, got {self.backbone}")
        if self.attention == "sigmoid" and self.reduction != type(self).model_fields["reduction"].default:
            raise ValueError(f"reduction {self.reduction} needs attention: softmax; sigmoid has no hidden units")
        if self.first_dynamic_block != 1 and (self.depth != 1 or not self.dynamic_backbone):
            raise ValueError("first_dynamic_block needs dynamic_backbone: true and depth: 1, where there are 17 blocks")
        self._check_size("width**2 * depth", self.width**2 * self.depth)
        is_resnet = self.backbone.startswith("resnet")
        if self.dynamic_last and is_resnet:
            raise ValueError(f"dynamic_last needs a MobileNet backbone, which has a last 1x1 conv; got {self.backbone}")
        if self.dynamic_shortcuts and not is_resnet:
            raise ValueError(f"dynamic_shortcuts needs a ResNet backbone, which has shortcuts; got {self.backbone}")
        for name in ("dynamic_last", "dynamic_shortcuts"):
            if getattr(self, name) and not self.dynamic_backbone:
                raise ValueError(f"{name} needs dynamic_backbone: true")
        if isinstance(self.num_kernels, tuple):
            positions = 2 if is_resnet else 3
            if len(self.num_kernels) != positions:
                raise ValueError(
                    f"num_kernels must be one K, or a list of one for each of the {positions} convolutions of a block "
                    f"of {self.backbone}, got {list(self.num_kernels)}"
                )
            for name in ("dynamic_last", "dynamic_shortcuts"):
                if getattr(self, name):
                    raise ValueError(f"{name} needs one num_kernels for all; a list applies to the blocks only")
        return self


_BACKBONE_OF_OPTION = {
    "width": "mobilenet_v2",
    "depth": "mobilenet_v2",
    "first_dynamic_block": "mobilenet_v2",
    "first_strides": "mobilenet_v2",
    "early_stride": "mobilenet_v3_small",
    "squeeze": "mobilenet_v3_small",
    "last_squeeze": "mobilenet_v3_small",
}
"""Options of one backbone, which must keep their default for all others."""


class ModelConfig(BackboneConfig):
    """Pose model: backbone and head (paper, sections 3 and 6)."""

    head: Literal["type_a", "type_b"] = "type_b"
    """Head. type_a: three deconvolutions (SimpleBaseline); type_b: bilinear upsampling and bottlenecks (Table 9)."""
    head_width: Multiplier = 1.0
    """Width multiplier of the head."""
    dynamic_head: bool = False
    """Dynamic convolution in the type-B head (type A has no dynamic form in the paper)."""

    @property
    def is_dynamic(self) -> bool:
        """Whether any convolution is dynamic."""
        return self.dynamic_backbone or self.dynamic_head

    @model_validator(mode="after")
    def _check_head(self) -> "ModelConfig":
        self._check_size("head_width**2", self.head_width**2)
        if self.first_strides != (2, 2):
            raise ValueError("first_strides must be [2, 2] in a pose model, whose heads need output stride 32")
        if self.dynamic_head and self.head == "type_a":
            raise ValueError("dynamic_head needs head: type_b; a type-A head has no dynamic form")
        if self.dynamic_head and isinstance(self.num_kernels, tuple):
            raise ValueError("dynamic_head needs one num_kernels for all; a list applies to the backbone's blocks only")
        return self


class InputConfig(Section):
    """Model input: the crop of a person."""

    size_hw: tuple[InputSide, InputSide] = (256, 192)
    """Height and width of the crop in pixels, multiples of 32."""
    padding: Annotated[float, Field(ge=0.1, le=10)] = 1.25
    """Padding factor of the person box."""
    sigma: Annotated[float, Field(ge=0.1, le=100)] = 2.0
    """Standard deviation of the target Gaussian, in heatmap pixels."""

    @model_validator(mode="after")
    def _check_size(self) -> "InputConfig":
        if any(side % 32 for side in self.size_hw):
            raise ValueError(f"size_hw must be multiples of 32 (the backbone's stride), got {list(self.size_hw)}")
        return self

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the input in pixels."""
        return self.size_hw[1], self.size_hw[0]

    @property
    def heatmap_wh(self) -> tuple[int, int]:
        """Width and height of the heatmap in pixels."""
        return self.size_hw[1] // STRIDE, self.size_hw[0] // STRIDE

    @property
    def aspect_ratio(self) -> float:
        """Width / height of the input."""
        return self.size_hw[1] / self.size_hw[0]


class AugmentConfig(Section):
    """Training augmentation (paper, section 6; probabilities as in HRNet's public code)."""

    flip_probability: Probability = 0.5
    """Probability of a horizontal flip."""
    rotation_probability: Probability = 0.6
    """Probability of a rotation."""
    rotation_std_deg: Annotated[float, Field(ge=0)] = 45.0
    """Standard deviation of the rotation angle, in degrees."""
    rotation_limit_deg: Annotated[float, Field(ge=0, le=180)] = 45.0
    """Rotation angles are clipped to +- this many degrees (paper: 45; HRNet's public code: 90)."""
    scale_std: Annotated[float, Field(ge=0)] = 0.35
    """Standard deviation of the scale factor, whose mean is 1."""
    scale_limits: tuple[Scale, Scale] = (0.65, 1.35)
    """Minimum and maximum scale factor; scale factors are clipped to them."""
    half_body_probability: Probability = 0.3
    """Probability of a half-body crop (upper or lower body) for persons with more than ``half_body_min_keypoints``."""
    half_body_upper_probability: Probability = 0.69
    """Probability that a half-body crop shows the upper body (HRNet's public code: randn() < 0.5)."""
    half_body_min_keypoints: int = 8
    """Persons with this many labeled keypoints or fewer get no half-body crop."""
    photometric: Literal["none", "light", "strong"] = "none"
    """Photometric augmentation (albumentations). light: brightness, hue, blur; strong: also noise, JPEG, occlusion."""


class TrainConfig(OptimizationConfig):
    """Training by Adam (paper, section 6)."""

    epochs: PositiveInt = 210
    """Number of epochs: passes over the training persons."""
    batch_size: BatchSize = 128
    """Global batch size, over all processes and accumulation steps (HRNet's public code: 32 on each of 4 GPUs)."""
    learning_rate: Positive = 1e-3
    """Initial learning rate of Adam, reached at the end of the warm-up."""
    milestones: tuple[PositiveInt, ...] = (170, 200)
    """Epochs after which the learning rate is multiplied by ``decay``."""
    schedule: Literal["steps", "cosine"] = "steps"
    """Learning rate schedule. steps: ``decay`` at ``milestones``; cosine: to zero over all epochs, no milestones."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay, decoupled (AdamW); 0: plain Adam."""
    loss: Literal["mse", "cross_entropy"] = "mse"
    """Heatmap loss. mse: as in the paper; cross_entropy: over the pixels of each heatmap, leaves the initial plateau
    sooner."""
    teacher: Path | None = None
    """ONNX file of a pose model for the same keypoints and input size, to learn from its heatmaps too; null: none."""
    teacher_weight: Probability = 0.5
    """Fraction of the teacher's heatmap in the target of a labeled keypoint."""
    teacher_threshold: Probability = 0.3
    """Keypoints whose teacher heatmap has a lower peak get nothing from the teacher."""
    teacher_flip: bool = True
    """Average the teacher's heatmaps with those of the flipped crop: twice its time, better targets."""
    temperature_final: Temperature | None = None
    """Temperature after linear annealing; null: constant temperature (paper, section 6: 30 for COCO)."""
    validate_every: PositiveInt = 10
    """Epochs between validations; the last epoch is always validated."""
    validate_boxes: Literal["detections", "ground_truth"] = "detections"
    """Person boxes of the validations during training."""


class TestConfig(Section):
    """Evaluation (protocol of HRNet's public code)."""

    batch_size: BatchSize = 64
    """Crops per batch; does not change the results."""
    flip: bool = True
    """Flip test: average the heatmaps with those of the flipped crop."""
    flip_shift: Annotated[int, Field(ge=0, le=8)] = 1
    """Columns by which the heatmaps of the flipped crop are shifted right."""
    decode: DecodeMethod = "quarter"
    """Decoding of heatmaps. quarter: the argmax, moved a quarter pixel (protocol of published figures); dark: sub-pixel
    maximum of the blurred heatmap (DARK, CVPR 2020), with the ``input.sigma`` of the targets."""
    keypoint_threshold: float = 0.2
    """Keypoints with a higher score count in the score of a person."""
    nms_threshold: Probability = 0.9
    """OKS-NMS threshold: of two persons with a higher OKS, the one with the lower score is removed."""
    box_threshold: float = 0.0
    """Detected person boxes with a lower score are ignored."""


class Config(ExperimentConfig):
    """Config of a pose estimation experiment."""

    task: Literal["pose"] = "pose"
    """Task that is trained; ImageNet configs have ``classification``."""
    skeleton: SkeletonOption = "coco"
    """Keypoint set: COCO's 17 keypoints, that of the category in the annotations, or a custom set."""
    model: ModelConfig = ModelConfig()
    """Backbone and head."""
    data: DataConfig = DataConfig()
    """Data set."""
    input: InputConfig = InputConfig()
    """Model input."""
    augment: AugmentConfig = AugmentConfig()
    """Training augmentation."""
    train: TrainConfig = TrainConfig()
    """Training."""
    test: TestConfig = TestConfig()
    """Evaluation."""

    @model_validator(mode="after")
    def _check_training_and_skeleton(self) -> "Config":
        check_training(self.train, self.model.is_dynamic)
        if not reads_annotations(self.skeleton):
            make_skeleton(self.skeleton)
        return self

    @property
    def keypoints(self) -> Skeleton:
        """The keypoint set; if it comes from the annotations, known after `resolve_keypoints`."""
        return make_skeleton(self.skeleton)
