"""ImageNet classifier: a backbone and a classification head, whose last layer may be dynamic."""

from collections.abc import Callable

from torch import Tensor, nn

LinearLayer = Callable[[int, int], nn.Module]
"""Called as ``linear_layer(in_features, out_features)``; its kernels are in ``weight`` and ``bias``."""


class ClassifierHead(nn.Sequential):
    """Classification head: global average pooling, dropout, linear layer; MobileNetV3 adds a hidden linear layer.

    Maps features (N, in_channels, H, W) to scores (N, num_classes). The hidden layer is followed by h-swish.

    Args:
        in_channels: channels of the features.
        num_classes: number of output scores.
        dropout: dropout probability before the last layer.
        hidden_channels: width of MobileNetV3's hidden layer (paper 1280, torchvision 1024); None for no hidden layer.
        linear_layer: type of the last layer, static or dynamic.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int = 1000,
        dropout: float = 0.0,
        hidden_channels: int | None = None,
        linear_layer: LinearLayer = nn.Linear,
    ) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        if hidden_channels is not None:
            self.append(_initialized(nn.Linear(in_channels, hidden_channels)))
            self.append(nn.Hardswish(inplace=True))
            in_channels = hidden_channels
        self.append(nn.Dropout(dropout))
        self.append(_initialized(linear_layer(in_channels, num_classes)))


class Classifier(nn.Module):
    """Image classifier.

    Args:
        backbone: images to features at stride 32.
        head: features to class scores.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Map normalized images (N, 3, H, W) to class scores (N, num_classes), before the softmax."""
        scores: Tensor = self.head(self.backbone(images))
        return scores


def _initialized(layer: nn.Module) -> nn.Module:
    nn.init.normal_(layer.weight, std=0.01)  # type: ignore[arg-type]
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
