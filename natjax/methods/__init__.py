"""Methods, one file each, named after it; `METHODS` holds their entries."""

from natjax.methods import differentiable, entry, nat, natpp

METHODS: dict[str, entry.Entry] = {"nat": nat.ENTRY, "natpp": natpp.ENTRY,
                                   "differentiable": differentiable.ENTRY}
