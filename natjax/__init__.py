"""natjax: takes a network's architecture and returns a better or cheaper one.

The main jobs are `transform` and `train`; `load` brings back a trained
network. Everything below them is public too: `natjax.architecture`,
`natjax.operations`, `natjax.cost`, `natjax.networks`, `natjax.policies`,
`natjax.methods`, `natjax.training`, `natjax.data`.
"""

from natjax.architecture import Cell
from natjax.architecture import Edge
from natjax.architecture import Genotype
from natjax.blocks import Block
from natjax.blocks import BlockNetwork
from natjax.blocks import Layer
from natjax.blocks import Node
from natjax.codec import Architecture
from natjax.codec import read
from natjax.errors import InputError
from natjax.methods.differentiable import DifferentiableConfig
from natjax.methods.nat import NATConfig
from natjax.methods.simclr import SimCLRConfig
from natjax.methods.supervised import TrainConfig
from natjax.pipeline import train
from natjax.pipeline import transform
from natjax.runs import load
from natjax.training.devices import configure_compilation

__all__ = (
    "Architecture",
    "Block",
    "BlockNetwork",
    "Cell",
    "DifferentiableConfig",
    "Edge",
    "Genotype",
    "InputError",
    "Layer",
    "NATConfig",
    "Node",
    "SimCLRConfig",
    "TrainConfig",
    "configure_compilation",
    "load",
    "read",
    "train",
    "transform",
)

__version__ = "0.1.0"
