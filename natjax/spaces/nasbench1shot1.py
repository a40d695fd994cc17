"""The spaces of NAS-Bench-1Shot1, searched by a supernet.

Zela, Siems, Hutter: "NAS-Bench-1Shot1: Benchmarking and Dissecting One-shot
Neural Architecture Search", ICLR 2020, section 3 (`zoo.nasbench1shot1`, which
says where networks differ). What is found is a cell of NAS-Bench-101, and is
handed on without nodes that lead nowhere (a node is searched with its number of
parents and need not be one), which the benchmark does not count either.

In search, as in the released code: nodes that take all that comes before them
have nothing to choose, and weigh nothing; pooling is not normalised. BN
normalises by the batch without parameters, and convolutions have biases.
"""

from natjax import operations, zoo
from natjax.graph import nasbench1shot1
from natjax.spaces import base


def make(name: str) -> base.Space:
  """A space, by its name in `graph.nasbench1shot1.PARENTS` (InputError)."""
  ways, own = nasbench1shot1.ways(name), zoo.nasbench1shot1
  choices: list[tuple[str, ...]] = []
  parents: list[int] = []
  for i, some in enumerate(ways, 1):
    free = len(some) > 1
    choices += [(own.brings(p), operations.NULL) if free else ()
                for p in range(i)]
    parents.append(len(some[0]) if free else 0)
    if i < len(ways):
      choices.append(own.OPERATIONS)
      parents.append(1)
  # Of cells, and of a pooling that has nothing to decide.
  return base.Space(
      name, own.graph(name), (*own.OPERATIONS, operations.SKIP,
                              operations.NULL),
      (tuple(choices), ((),)), several=False, search_bias=True,
      parents=(tuple(parents), (0,)), unfold=own.unfold)


SPACES = tuple(map(make, nasbench1shot1.PARENTS))
