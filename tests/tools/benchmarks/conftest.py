"""A fake HRNet checkout that calls our code, and fake times."""

from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

import pose.tools.benchmarks

FILES = {
    "core/inference.py": """
        import numpy as np
        from utils.transforms import to_image
        from pose.heatmap import decode

        def get_final_preds(config, heatmaps, center, scale):
            assert config.TEST.POST_PROCESS
            keypoints, scores = decode(heatmaps)
            preds = [to_image(k, c, s * 200, (48, 64)) for k, c, s in zip(keypoints, center, scale)]
            return np.array(preds, dtype=np.float), scores[..., None]
    """,
    "utils/transforms.py": """
        from pose.geometry import View, invert, transform_points, view_to_matrix

        def to_image(points, center, scale, size):
            return transform_points(points, invert(view_to_matrix(View(tuple(center), tuple(scale)), size)))
    """,
    "nms/nms.py": """
        import numpy as np
        from .cpu_nms import cpu_nms
        from .gpu_nms import gpu_nms
        from pose.evaluation import oks
        from pose.skeleton import COCO

        def oks_nms(people, thresh, sigmas=None, in_vis_thre=None):
            keypoints, areas, scores = ([person[name] for person in people] for name in ("keypoints", "area", "score"))
            return list(oks.oks_nms(keypoints, areas, scores, thresh, COCO.sigmas).astype(np.int))
    """,
    "dataset/__init__.py": "import a_package_that_is_not_there\n",
    "dataset/coco.py": """
        from collections import OrderedDict
        from pathlib import Path
        import json_tricks as json
        import numpy as np
        from nms.nms import oks_nms
        from pose.config.pose import InputConfig
        from pose.datasets.coco import annotated_persons
        from pose.datasets.samples import make_sample
        from pose.evaluation.coco_ap import METRIC_NAMES, evaluate
        from pose.evaluation.coco_results import Predictions, to_results
        from pose.skeleton import COCO

        class COCODataset:
            def __init__(self, cfg, root, image_set, is_train, transform=None):
                print("loading")
                self.annotations = Path(root) / "annotations" / f"person_keypoints_{image_set}.json"
                self.persons = annotated_persons(self.annotations, Path(root) / "images" / image_set, COCO)
                self.size_hw, self.is_train, self.transform = tuple(cfg.MODEL.IMAGE_SIZE[::-1]), is_train, transform

            def __len__(self):
                return len(self.persons)

            def __getitem__(self, index):
                record, input_config = self.persons.record(index), InputConfig(size_hw=self.size_hw)
                sample = make_sample(record, COCO, input_config, None, np.random.default_rng(0))
                return self.transform(sample.image.numpy()), sample.heatmaps, sample.weights[:, None], {}

            def evaluate(self, cfg, preds, output_dir, all_boxes, img_path):
                ids = np.array([int(path[-16:-4]) for path in img_path])
                areas, scores = all_boxes[:, 4].astype(np.float), all_boxes[:, 5]
                predictions = Predictions(ids, preds[..., :2], preds[..., 2], scores, areas)
                options = cfg.TEST.IN_VIS_THRE, cfg.TEST.OKS_THRE
                results = json.loads(json.dumps(to_results(predictions, COCO.sigmas, *options)))
                print("evaluating")
                metrics = evaluate(self.annotations, results, COCO.sigmas)
                values = OrderedDict((name, getattr(metrics, name)) for name in METRIC_NAMES)
                return values, values["AP"]
    """,
}


@dataclass(frozen=True)
class Checkout:
    """The folder of the fake checkout."""

    path: Path

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a piece of code that occurs once in a file."""
        text = (self.path / "lib" / file).read_text()
        assert text.count(old) == 1
        (self.path / "lib" / file).write_text(text.replace(old, new))


@pytest.fixture
def checkout(tmp_path):
    for name, text in FILES.items():
        file = tmp_path / "hrnet" / "lib" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text))
    return Checkout(tmp_path / "hrnet")


@pytest.fixture
def timed(monkeypatch):
    """The timed calls, a list of dicts; instead of measured times, ours takes 1 s, the others 10 s, 20 s, ..."""
    cases = []

    def fake_times(calls, budget, rng):
        cases.append(dict(calls))
        return {name: np.array([10.0 * index or 1.0]) for index, name in enumerate(calls)}

    monkeypatch.setattr(pose.tools.benchmarks, "time_interleaved", fake_times)
    return cases
