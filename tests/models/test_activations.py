"""ReLU6 that keeps its output for the backward pass, compared with PyTorch's."""

import pytest
import torch
from torch import Tensor, nn

from pose.models.activations import ReLU6


def example() -> Tensor:
    """Include both limits, which have no gradient."""
    x = torch.randn((4, 6, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 6
    x[0, 0, :4] = torch.tensor([0.0, 6.0, -0.0, 3.0])
    return x.requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("inplace", [False, True])
def test_outputs_and_gradients_equal_pytorch(inplace: bool, dtype: torch.dtype) -> None:
    results = []
    for layer in (ReLU6(inplace=inplace), nn.ReLU6(inplace=inplace)):
        x = example()
        y = layer(x.to(dtype) * 1)
        assert y.dtype == dtype
        y.backward(torch.arange(y.numel(), dtype=dtype).view_as(y))
        results.append((y.detach(), x.grad))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_second_derivatives_equal_finite_differences() -> None:
    x = (torch.arange(-7.0, 12.0, dtype=torch.float64) + 0.5).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: ReLU6()(x).square(), x)


def test_keeps_no_tensor_but_its_output() -> None:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    x = example()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = ReLU6(inplace=True)(x * 1)
    assert {tensor.data_ptr() for tensor in kept} == {y.data_ptr()}


def test_vmap_grad_compile_export_and_fx_give_the_same() -> None:
    layer, x = ReLU6(inplace=True), example().detach()

    def loss(x: Tensor) -> Tensor:
        return layer(x * 1).square().sum()

    expected = torch.autograd.grad(loss(x.requires_grad_()), x)[0]
    x = x.detach()
    torch.testing.assert_close(torch.func.grad(loss)(x), expected)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(x), expected)
    model = nn.Sequential(nn.Identity(), layer)
    assert torch.equal(torch.export.export(model, (x,)).module()(x), x.clamp(0, 6))
    traced = torch.fx.symbolic_trace(model)
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["0", "1"]
    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    x.requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(compiled(x), x)[0], expected)
