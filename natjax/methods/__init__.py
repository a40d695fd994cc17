"""Methods, one file each, named after it; `METHODS` holds their entries."""

from natjax.methods import differentiable
from natjax.methods import entry
from natjax.methods import nat
from natjax.methods import natpp

METHODS: dict[str, entry.Entry] = {
    "nat": nat.ENTRY, "natpp": natpp.ENTRY,
    "differentiable": differentiable.ENTRY}
