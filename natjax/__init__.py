"""natjax: takes a network's architecture and returns a better or cheaper one.

The main jobs are `transform`, `search` and `train`; `load` brings back a
trained network. Everything below them is public too: `natjax.graph`
(architectures; `natjax.blocks`, `natjax.codec` and `natjax.skeleton` are parts
of it), `natjax.operations`, `natjax.cost`, `natjax.zoo`, `natjax.networks`,
`natjax.policies`, `natjax.methods`, `natjax.training`, `natjax.data`.
"""

from natjax import costs as cost
from natjax import data
from natjax import operations
from natjax import zoo
from natjax.errors import InputError
from natjax.errors import NotMet
from natjax.graph import blocks
from natjax.graph import codec
from natjax.graph import genotype as architecture
from natjax.graph import skeleton
from natjax.graph.blocks import Block
from natjax.graph.blocks import BlockNetwork
from natjax.graph.blocks import Layer
from natjax.graph.blocks import Node
from natjax.graph.codec import Architecture
from natjax.graph.codec import read
from natjax.graph.genotype import Cell
from natjax.graph.genotype import Edge
from natjax.graph.genotype import Genotype
from natjax.methods import METHODS
from natjax.methods.differentiable import DifferentiableConfig
from natjax.methods.nat import NATConfig
from natjax.methods.supervised import TrainConfig
from natjax.objectives.simclr import SimCLRConfig
from natjax.pipeline import Listener
from natjax.pipeline import presets
from natjax.pipeline import search
from natjax.pipeline import train
from natjax.pipeline import transform
from natjax.pipeline.runs import load
from natjax.training.devices import configure_compilation

__all__ = (
    "METHODS", "Architecture", "Block", "BlockNetwork", "Cell",
    "DifferentiableConfig", "Edge", "Genotype", "InputError", "Layer",
    "Listener", "NATConfig", "Node", "NotMet", "SimCLRConfig", "TrainConfig",
    "architecture", "blocks", "codec", "configure_compilation", "cost", "data",
    "load", "operations", "presets", "read", "search", "skeleton", "train",
    "transform", "zoo")

__version__ = "0.2.0"
