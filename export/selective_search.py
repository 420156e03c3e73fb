"""Searching few and light layers that stay float32 for a file to lose little. For the child process that converts."""

import dataclasses

from auxzoo.child_process import tell_parent

from .layer_operators import layers_by_operator
from .refused import Refused
from .trials import Subset, Trials, drop_of, points

# Of the weights that may stay float32: with more of them the float16 file would be smaller, and exact.
LARGEST_FLOAT_SHARE = 1 / 3


@dataclasses.dataclass(frozen=True)
class Search:
    """What is searched for.

    Attributes:
        max_drop: `float`, points of accuracy or mean IoU that the file may lose against float32.
        subset: `Subset`, the tuning images: neither calibrated on nor evaluated on.
    """

    max_drop: float
    subset: Subset


def find_float_layers(search, quantizer, form, kept, folder):
    """Finds the layers that stay float.

    Layers are tried alone first: what the error of the outputs falls by when one stays float. By that order, and by
    what falls for each weight, in steps that double and then halve, the least number is found whose file meets the
    limit on the tuning images; of these, from the heaviest on, each is quantised again where the limit is met without
    it. Of all files that were tried and meet the limit, those of one layer among them, the smallest is chosen. It need
    not be the smallest there is; where the layers' shares of the loss add up, it is in nine of ten cases.

    Args:
        search: `Search`.
        quantizer: a `Quantizer`.
        form: `Format` that is tried.
        kept: names of layers that stay float in any case.
        folder: `Path` for the file under trial.

    Returns:
        `dict` for the record: `keep_float`; `max_drop`; `drop` on the tuning images; `trials`, how many files were
        measured; `images`, the tuning images' manifest; `layers`, what each saves alone.

    Raises:
        Refused: if no setting with a third of the weights in float32 meets the limit.
    """
    trials = Trials(search.subset, quantizer.float_content, folder)
    sizes = quantizer.weights
    measured = {}

    def measure(layers):
        layers = tuple(sorted(layers))
        if layers not in measured:
            measured[layers] = trials.measure(quantizer.content(form, [*kept, *layers]))
            tell_parent(folder, f"searching layers for float32: {len(measured)} file{'s' * (len(measured) > 1)} tried")
        return measured[layers]

    def drop(layers):
        return drop_of(measure(layers), trials.float)

    def told(layers):
        return {
            "keep_float": [*kept, *layers],
            "max_drop": search.max_drop,
            "drop": round(drop(layers), 4),
            "drop_without": round(drop(()), 4),
            "float": points(trials.float["scores"]),
            "trials": len(measured),
            "images": search.subset.images.manifest(),
            "layers": savings,
        }

    savings = []
    if drop(()) <= search.max_drop:
        return told([])
    base = measure(())["error"]
    candidates = [layer for layer in layers_by_operator(quantizer.operators, sizes) if layer not in kept]
    for layer in candidates:
        saved = base - measure((layer,))["error"]
        savings.append({"layer": layer, "weights": sizes.get(layer, 0), "error_saved": round(saved, 6)})
    budget = LARGEST_FLOAT_SHARE * sum(sizes.values()) - sum(sizes.get(layer, 0) for layer in kept)
    useful = [one for one in savings if one["error_saved"] > 0]
    for worth in (lambda one: one["error_saved"], lambda one: one["error_saved"] / max(1, one["weights"])):
        allowed, used = [], 0
        for one in sorted(useful, key=worth, reverse=True):
            if used + one["weights"] <= budget:
                allowed.append(one["layer"])
                used += one["weights"]
        count = _least_count(lambda count, order=allowed: drop(order[:count]) <= search.max_drop, len(allowed))
        chosen = [] if count is None else allowed[:count]
        for layer in sorted(chosen, key=lambda layer: -sizes.get(layer, 0)):
            without = [other for other in chosen if other != layer]
            if drop(without) <= search.max_drop:
                chosen = without
    fitting = [
        layers
        for layers in measured
        if drop(layers) <= search.max_drop and sum(sizes.get(layer, 0) for layer in layers) <= budget
    ]
    if not fitting:
        best = min(measured, key=lambda layers: drop_of(measured[layers], trials.float))
        raise Refused(
            f"no choice of layers in float32 keeps the drop at {search.max_drop} points on "
            f"{search.subset.images.size} tuning images with two thirds of the weights in whole numbers; "
            f"best of {len(measured)} tried: {drop_of(measured[best], trials.float):.2f} points"
        )
    return told(min(fitting, key=lambda layers: (measured[layers]["bytes"], len(layers))))


def _least_count(meets, largest):
    """Returns the least count that meets the limit, as far as doubling and halving finds it, or `None`."""
    low, high = 0, min(1, largest)  # low does not meet it, or is 0
    while high < largest and not meets(high):
        low, high = high, min(2 * high, largest)
    if largest == 0 or not meets(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(middle) else (middle, high)
    return high
