"""Pictures of architectures, of learning curves, of candidates and of maps.

A cell is drawn from left to right, as in Guo et al., 2021, "Towards Accurate
and Compact Architectures via Neural Architecture Transformer", Fig. 5: the two
inputs (nodes 0 and 1), the intermediate nodes from 2 on, numbered as in files,
tables and `changes`, the output; edges carry the names of their operations, and
thin edges lead from the concatenated nodes to the output.
Drawn together with its transformation, what changed is coloured.

`comparison` finds what changed, `positions` places one cell, `scene` makes the
whole picture, a list of the primitives in `shapes`, and `render` writes it.
"""

from natjax.drawing.activation import save_activation, save_activations
from natjax.drawing.attention import attention_bars, save_attention
from natjax.drawing.candidates import (
    pareto_front,
    price_curve,
    save_pareto,
    save_prices,
)
from natjax.drawing.comparison import Change, changes, edge_names
from natjax.drawing.curves import (
    alpha_curves,
    learning_curves,
    save_alpha,
    save_theta,
    theta_curves,
)
from natjax.drawing.render import draw, save

__all__ = ["Change", "alpha_curves", "attention_bars", "changes", "draw",
           "edge_names", "learning_curves", "pareto_front", "price_curve",
           "save", "save_activation", "save_activations", "save_alpha",
           "save_attention", "save_pareto", "save_prices", "save_theta",
           "theta_curves"]
