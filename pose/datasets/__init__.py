"""Data sets: COCO keypoints, ImageNet folders, augmentation, loaders, crop cache, synthetic people, validation."""
