"""The methods that are known, by name."""

from natjax.methods import (
    climb,
    darts,
    differentiable,
    entrannas,
    entrannas_dst,
    entry,
    evolved,
    it_nas,
    nat,
    natpp,
    random_search,
    replace,
    spos,
)

#: What `--method` names; other packages add to it (`pipeline.plugins`).
METHODS: dict[str, entry.Entry] = {
    "nat": nat.ENTRY, "natpp": natpp.ENTRY,
    "differentiable": differentiable.ENTRY, "darts": darts.ENTRY,
    "entrannas": entrannas.ENTRY, "entrannas-dst": entrannas_dst.ENTRY,
    "it-nas": it_nas.ENTRY, "spos": spos.ENTRY, "evolution": evolved.ENTRY,
    "climb": climb.ENTRY, "random": random_search.ENTRY,
    "replace": replace.ENTRY}
