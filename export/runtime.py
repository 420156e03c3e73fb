"""Running exported files: one face for TFLite and ONNX."""

import contextlib
from pathlib import Path

import numpy as np

from auxzoo.errors import UserError, first_line
from auxzoo.machine import quiet_stderr

from .model_file import is_tflite, read_model_file
from .onnx_options import LAYOUT_KEY


def open_file(path, threads=1):
    """Opens a TFLite or ONNX file for running.

    Args:
        path: `str` or `Path`, ending in `.tflite` or `.onnx`.
        threads: `int`, threads of an operator.

    Returns:
        an object with `predict(images)`: float32 `[batch, height, width, 3]`, preprocessed, to float32 logits
        `[batch, ...]` (int32 classes where the file gives such), of a file with several outputs a `dict` of name to
        them, one image after the other; `tensors()`: names, shapes and number types of input and output; `run_once()`
        for timing.

    Raises:
        UserError: if it is missing, empty, truncated, of another kind, or has operators that are not built in.

    Example:
        >>> logits = open_file("flowers_int8.tflite").predict(images)
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"`{path}` is not a file.")
    if path.suffix == ".tflite":
        return TFLiteFile(path, threads)
    if path.suffix == ".onnx":
        return ONNXFile(path, threads)
    raise UserError(f"`path` must end in .tflite or .onnx. Received: `{path}`")


class TFLiteFile:
    """A TFLite file in LiteRT's interpreter."""

    def __init__(self, path, threads):
        from ai_edge_litert.interpreter import Interpreter

        content = path.read_bytes()
        if not is_tflite(content):
            raise UserError(f"`{path}` is not a TFLite file.")
        self.path = path
        with _readable(path), quiet_stderr():
            self._interpreter = Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or not outputs:
            raise UserError(f"`{path}` must have one input, and an output. Received: {len(inputs)} inputs")
        self._input = inputs[0]
        with _readable(path):
            self._input_name, self._outputs = self._named(outputs)
        _check_single_image(path, self._input["shape"].tolist())
        if self._input["dtype"] != np.float32 and not self._input["quantization"][0]:
            raise UserError(
                f"`{path}` must take float32 images, or integers with a scale. "
                f"Received: an input of {np.dtype(self._input['dtype']).name} without one"
            )
        read_model_file(path)  # damaged names show here, not when a record is written
        with _readable(path):
            self.tensors()

    def _named(self, outputs):
        """Returns the input's name and the outputs by name: those of the signature, or the tensors' own."""
        signatures = self._interpreter.get_signature_list()
        if not signatures:
            return "", {output["name"] if len(outputs) > 1 else "": output for output in outputs}
        name, signature = next(iter(signatures.items()))
        by_index = {output["index"]: output for output in outputs}
        of_signature = self._interpreter.get_signature_runner(name).get_output_details()
        return signature["inputs"][0], {name: by_index[of_signature[name]["index"]] for name in signature["outputs"]}

    def predict(self, images):
        """Returns float32 logits of float32 images, quantising and dequantising as the file says."""
        results = {name: [] for name in self._outputs}
        for image in _checked_images(images, self._input["shape"].tolist()):
            with _readable(self.path):
                self._interpreter.set_tensor(self._input["index"], _quantized(image[None], self._input))
                self._interpreter.invoke()
                for name, output in self._outputs.items():
                    results[name].append(_dequantized(self._interpreter.get_tensor(output["index"]), output))
        return _one_or_all({name: np.concatenate(values) for name, values in results.items()})

    def run_once(self):
        """Runs the network on what its input holds."""
        self._interpreter.invoke()

    def tensors(self):
        """Returns `{"input": ..., "output": ...}`: name in the signature, shape, number type, quantisation.

        Of a file with several outputs `"outputs"`, a list of them.
        """

        def described(name, detail):
            scale, zero_point = detail["quantization"]
            return {
                "name": name,
                "shape": [int(size) for size in detail["shape"]],
                "type": np.dtype(detail["dtype"]).name,
                **({"scale": float(scale), "zero_point": int(zero_point)} if scale else {}),
            }

        outputs = [described(name, detail) for name, detail in self._outputs.items()]
        return {"input": described(self._input_name, self._input), **_output_or_outputs(outputs)}


class ONNXFile:
    """An ONNX file in onnxruntime; images and what it gives for every pixel are channels last, however the file is.

    The file's property `image_layout` tells, NHWC or NCHW. Of a file without it three channels before the rows, and not
    behind the columns, mean NCHW, `[batch, 3, height, width]`; then outputs of four axes are taken for NCHW too.
    """

    def __init__(self, path, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = threads
        options.log_severity_level = 4  # errors are raised; printed as well they would be told twice
        # Weights may lie in other files beside it, which what is read as bytes has no place for.
        folder = str(path.resolve().parent)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        content = path.read_bytes()
        self.path = path
        with _readable(path):
            self._session = _open_session(content, options)
        inputs, self._outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or not self._outputs:
            raise UserError(f"`{path}` must have one input, and an output. Received: {len(inputs)} inputs")
        self._input = inputs[0]
        shape = list(self._input.shape)
        if shape and not isinstance(shape[0], int):
            shape[0] = 1  # an open batch, as in files of other exporters
        _check_single_image(path, shape)
        if self._input.type != "tensor(float)":
            raise UserError(f"`{path}` must take float32. Received: {self._input.type}")
        self._image = np.zeros(shape, np.float32)
        self.is_dynamic = not isinstance(self._input.shape[0], int)
        self._is_channels_first = self._find_channels_first(shape)

    def _find_channels_first(self, shape):
        with _readable(self.path):
            stated = self._session.get_modelmeta().custom_metadata_map.get(LAYOUT_KEY)
        if stated is None:
            return len(shape) == 4 and shape[1] == 3 and shape[3] != 3
        if stated not in ("NHWC", "NCHW") or len(shape) != 4:
            raise UserError(
                f"`{self.path}` must have the {LAYOUT_KEY} NHWC or NCHW, of an image of four axes. "
                f"Received: {stated[:20]!r}, shape {shape}"
            )
        return stated == "NCHW"

    def predict(self, images, batch=1):
        """Returns float32 logits of float32 images, `batch` of them at once where the file takes several."""
        if batch != 1 and not self.is_dynamic:
            raise UserError(f"`batch` must be 1: `{self.path}` takes one image. Received: batch={batch!r}")
        shape = self._image.shape
        images = _checked_images(images, (1, *shape[2:], shape[1]) if self._is_channels_first else shape)
        if self._is_channels_first:
            images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        with _readable(self.path):
            results = [self._run(images[start : start + batch]) for start in range(0, len(images), batch)]
        if self._is_channels_first:
            results = [[np.moveaxis(one, 1, 3) if one.ndim == 4 else one for one in result] for result in results]
        names = [output.name for output in self._outputs]
        return _one_or_all(dict(zip(names, map(np.concatenate, zip(*results, strict=True)), strict=True)))

    def run_once(self):
        """Runs the network on an image of zeros."""
        self._run(self._image)

    def _run(self, image):
        return self._session.run([output.name for output in self._outputs], {self._input.name: image})

    def tensors(self):
        """Returns `{"input": ..., "output": ...}`: name, shape and number type; of several outputs `"outputs"`."""

        def described(tensor):
            return {"name": tensor.name, "shape": list(tensor.shape), "type": tensor.type}

        return {"input": described(self._input), **_output_or_outputs([described(one) for one in self._outputs])}


def _one_or_all(results):
    """Returns the one result, or all by name where there are several."""
    return results if len(results) > 1 else next(iter(results.values()))


def _output_or_outputs(outputs):
    return {"outputs": outputs} if len(outputs) > 1 else {"output": outputs[0]}


def _open_session(content, options):
    """Returns onnxruntime's session, in which int8 products are added as everywhere but on some processors."""
    import onnxruntime

    def opened():
        # The fallback tries the same provider again, and prints.
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)

    # Else processors with AVX2 and without VNNI add int8 products in 16 bits, which run over: no phone does.
    options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return opened()
    except Exception as error:  # they have no common class of their own
        # What it does to a constant that several nodes read, as in files of other quantisers (onnxruntime 1.32).
        if "Attempt to replace the existing tensor" not in str(error):
            raise
    options.add_session_config_entry("session.x64quantprecision", "0")
    return opened()


@contextlib.contextmanager
def _readable(path):
    """Turns whatever an interpreter says of a damaged or foreign file into a `UserError` that names it."""
    try:
        yield
    except Exception as error:  # onnxruntime's errors have no common class of their own
        raise UserError(f"`{path}` cannot be run: {first_line(error)}") from None


def _check_single_image(path, shape):
    if not all(isinstance(size, int) for size in shape) or shape[:1] != [1]:
        raise UserError(f"`{path}` must take one image of a fixed size. Received: an input of shape {shape}")


def _checked_images(images, shape):
    """Returns images as float32; `shape` is that of the file's input."""
    images = np.asarray(images, np.float32)
    if images.shape[1:] != tuple(shape[1:]) or len(images) == 0:
        raise UserError(
            f"`images` must be of shape [count, {', '.join(map(str, shape[1:]))}]. Received: shape {images.shape}"
        )
    return images


def _quantized(values, detail):
    if detail["dtype"] == np.float32:
        return values
    scale, zero_point = detail["quantization"]
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(detail["dtype"])


def _dequantized(values, detail):
    scale, zero_point = detail["quantization"]
    if not scale:  # float32, or classes
        return values
    return ((values.astype(np.float32) - zero_point) * scale).astype(np.float32)
