"""Backbones: MobileNetV2, MobileNetV3-Small and ResNet, static or dynamic."""
