"""How much memory a file's activations take at one time, from their lifetimes."""

import dataclasses
from collections import defaultdict


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """The moment in which most activations live.

    Attributes:
        peak_bytes: what they take then. Where a file has several graphs (branches, loops), the peaks of all together:
            LiteRT gives each memory of its own.
        operator: place of the operator of the main graph that runs then, or `None` of a graph without one.
        tensors: `tuple` of places of the main graph's tensors that live then, the largest first.
        unpacked_bytes: of weights that an operator makes of constants alone (float16 weights as float32); runtimes
            unpack them when they load the file, or never, so they are not among the activations.
        has_open_sizes: whether a size is open, and was taken as 1.
        unknown: number of activations whose size the file does not tell, and which are not counted.
    """

    peak_bytes: int
    operator: int | None
    tensors: tuple[int, ...]
    unpacked_bytes: int = 0
    has_open_sizes: bool = False
    unknown: int = 0


def plan_memory(model_file):
    """Finds the most that the activations of a file take at one time.

    Operators run in the file's order. An activation lives from the operator that makes it to the last one that reads
    it; inputs from the beginning, outputs to the end (of a branch or loop what nothing in it reads); constants are not
    counted. Left out is what a runtime adds: alignment, gaps between tensors of different lifetimes, scratch buffers of
    its kernels, its own structures; and what it saves by computing in place. So the figure is neither a bound of the
    whole process nor that of an arena: it compares files, and shows whether one can fit at all. Measured beside it,
    tflite-micro's arena for activations took 65,536 bytes for 61,440 (int8) and 262,144 for 245,760 (float32), of
    MobileNetV2 0.5 at 32 px (2026-11-25).

    Args:
        model_file: `ModelFile`.

    Returns:
        `MemoryPlan`.

    Example:
        >>> plan_memory(read_model_file("flowers_int8.tflite")).peak_bytes  # doctest: +SKIP
        98304
    """
    unpacked = _unpacked(model_file)
    counted = {
        place: tensor
        for place, tensor in enumerate(model_file.tensors)
        if not tensor.is_constant and place not in unpacked
    }
    sizes, operators = defaultdict(dict), defaultdict(list)
    for place, tensor in counted.items():
        sizes[tensor.graph][place] = tensor.bytes(open_size=1) or 0
    for place, operator in enumerate(model_file.operators):
        operators[operator.graph].append(place)
    peak, at, alive = _peak(model_file, operators[0], sizes[0], model_file.inputs, model_file.outputs)
    inner = [_peak(model_file, operators[graph], sizes[graph], (), None)[0] for graph in sizes if graph != 0]
    return MemoryPlan(
        peak_bytes=peak + sum(inner),
        operator=at,
        tensors=tuple(sorted(alive, key=lambda place: -sizes[0][place])),
        unpacked_bytes=sum(model_file.tensors[place].bytes(open_size=1) or 0 for place in unpacked),
        has_open_sizes=any(None in (tensor.shape or ()) for tensor in counted.values()),
        unknown=sum(tensor.bytes(open_size=1) is None for tensor in counted.values()),
    )


def _unpacked(model_file):
    """Returns the places of tensors that are made of constants alone, by operators that unpack."""
    found = set()
    for operator in model_file.operators:
        reads = [place for place in operator.inputs if place >= 0]
        if operator.name in ("DEQUANTIZE", "DENSIFY", "DequantizeLinear") and all(
            model_file.tensors[place].is_constant for place in reads
        ):
            found.update(place for place in operator.outputs if place >= 0)
    return found - set(model_file.outputs)


def _peak(model_file, operators, sizes, inputs, outputs):
    """Returns the peak of one graph in bytes, the operator that runs then, and the places that live then.

    Its outputs are what nothing in it reads, if they are `None`.
    """
    births, deaths = {}, {}
    if outputs is None:
        is_read = {place for operator in operators for place in model_file.operators[operator].inputs}
        outputs = [place for place in sizes if place not in is_read]
    for step, place in enumerate(operators):
        operator = model_file.operators[place]
        for read in operator.inputs:
            if read in sizes:
                births.setdefault(read, 0)  # an input of a graph
                deaths[read] = step
        for made in operator.outputs:
            if made in sizes:
                births.setdefault(made, step)
                deaths.setdefault(made, step)
    for place in inputs:
        if place in sizes:
            births[place] = 0
            deaths.setdefault(place, 0)
    for place in outputs:
        if place in sizes:
            births.setdefault(place, 0)
            deaths[place] = max(len(operators) - 1, 0)
    steps = max(len(operators), 1)
    begun, ended = [[] for _ in range(steps)], [[] for _ in range(steps)]
    for place, birth in births.items():
        begun[birth].append(place)
        ended[deaths[place]].append(place)
    most, when, living = -1, 0, 0
    for step in range(steps):
        living += sum(sizes[place] for place in begun[step])
        if living > most:
            most, when = living, step
        living -= sum(sizes[place] for place in ended[step])
    alive = [place for place, birth in births.items() if birth <= when <= deaths[place]]
    return most, operators[when] if operators else None, alive
