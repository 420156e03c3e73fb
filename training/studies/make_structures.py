"""Writes the structures that the studies compare, beside the recipe of a small network.

python training/studies/make_structures.py training/studies/resnet18_small.yaml training/studies/structures/resnet18
"""

import dataclasses
import sys
from pathlib import Path

from auxzoo.auxiliary import SearchSpace
from auxzoo.training import read_recipe
from auxzoo.training.run import build_compact

WIDTHS = (1, 2, 4)
RANDOM_SEEDS = (1, 2, 3)


def structures(network):
    """Yields `(name, structure)`."""
    made_by = {"made_by": "training/studies/make_structures.py"}
    for width in WIDTHS:
        space = SearchSpace.default(network, None, width, ["convolution_3x3"], supervision="hierarchical")
        ends = [(node.name, node.resolution) for node in space.nodes]
        stem = (space.nodes[0].name, space.nodes[0].links[0])
        ends_structure = space.structure([stem, *ends], provenance=made_by)
        yield f"ends_width{width}", ends_structure
        yield f"both_width{width}", dataclasses.replace(ends_structure, supervision="both")
        if width == 2:
            yield f"open_width{width}", space.structure(space.links, provenance=made_by)
        deep = dataclasses.replace(space, supervision="deep")
        name = "deep_supervision" if width == 1 else f"deep_width{width}"
        yield name, deep.structure(ends, provenance=made_by)
        if width == 1:
            yield "deep_late", deep.structure(ends[len(ends) // 2 :], provenance=made_by)
    # Cheap heads, behind adapters alone: at every stage, at every second, and wide ones at the early and narrow stages.
    space = SearchSpace.default(network, operations=["identity"], supervision="deep")
    yield "cheap_supervision", space.structure(ends, provenance=made_by)
    yield "cheap_alternate", space.structure(ends[1::2], provenance=made_by)
    space = SearchSpace.default(network, None, 4, ["identity"], supervision="deep")
    early = ends[: (len(ends) + 1) // 2]
    yield "deep_early", space.structure(early, provenance=made_by)
    for seed in RANDOM_SEEDS:
        # Of as many links, anywhere: what a search of such heads must beat.
        yield f"cheap_random{seed}", space.random(len(early), seed)
    space = SearchSpace.default(network, supervision="deep")
    yield "deep_open", space.structure(space.links, {node.name: "convolution_3x3" for node in space.nodes}, made_by)
    for seed in RANDOM_SEEDS:
        # As many links as deep supervision has, and so what is searched.
        yield f"deep_random{seed}", space.random(len(space.nodes), seed)


def main(recipe, folder):
    """Writes every structure as JSON."""
    network = build_compact(read_recipe(recipe))
    for name, structure in structures(network):
        structure.save(Path(folder) / f"{name}.json")
        print(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
