"""Every option of the project: its type, unit, default and source, checked as it enters.

A `Config` is frozen and forbids unknown keys; `pose.config.loader` reads it from YAML and the command line. What
follows from other values (heatmap size, channels, number of keypoints) is a property here and is never configured.
"paper" is *Dynamic Convolution: Attention over Convolution Kernels* (Chen et al., CVPR 2020).
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pose import skeleton as skeletons
from pose.config.base import (
    ExperimentConfig,
    OptimizationConfig,
    Positive,
    PositiveInt,
    Probability,
    Section,
    check_parts,
)

STRIDE = 4
"""Input pixels a heatmap pixel; both heads end at a quarter of the input (paper, section 6)."""


class SkeletonConfig(Section):
    """Your own keypoint set; ``skeleton: coco`` needs none of this."""

    names: tuple[str, ...]
    """Keypoint names, in the order of the annotations; left_x and right_x form a mirror pair."""
    limbs: tuple[tuple[int, int], ...] = ()
    """Index pairs to draw, counted from 0."""
    sigmas: tuple[float, ...] | None = None
    """OKS constants; by default COCO's where the name is COCO's, else 0.05."""


class BackboneConfig(Section):
    """The feature extractor (paper, section 3)."""

    backbone: Literal["mobilenet_v2", "mobilenet_v3_small", "resnet10", "resnet18"] = "mobilenet_v2"
    """Feature extractor, to stride 32."""
    width: Positive = 1.0
    """Width multiplier of MobileNetV2 (paper: 1.0, 0.75, 0.5, 0.35); the others have but one."""
    depth: Positive = 1.0
    """Depth multiplier of MobileNetV2's stages (paper, Figure 6); the others have but one."""
    early_stride: bool = True
    """MobileNetV3: reach stride 16 a block later, as the paper's counts say; torchvision has the final variant."""
    squeeze: bool = True
    """MobileNetV3: squeeze-and-excitation in the blocks (paper, Table 7)."""
    last_squeeze: bool = True
    """MobileNetV3: squeeze-and-excitation behind the last 1x1 conv, as the paper's counts say; torchvision has none."""
    dynamic_backbone: bool = False
    """Dynamic convolution in the backbone's blocks."""
    dynamic_last: bool = False
    """Also make a MobileNet's last 1x1 conv dynamic (the paper's text taken literally; its counts say no)."""
    num_kernels: PositiveInt | tuple[PositiveInt, ...] = 4
    """K, the kernels a dynamic convolution mixes; 1 is a static one. Or, if only the backbone's blocks are dynamic, one
    for each convolution of a block (paper, Table 5): expansion, depthwise, projection; in a ResNet first, second."""
    reduction: PositiveInt = 4
    """Input channels over the attention's hidden units."""
    attention: Literal["softmax", "sigmoid"] = "softmax"
    """softmax (the paper) or sigmoid (CondConv, for the comparison of Table 2)."""

    @model_validator(mode="after")
    def _backbone_possible(self) -> "BackboneConfig":
        for name, backbone in _ONE_BACKBONE_ONLY.items():
            value = getattr(self, name)
            if self.backbone != backbone and value != type(self).model_fields[name].default:
                raise ValueError(f"{name} {value} needs backbone: {backbone}, got {self.backbone}")
        is_resnet = self.backbone.startswith("resnet")
        if self.dynamic_last and is_resnet:
            raise ValueError(f"dynamic_last needs a backbone with a last 1x1 conv, a MobileNet; got {self.backbone}")
        if self.dynamic_last and not self.dynamic_backbone:
            raise ValueError("dynamic_last needs dynamic_backbone: true")
        if isinstance(self.num_kernels, tuple):
            positions = 2 if is_resnet else 3
            if len(self.num_kernels) != positions:
                raise ValueError(
                    f"num_kernels must be one K, or one for each of the {positions} convolutions of a block of "
                    f"{self.backbone}, got {list(self.num_kernels)}"
                )
            if self.dynamic_last:
                raise ValueError("dynamic_last needs one num_kernels for all; a list is of the blocks alone")
        return self


_ONE_BACKBONE_ONLY = {
    "width": "mobilenet_v2",
    "depth": "mobilenet_v2",
    "early_stride": "mobilenet_v3_small",
    "squeeze": "mobilenet_v3_small",
    "last_squeeze": "mobilenet_v3_small",
}
"""Options that keep their default on every other backbone."""


class ModelConfig(BackboneConfig):
    """The pose model (paper, sections 3 and 6)."""

    head: Literal["type_a", "type_b"] = "type_b"
    """type_a: three deconvolutions (SimpleBaseline); type_b: bilinear upsampling and bottlenecks (Table 9)."""
    head_width: Positive = 1.0
    """Width multiplier of the head's channels."""
    dynamic_head: bool = False
    """Dynamic convolution in the type-B head (type A has no dynamic form in the paper)."""

    @model_validator(mode="after")
    def _head_possible(self) -> "ModelConfig":
        if self.dynamic_head and self.head == "type_a":
            raise ValueError("dynamic_head needs head: type_b; a type-A head has no dynamic form")
        if self.dynamic_head and isinstance(self.num_kernels, tuple):
            raise ValueError("dynamic_head needs one num_kernels for all; a list is of the backbone's blocks alone")
        return self


class SyntheticConfig(Section):
    """The embedded data set: drawn into ``data.root`` when it is not there yet."""

    train_images: PositiveInt = 600
    """Images to train on."""
    val_images: PositiveInt = 100
    """Images to validate on."""
    image_wh: tuple[PositiveInt, PositiveInt] = (320, 240)
    """Width and height of an image in pixels."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The same seed draws the same images."""


class DataConfig(Section):
    """Where images and annotations are. Relative paths start at ``root``, itself relative to the working folder."""

    root: Path = Path("data/coco")
    """Folder of the data set."""
    train_annotations: Path = Path("annotations/person_keypoints_train2017.json")
    """COCO keypoint annotations to train on."""
    train_images: Path = Path("train2017")
    """Folder of the training images."""
    val_annotations: Path = Path("annotations/person_keypoints_val2017.json")
    """COCO keypoint annotations to validate on; an image-info file will do for a test set without annotations."""
    val_images: Path = Path("val2017")
    """Folder of the validation images."""
    val_detections: Path = Path("person_detection_results/COCO_val2017_detections_AP_H_56_person.json")
    """Person boxes in COCO result format, for `tools/test.py`."""
    crop_cache: Path | None = None
    """File of `data/build_cache.py`: train from crops that were made once, instead of from the images."""
    synthetic: SyntheticConfig | None = None
    """Draw the embedded data set into ``root`` instead of reading one of yours."""


class InputConfig(Section):
    """The crop that the model sees."""

    size_hw: tuple[PositiveInt, PositiveInt] = (256, 192)
    """Height and width in pixels, multiples of 32."""
    padding: Positive = 1.25
    """The person's box is grown by this factor."""
    sigma: Positive = 2.0
    """Of the target Gaussian, in heatmap pixels."""

    @model_validator(mode="after")
    def _multiple_of_stride(self) -> "InputConfig":
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
        """Width over height."""
        return self.size_hw[1] / self.size_hw[0]


class AugmentConfig(Section):
    """Random views of a training person (paper, section 6.1; probabilities as in HRNet's public code)."""

    flip_probability: Probability = 0.5
    """Mirror left to right."""
    rotation_probability: Probability = 0.6
    """Rotate at all."""
    rotation_std_deg: Annotated[float, Field(ge=0)] = 45.0
    """Standard deviation of the angle."""
    rotation_limit_deg: Annotated[float, Field(ge=0, le=180)] = 45.0
    """The angle is clipped to +- this (the paper's 45; the public code clips at 90)."""
    scale_std: Annotated[float, Field(ge=0)] = 0.35
    """Standard deviation of the scale factor about 1."""
    scale_limits: tuple[Positive, Positive] = (0.65, 1.35)
    """The scale factor is clipped to this range."""
    half_body_probability: Probability = 0.3
    """Show only the upper or lower body of a person with more than ``half_body_min_keypoints``."""
    half_body_upper_probability: Probability = 0.69
    """Of these, the share that shows the upper body (public code: randn() < 0.5)."""
    half_body_min_keypoints: int = 8
    """Persons with this many labelled keypoints or fewer are never halved."""
    photometric: Literal["none", "light", "strong"] = "none"
    """Pixel-level preset from albumentations: light (brightness, hue, blur) or strong (and noise, JPEG, occlusion)."""


class TrainConfig(OptimizationConfig):
    """The optimization (paper, section 6.1), by Adam."""

    epochs: PositiveInt = 210
    """Passes over the training persons."""
    batch_size: PositiveInt = 128
    """Global batch, over all processes and accumulation steps (public code: 32 on each of 4 GPUs)."""
    learning_rate: Positive = 1e-3
    """Of Adam."""
    milestones: tuple[PositiveInt, ...] = (170, 200)
    """Epochs after which the learning rate is multiplied by ``decay``."""
    schedule: Literal["steps", "cosine"] = "steps"
    """steps: ``decay`` at ``milestones``; cosine: to zero over all epochs, milestones unused."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled (AdamW) when positive."""
    loss: Literal["mse", "cross_entropy"] = "mse"
    """mse: the paper's, on heatmaps; cross_entropy: over each map's pixels, leaves the plateau sooner."""
    temperature_final: Positive | None = None
    """Anneal linearly to this tau; by default the temperature stays (paper, section 6: constant 30 for COCO)."""
    validate_every: PositiveInt = 10
    """Epochs between validations; the last epoch is always validated."""
    validate_boxes: Literal["detections", "ground_truth"] = "detections"
    """Boxes of the validations during training."""


class TestConfig(Section):
    """From heatmaps to AP (public code's protocol)."""

    batch_size: PositiveInt = 64
    """Crops a batch; does not change any answer."""
    flip: bool = True
    """Average with the mirrored crop."""
    flip_shift: Annotated[int, Field(ge=0)] = 1
    """Columns that the mirrored heatmaps are moved right."""
    keypoint_threshold: float = 0.2
    """Keypoints above this count in a person's score."""
    nms_threshold: Probability = 0.9
    """OKS above which the lower-scored of two persons is dropped."""
    box_threshold: float = 0.0
    """Detector boxes scored lower are ignored."""


class Config(ExperimentConfig):
    """One experiment in pose estimation."""

    task: Literal["pose"] = "pose"
    """What is trained; configs of ImageNet say ``classification`` (`pose.config.classification`)."""
    skeleton: Literal["coco"] | SkeletonConfig = "coco"
    """The keypoint set."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    input: InputConfig = InputConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()
    test: TestConfig = TestConfig()

    @model_validator(mode="after")
    def _possible(self) -> "Config":
        check_parts(self.train)
        make_skeleton(self.skeleton)
        return self

    @property
    def keypoints(self) -> skeletons.Skeleton:
        """The keypoint set as data."""
        return make_skeleton(self.skeleton)


def make_skeleton(config: Literal["coco"] | SkeletonConfig) -> skeletons.Skeleton:
    """Return the skeleton that a config names or spells out."""
    if config == "coco":
        return skeletons.COCO
    return skeletons.make_skeleton(config.names, config.limbs, config.sigmas)
