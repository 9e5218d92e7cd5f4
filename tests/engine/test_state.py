"""Parameter groups: backbone, head, and the attention if it has a learning rate of its own."""

import pytest
import torch
from torch import nn

from pose.engine.classification_task import sgd
from pose.engine.pose_task import adam
from pose.engine.state import parameter_groups
from pose.models import build_classifier, build_pose_net


def names(model: nn.Module, groups: list[dict]) -> list[set[str]]:
    by_id = {id(weight): name for name, weight in model.named_parameters()}
    assert sum(len(group["params"]) for group in groups) == len(by_id)  # each parameter in one group
    return [{by_id[id(weight)] for weight in group["params"]} for group in groups]


@pytest.fixture(params=["pose", "classification"])
def model_and_options(request, tiny_config, tiny_classifier):
    """A function from overrides to a model and its training options."""

    def make(*overrides):
        if request.param == "pose":
            config = tiny_config("model.dynamic_head=true", *overrides)
            return build_pose_net(config), config.train
        config = tiny_classifier("data.classes=[disc, ring, square]", *overrides)
        return build_classifier(config), config.train

    return make


def test_without_its_own_rate_the_attention_is_part_of_backbone_and_head(model_and_options):
    model, options = model_and_options()

    backbone, head = names(model, parameter_groups(model, options))

    assert {name.split(".")[0] for name in backbone} == {"backbone"}
    assert {name.split(".")[0] for name in head} == {"head"}


def test_with_its_own_rate_the_attention_of_backbone_and_head_is_the_third_group(model_and_options):
    model, options = model_and_options("train.attention_learning_rate=1e-4")

    backbone, head, attention = names(model, parameter_groups(model, options))

    assert attention == {name for name, _ in model.named_parameters() if ".attention.fc" in name}
    assert {name.split(".")[0] for name in backbone} == {"backbone"}
    assert {name.split(".")[0] for name in head} == {"head"}


@pytest.mark.parametrize("rate", [0.0, 0.004])
def test_a_step_moves_the_attention_by_its_own_rate(rate, model_and_options, dist):
    """Of SGD, whose first step is rate x gradient; Adam's is the rate, whatever the gradient."""
    model, options = model_and_options(f"train.attention_learning_rate={rate}", "train.weight_decay=0")
    is_pose = hasattr(options, "loss")
    optimizer = adam(model, options, dist.device) if is_pose else sgd(model, options)
    for group, group_rate in zip(
        optimizer.param_groups, (options.learning_rate, options.learning_rate, rate), strict=True
    ):
        group["lr"] = group_rate
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 0.5)

    optimizer.step()

    for name, weight in model.named_parameters():
        step = rate if ".attention." in name else options.learning_rate
        expected = torch.full_like(weight, -step if is_pose else -0.5 * step)
        torch.testing.assert_close(weight - before[name], expected, rtol=1e-3, atol=1e-6)
