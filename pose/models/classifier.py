"""The ImageNet classifier: a backbone, and always static layers that make class scores of its features."""

from torch import Tensor, nn


class ClassifierHead(nn.Sequential):
    """Mean over the pixels, dropout, and a linear layer; MobileNetV3 has another linear layer and h-swish before.

    Args:
        in_channels: of the features.
        num_classes: scores to make.
        dropout: share of the last layer's inputs that a training step leaves out.
        hidden_channels: of MobileNetV3's penultimate layer (the paper 1280, torchvision 1024); none by default.
    """

    def __init__(
        self, in_channels: int, num_classes: int = 1000, dropout: float = 0.0, hidden_channels: int | None = None
    ) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        if hidden_channels is not None:
            self.append(_linear(in_channels, hidden_channels))
            self.append(nn.Hardswish(inplace=True))
            in_channels = hidden_channels
        self.append(nn.Dropout(dropout))
        self.append(_linear(in_channels, num_classes))


class Classifier(nn.Module):
    """Class scores of images.

    Args:
        backbone: images to features at stride 32.
        head: features to scores.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images (N, 3, H, W) to scores (N, classes) before the softmax."""
        scores: Tensor = self.head(self.backbone(images))
        return scores


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer
