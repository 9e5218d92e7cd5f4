"""Data sets: COCO keypoints, ImageNet, augmentation, data loading, crop cache, synthetic people, validation."""
