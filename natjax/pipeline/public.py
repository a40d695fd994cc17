"""What `natjax` itself offers, which is imported when it is first asked for."""

from natjax import costs as cost
from natjax import data, operations, zoo
from natjax.errors import InputError, NotMet
from natjax.graph import blocks, codec, skeleton
from natjax.graph import genotype as architecture
from natjax.graph.blocks import Block, BlockNetwork, Layer, Node
from natjax.graph.codec import Architecture
from natjax.graph.genotype import Cell, Edge, Genotype
from natjax.methods import METHODS
from natjax.methods.darts import DartsConfig
from natjax.methods.differentiable import DifferentiableConfig
from natjax.methods.entrannas import EnTranConfig
from natjax.methods.entrannas_dst import DSTConfig
from natjax.methods.it_nas import ITConfig
from natjax.methods.nat import NATConfig
from natjax.methods.random_search import RandomConfig
from natjax.methods.replace_config import ReplaceConfig
from natjax.methods.supervised import TrainConfig
from natjax.networks.flax_blocks import from_flax
from natjax.objectives.arcface import ArcFaceConfig
from natjax.objectives.simclr import SimCLRConfig
from natjax.pipeline import (
    Listener,
    presets,
    Printed,
    search,
    train,
    transform,
)
from natjax.pipeline.backbones import backbone
from natjax.pipeline.export import export, load_exported
from natjax.pipeline.networks import load
from natjax.pipeline.verify import verify
from natjax.pipeline.weights import load_weights, save_weights
from natjax.training.devices import configure_compilation
from natjax.zoo.exports import read

__all__ = ("METHODS", "ArcFaceConfig", "Architecture", "Block", "BlockNetwork",
           "Cell", "DSTConfig", "DartsConfig", "DifferentiableConfig", "Edge",
           "EnTranConfig", "Genotype", "ITConfig", "InputError", "Layer",
           "Listener", "NATConfig", "Node", "NotMet", "Printed",
           "RandomConfig", "ReplaceConfig", "SimCLRConfig", "TrainConfig",
           "architecture", "backbone", "blocks", "codec",
           "configure_compilation", "cost", "data", "export", "from_flax",
           "load", "load_exported", "load_weights", "operations", "presets",
           "read", "save_weights", "search", "skeleton", "train", "transform",
           "verify", "zoo")
