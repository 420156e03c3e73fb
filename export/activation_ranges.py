"""The ranges of a network's activations on calibration images, by several rules.

TensorFlow's converter measures lowest and highest values itself, too wide where a sum is written over one of its terms:
its range of the term holds the sum as well. Those here are of every tensor as it was computed.
"""

import numpy as np

PERCENTILE = 99.99
_BINS = 4096
_SHARES = np.linspace(0.2, 1.0, 17)  # of the whole range on one side, that are tried


def activation_ranges(content, images, method, levels=256):
    """Runs a float32 file on images and chooses the range of every activation.

    Args:
        content: `bytes` of a TFLite file of float32.
        images: float32 `[count, height, width, 3]`, preprocessed.
        method: `"min_max"`; `"percentile"`: the range that holds the middle 99.99 % of the values; or `"mse"`: the one
            with the least mean squared error of rounding to `levels` and clipping.
        levels: `int`, how many numbers the type has.

    Returns:
        `dict` of tensor name to `(lowest, highest)`; zero is always in it, as both engines need.

    Example:
        >>> activation_ranges(content, images, "percentile")["StatefulPartitionedCall:0"]
        (-11.3, 18.9)
    """
    run = _runner(content)
    lowest, highest = {}, {}
    for image in images:
        for name, values in run(image):
            lowest[name] = min(lowest.get(name, 0.0), float(values.min()))
            highest[name] = max(highest.get(name, 0.0), float(values.max()))
    whole = {name: (lowest[name], highest[name]) for name in lowest}
    if method == "min_max":
        return whole
    counts = {name: np.zeros(_BINS, np.int64) for name in whole}
    for image in images:
        for name, values in run(image):
            low, high = whole[name]
            if high > low:
                bins = ((values.reshape(-1) - low) * (_BINS / (high - low))).astype(np.int32)
                counts[name] += np.bincount(np.clip(bins, 0, _BINS - 1), minlength=_BINS)
    choose = {"percentile": _percentile, "mse": _least_squares}[method]
    return {
        name: choose(counts[name], *limits, levels) if counts[name].any() else limits for name, limits in whole.items()
    }


def _runner(content):
    """Returns a function of an image that yields the name and values of every activation."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        # The fast kernels keep no tensors between them.
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        num_threads=2,
    )
    interpreter.allocate_tensors()
    image_index = interpreter.get_input_details()[0]["index"]
    computed = {index for operator in interpreter._get_ops_details() for index in operator["outputs"]}
    details = [one for one in interpreter.get_tensor_details() if one["index"] in computed | {image_index}]
    details = [one for one in details if one["dtype"] == np.float32]

    def run(image):
        interpreter.set_tensor(image_index, image[None])
        interpreter.invoke()
        for one in details:
            yield one["name"], interpreter.get_tensor(one["index"])

    return run


def _percentile(counts, low, high, levels):
    cumulated = np.cumsum(counts) / counts.sum()
    edges = np.linspace(low, high, _BINS + 1)
    outside = (1 - PERCENTILE / 100) / 2
    first = np.searchsorted(cumulated, outside, side="left")
    last = np.searchsorted(cumulated, 1 - outside, side="left")
    return float(min(edges[first], 0.0)), float(max(edges[last + 1], 0.0))


def _least_squares(counts, low, high, levels):
    filled = counts > 0
    edges = np.linspace(low, high, _BINS + 1)
    values, weights = ((edges[1:] + edges[:-1]) / 2)[filled], counts[filled]
    best = (np.inf, low, high)
    for one_low in low * _SHARES if low < 0 else [0.0]:
        for one_high in high * _SHARES if high > 0 else [0.0]:
            step = (one_high - one_low) / (levels - 1)
            rounded = np.clip(np.round((values - one_low) / step), 0, levels - 1) * step + one_low
            error = float((weights * (rounded - values) ** 2).sum())
            best = min(best, (error, float(one_low), float(one_high)))
    return best[1:]
