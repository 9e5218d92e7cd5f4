"""From predicted keypoints to COCO's AP: `oks` (similarity, score), `results` (result file), `coco_ap` (figures)."""
