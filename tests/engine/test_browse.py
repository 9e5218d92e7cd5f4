"""The page of samples: one file, with escaped names."""

from pose.engine.browse import browse_page
from pose.engine.pose_task import training_samples


def test_a_page_of_samples_has_no_links_and_escapes_names(tiny_config):
    config = tiny_config()
    dataset = training_samples(config)
    named = config.model_copy(update={"name": "<b>"})
    page = browse_page(named, named, dataset, 3)

    assert page.count("data:image/jpeg;base64,") == 3
    assert "http" not in page
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "left_eye&lt;-&gt;right_eye" in page
