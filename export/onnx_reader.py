"""Reading an ONNX file in a child process, without trusting it.

A protocol buffer of a few bytes can ask for a hundred times its size, and shape inference is C++ that a hostile file
may bring down or keep busy. So both happen in a child of limited time and memory, which reads one file after the other
and answers in JSON; where it dies, the file is told and the next one gets a new child.
"""

import atexit
import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path

from auxzoo.child_process import ChildFailed
from auxzoo.errors import LONGEST_REASON, UserError

from .model_file import LARGEST_METADATA, MOST_PARTS, ONNX_PREFIX, ModelFile, Operator, Tensor, is_possible_shape

_SECONDS = 8
_MEMORY = 4 * 2**30  # of addresses, of which Python and onnx take 0.2 GB
_LARGEST_SHAPE = 1024  # bytes; constants of more are weights, which no shape depends on
_DEEPEST = 20  # graphs inside graphs
_STANDARD = ("", "ai.onnx")


def read_onnx(path):
    """Returns the `ModelFile` of an ONNX file.

    Raises:
        UserError: if it is none, is damaged, or takes too long or too much memory to read.
    """
    answer = _reader.ask(path)
    if "error" in answer:
        raise UserError(f"`{path}` {answer['error']}")
    return ModelFile(
        kind="onnx",
        version=answer["version"],
        opsets=answer["opsets"],
        operators=tuple(
            Operator(name, version, tuple(inputs), tuple(outputs), is_custom, graph)
            for name, version, inputs, outputs, is_custom, graph in answer["operators"]
        ),
        tensors=tuple(
            Tensor(**{**tensor, "shape": None if tensor["shape"] is None else tuple(tensor["shape"])})
            for tensor in answer["tensors"]
        ),
        inputs=tuple(answer["inputs"]),
        outputs=tuple(answer["outputs"]),
        properties=answer["properties"],
        size=path.stat().st_size,
        made_by=answer["made_by"],
    )


class _Reader:
    """The child process, started when it is first asked."""

    def __init__(self):
        self._child, self._lock = None, threading.Lock()

    def ask(self, path):
        """Returns what the child answers of a file, or `{"error": ...}` where it died of it."""
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                self._start()
            child, late = self._child, threading.Event()

            def stop():
                late.set()
                child.kill()

            timer = threading.Timer(_SECONDS, stop)
            timer.start()
            try:
                child.stdin.write(json.dumps(str(path.resolve())).encode() + b"\n")
                child.stdin.flush()
                line = child.stdout.readline()
            except BrokenPipeError:
                line = b""
            except BaseException:  # interrupted: its answer must not be taken for that to the next file
                self.close()
                raise
            finally:
                timer.cancel()
            if line.endswith(b"\n"):
                if late.is_set():  # it was about to answer
                    self.close()
                return json.loads(line)
            code = child.wait()  # its output has ended, and so does it
            self.close()
            if late.is_set():
                return {"error": f"cannot be read: it takes more than {_SECONDS} s"}
            return {"error": f"cannot be read: its reader ended with code {code}"}

    def _start(self):
        self.close()
        self._child = subprocess.Popen(
            # -P: a folder `auxzoo` where the user happens to stand must not hide the installed package.
            [sys.executable, "-P", "-m", "auxzoo.export.onnx_reader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if json.loads(self._child.stdout.readline() or b"null") != "ready":
            raise ChildFailed("The child process that reads ONNX files does not start.")

    def close(self):
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            with contextlib.suppress(BrokenPipeError):  # of what it had not taken any more
                self._child.stdin.close()
            self._child.stdout.close()
            self._child = None


_reader = _Reader()
atexit.register(_reader.close)


class _Damaged(Exception):
    """What is wrong with a file."""


class _Foreign(Exception):
    """Why a file is none of ONNX."""


def _text(name):
    """Returns a text; protobuf gives it as bytes where it is none."""
    if isinstance(name, bytes):
        raise _Damaged("a name in it is no text")
    return name


def main():
    """Runs in the child: answers every line, a path, by a line of JSON."""
    import os

    import onnx
    import onnx.defs
    import onnx.inliner
    import onnx.shape_inference

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    except (ImportError, ValueError, OSError):  # not on every system, nor where the limit is lower already
        pass
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        try:
            answer = _Description(Path(json.loads(line)), onnx).answer()
        except _Damaged as error:
            answer = {"error": f"is damaged: {str(error)[:LONGEST_REASON]}"}
        except _Foreign as error:
            answer = {"error": f"is neither a TFLite nor an ONNX file: {error}"}
        except MemoryError:
            answer = {"error": "cannot be read: it takes too much memory"}
        print(json.dumps(answer), file=answers)


class _Description:
    """The answer to one file, put together graph by graph."""

    def __init__(self, path, onnx):
        from google.protobuf.message import DecodeError

        self._onnx = onnx
        self._types = {
            number: {"FLOAT": "float32", "DOUBLE": "float64", "UNDEFINED": "unknown"}.get(name, name.lower())
            for name, number in onnx.TensorProto.DataType.items()
        }
        self._tensors, self._operators, self._graphs = [], [], 0
        try:
            self._model = onnx.ModelProto.FromString(path.read_bytes())
        except DecodeError:
            raise _Foreign("it is cut off, or something else") from None
        if not self._model.HasField("graph") or not self._model.graph.output:
            raise _Foreign("it has no graph with an output")
        self._model = self._inlined()
        self._opsets = {_text(opset.domain): opset.version for opset in self._model.opset_import}
        if not any(domain in self._opsets for domain in _STANDARD):
            self._opsets[""] = 1  # of files of the first version
        self._opsets = {"" if domain == "ai.onnx" else domain: version for domain, version in self._opsets.items()}

    def _inlined(self):
        """Returns the model with what its own functions do in the place of their calls; as it is where that fails."""
        if not self._model.functions:
            return self._model
        try:
            return self._onnx.inliner.inline_local_functions(self._model)
        except Exception:  # of several kinds without a common class; then the calls are told, as operators of a domain
            return self._model

    def answer(self):
        graph = self._inferred()
        names, _ = self._graph(graph, {}, 0)
        self._count_scales()
        return {
            "version": self._model.ir_version,
            "opsets": self._opsets,
            "operators": self._operators,
            "tensors": self._tensors,
            "inputs": [names[one.name] for one in graph.input if not self._tensors[names[one.name]]["is_constant"]],
            "outputs": [self._place(self._named(one), names) for one in graph.output],
            "properties": self._properties(),
            "made_by": f"{_text(self._model.producer_name)} {_text(self._model.producer_version)}".strip(),
        }

    @staticmethod
    def _named(output):
        if not output.name:
            raise _Damaged("an output of it has no name")
        return output.name

    def _properties(self):
        """Returns our own metadata properties."""
        entries = self._model.metadata_props
        if len(entries) > MOST_PARTS:
            raise _Damaged(f"it has more than {MOST_PARTS:,} parts")
        # Bytes where it is no text.
        own = {entry.key: entry.value for entry in entries if str(entry.key).startswith(ONNX_PREFIX)}
        if not all(isinstance(text, str) for entry in own.items() for text in entry):
            raise _Damaged("its metadata properties are not UTF-8")
        if sum(map(len, own.values())) > LARGEST_METADATA:
            raise _Damaged(f"its metadata are more than {LARGEST_METADATA:,} bytes")
        return own

    def _inferred(self):
        """Returns the main graph with its shapes; as it is where they cannot be inferred."""
        for weight in self._model.graph.initializer:
            if weight.ByteSize() > _LARGEST_SHAPE:  # its values are of no use to anybody here
                kept = self._onnx.TensorProto(name=weight.name, dims=weight.dims, data_type=weight.data_type)
                weight.CopyFrom(kept)
        try:
            return self._onnx.shape_inference.infer_shapes(self._model).graph
        except Exception:  # of several kinds without a common class; operators of a later version are among the reasons
            return self._model.graph

    def _graph(self, graph, outer, depth):
        """Describes a graph and those inside it; returns its names' places, and those of outer graphs that are read.

        An operator that holds a graph reads what that reads of this one: its life ends no earlier.
        """
        if depth > _DEEPEST:
            raise _Damaged(f"its graphs lie in each other more than {_DEEPEST} deep")
        number, names, captured = self._graphs, {}, set()
        self._graphs += 1
        for weight in graph.initializer:
            self._add(names, weight.name, list(weight.dims), weight.data_type, number, is_constant=True)
        for weight in graph.sparse_initializer:
            self._add(names, weight.values.name, list(weight.dims), weight.values.data_type, number, is_constant=True)
        for value in [*graph.input, *graph.output, *graph.value_info]:
            if value.name not in names:
                tensor = value.type.tensor_type
                shape = None
                if tensor.HasField("shape"):
                    # Some exporters write -1 for an open size, and so does the inference itself.
                    sizes = [size.dim_value if size.HasField("dim_value") else -1 for size in tensor.shape.dim]
                    shape = [None if size < 0 else size for size in sizes]
                self._add(names, value.name, shape, tensor.elem_type, number)
        inside = []
        for node in graph.node:
            for output in node.output:
                if output and output not in names:
                    self._add(names, output, None, 0, number)
                if output and node.op_type == "Constant":
                    self._tensors[names[output]]["is_constant"] = True
            domain, kind = _text(node.domain), _text(node.op_type)
            domain = "" if domain in _STANDARD else domain
            name = f"{domain}:{kind}" if domain else kind
            version = self._opsets.get(domain, 1)
            places = [[self._place(tensor, names, outer) for tensor in side] for side in (node.input, node.output)]
            captured.update(place for place in places[0] if place >= 0 and self._tensors[place]["graph"] != number)
            if name != "Constant":
                is_custom = not self._onnx.defs.has(kind, min(max(version, 1), 2**31 - 1), domain)
                self._operators.append([name, version, *places, is_custom, number])
            for attribute in node.attribute:
                graphs = [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
                inside += [(graph_inside, places[0]) for graph_inside in graphs]
                if name in ("DequantizeLinear", "QuantizeLinear") and attribute.name == "axis":
                    for place in (places[0][:1], places[1][:1]):
                        if place and place[0] >= 0:
                            self._tensors[place[0]]["axis"] = attribute.i
            self._check_count()
        for graph_inside, inputs in inside:
            _, read = self._graph(graph_inside, {**outer, **names}, depth + 1)
            own = {place for place in read if self._tensors[place]["graph"] == number}
            inputs += sorted(own.difference(inputs))
            captured |= read - own
        # A branch may give what is outside as it is.
        captured.update(outer[value.name] for value in graph.output if value.name in outer)
        return names, captured

    def _add(self, names, name, shape, data_type, graph, is_constant=False):
        if any(size is not None and size < 0 for size in shape or ()) or not is_possible_shape(shape or ()):
            raise _Damaged(f"tensor {name!r} is said to have shape {shape}")
        names[_text(name)] = len(self._tensors)
        self._tensors.append(
            {
                "name": name,
                "shape": shape,
                "type": self._types.get(data_type, "unknown"),
                "is_constant": is_constant,
                "graph": graph,
            }
        )
        self._check_count()

    def _check_count(self):
        if len(self._tensors) + len(self._operators) > MOST_PARTS:
            raise _Damaged(f"it has more than {MOST_PARTS:,} parts")

    def _place(self, name, names, outer=None):
        """Returns a tensor's place, -1 for one that is left out."""
        if not name:
            return -1
        place = names.get(name, (outer or {}).get(name))
        if place is None:
            raise _Damaged(f"tensor {name!r} is read but never made")
        return place

    def _count_scales(self):
        """Tells of every tensor that is quantised or dequantised how many scales it has: the size of its scale."""
        for name, _, inputs, outputs, *_ in self._operators:
            quantized = {"DequantizeLinear": inputs[:1], "QuantizeLinear": outputs[:1]}.get(name, [])
            for place in quantized:
                if place >= 0 and len(inputs) > 1 and inputs[1] >= 0:
                    shape, scales = self._tensors[inputs[1]]["shape"], 1
                    for size in shape or ():
                        scales *= size or 1
                    self._tensors[place]["scales"] = scales
        for tensor in self._tensors:
            if tensor.get("scales", 0) < 2:
                tensor.pop("axis", None)
            else:
                tensor.setdefault("axis", 1)  # the standard's default


if __name__ == "__main__":
    main()
