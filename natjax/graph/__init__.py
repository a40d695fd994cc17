"""Networks as graphs, and every form in which they are written.

`records` has the data structures. `codec` knows the spellings, of which
`genotype` (cells in a `skeleton`) and `blocks` are two; `shapes` computes
shapes, `live` says what carries a signal, `arrays` encodes cells for compiled
functions.
"""
