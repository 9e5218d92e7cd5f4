"""COCO keypoint evaluation (OKS, OKS-NMS, result files, AP) and classification accuracy."""
