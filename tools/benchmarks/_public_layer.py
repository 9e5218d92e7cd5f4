"""A public dynamic convolution layer as the baseline, imported from an unmodified file."""

import argparse
import importlib.util
import sys
from pathlib import Path

from torch import nn

from pose.errors import PoseError
from pose.models.dynamic_conv import DynamicConv2d

CLASS = "Dynamic_conv2d"
PUBLIC = "a public layer"
"""Its name in the rows."""
SOURCE = "https://github.com/kaijieshi7/Dynamic-convolution-Pytorch"


def add_peer_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--peer``."""
    parser.add_argument(
        "--peer", type=Path, metavar="FILE", help=f"Python file with the class {CLASS}; its code is run ({SOURCE})"
    )


def load_layer(file: Path) -> type[nn.Module]:
    """Import the class from a file; the code of the file is run.

    Raises:
        PoseError: the file does not exist, cannot be imported, or has no such class.
    """
    spec = importlib.util.spec_from_file_location("_peer_public_layer", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise PoseError(f"--peer {file}: expected a Python file with the class {CLASS}, got none; see {SOURCE}")
    module = importlib.util.module_from_spec(spec)
    wrote_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
        layer: type[nn.Module] = getattr(module, CLASS)
    except Exception as error:  # external code may raise anything
        raise PoseError(
            f"--peer {file}: has no class {CLASS} that can be imported ({type(error).__name__}: {error}); see {SOURCE}"
        ) from error
    finally:
        sys.dont_write_bytecode = wrote_bytecode
    return layer


def layer_like(conv: DynamicConv2d, layer: type[nn.Module]) -> nn.Module:
    """Return a new layer of the class with the sizes of a dynamic convolution."""
    return layer(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size[0],
        stride=conv.stride[0],
        padding=conv.padding[0],
        groups=conv.groups,
        bias=False,
        K=conv.num_kernels,
    )


def replace_layers(model: nn.Module, layer: type[nn.Module]) -> None:
    """Replace a model's dynamic convolutions by new layers of the class, in place."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, DynamicConv2d):
                setattr(parent, name, layer_like(child, layer))
