"""Reading a TFLite file by its schema, without trusting it.

A flatbuffer is a web of offsets, and in a damaged or hostile one they may lead anywhere: out of the file, or a million
times to the same place. So every vector is checked against the file before it is read, and all that is read may be no
more than a file of this size can hold.
"""

import numpy as np

from auxzoo.errors import LONGEST_REASON, UserError

from .model_file import MOST_PARTS, ModelFile, Operator, Signature, Tensor, is_possible_shape
from .tflite_buffers import ASTRAY

_NUMBERS_A_PART = 10  # of shapes, inputs and outputs


class _Damaged(Exception):
    """What is wrong with a file."""


def read_tflite(path):
    """Returns the `ModelFile` of a TFLite file.

    Raises:
        UserError: if it is damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = path.read_bytes()
    try:
        return _Reader(content, schema).read()
    except _Damaged as error:
        raise UserError(f"`{path}` is damaged: {str(error)[:LONGEST_REASON]}") from None
    except ASTRAY:
        raise UserError(f"`{path}` is damaged: it leads to places that it does not have") from None


class _Reader:
    def __init__(self, content, schema):
        self._content, self._schema = content, schema
        self._bytes_left = 2 * len(content)  # of texts, which may be shared
        self._parts_left, self._numbers_left = MOST_PARTS, _NUMBERS_A_PART * MOST_PARTS
        numbers = schema.BuiltinOperator
        self._operators = {value: name for name, value in vars(numbers).items() if isinstance(value, int)}
        self._types = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}

    def read(self):
        model = self._schema.Model.GetRootAs(self._content, 0)
        codes = [self._code(code) for code in self._parts(model, "OperatorCodes")]
        has_data = [self._has_data(buffer) for buffer in self._parts(model, "Buffers")]
        graphs = list(self._parts(model, "Subgraphs"))
        if not graphs:
            raise _Damaged("it has no graph")
        tensors, operators, first, ends = [], [], [], []
        for number, graph in enumerate(graphs):
            first.append(len(tensors))
            own = [self._tensor(tensor, has_data, number) for tensor in self._parts(graph, "Tensors")]
            tensors += own
            operators += [
                self._operator(operator, codes, number, first[number], len(own))
                for operator in self._parts(graph, "Operators")
            ]
            ends.append([self._places(graph, name, first[number], len(own), 0) for name in ("Inputs", "Outputs")])
        return ModelFile(
            kind="tflite",
            version=model.Version(),
            opsets={},
            operators=tuple(operators),
            tensors=tuple(tensors),
            inputs=ends[0][0],
            outputs=ends[0][1],
            signatures=tuple(
                self._signature(signature, first, len(tensors)) for signature in self._parts(model, "SignatureDefs")
            ),
            size=len(self._content),
            made_by=self._text(model, "Description"),
        )

    def _parts(self, table, name):
        """Yields the tables of a vector, where that is inside the file and not absurdly long."""
        count = getattr(table, f"{name}Length")()
        if 4 * count > len(self._content):
            raise _Damaged(f"its {name} are said to be {count:,}, more than the file has room for")
        self._parts_left -= count
        if self._parts_left < 0:
            raise _Damaged(f"it has more than {MOST_PARTS:,} parts, or the same ones again and again")
        for index in range(count):
            yield getattr(table, name)(index)

    def _numbers(self, table, name):
        """Returns a vector of numbers as an array, where that is inside the file."""
        count = getattr(table, f"{name}Length")()
        self._numbers_left -= count
        if 4 * count > len(self._content) or self._numbers_left < 0:
            raise _Damaged(f"a {name} is said to have {count:,} numbers, more than there can be")
        return getattr(table, f"{name}AsNumpy")() if count else np.zeros(0, np.int64)

    def _text(self, table, name):
        """Returns a text, `""` if there is none."""
        text = getattr(table, name)() or b""
        self._bytes_left -= len(text)
        if self._bytes_left < 0:
            raise _Damaged("its names are longer than the file")
        try:
            return text.decode()
        except UnicodeDecodeError:
            raise _Damaged(f"a {name} is no text") from None

    def _code(self, code):
        """Returns name, version and whether it is custom, of an operator code."""
        # Files of before 2020 keep small codes in a field of their own.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        custom = self._text(code, "CustomCode")
        is_custom = bool(custom) or number == self._schema.BuiltinOperator.CUSTOM
        return custom or self._operators.get(number, f"OPERATOR_{number}"), code.Version(), is_custom

    def _has_data(self, buffer):
        """Returns whether a buffer holds values, and checks that they are in the file."""
        offset, size = buffer.Offset(), buffer.Size()
        if offset > 1:  # of large files, behind the flatbuffer
            if offset + size > len(self._content):
                raise _Damaged(f"a constant is said to end at byte {offset + size:,} of {len(self._content):,}")
            return size > 0
        count = buffer.DataLength()
        start = buffer._tab.Vector(buffer._tab.Offset(4)) if count else 0
        if start + count > len(self._content):
            raise _Damaged(f"a constant is said to end at byte {start + count:,} of {len(self._content):,}")
        return count > 0

    def _tensor(self, tensor, has_data, graph):
        name = self._text(tensor, "Name")
        number = tensor.Buffer()
        if number >= max(len(has_data), 1):
            raise _Damaged(f"tensor {name!r} is said to lie in buffer {number} of {len(has_data)}")
        shape = [int(size) for size in self._numbers(tensor, "Shape")]
        signature = [int(size) for size in self._numbers(tensor, "ShapeSignature")] or shape
        known = [None if -1 in pair else max(pair) for pair in zip(signature, shape, strict=False)]
        is_possible = len(signature) == len(shape) and min([*shape, *signature], default=0) >= -1
        if not (is_possible and is_possible_shape(known)):
            raise _Damaged(f"tensor {name!r} is said to have shape {shape}, signature {signature}")
        scales, axis, scale, zero_point = 0, None, None, None
        quantization = tensor.Quantization()
        if quantization is not None:
            scales = quantization.ScaleLength()
            if 4 * scales > len(self._content):
                raise _Damaged(f"tensor {name!r} is said to have {scales:,} scales")
            if scales == 1:
                scale = quantization.Scale(0)
                zero_point = quantization.ZeroPoint(0) if quantization.ZeroPointLength() else 0
            elif scales:
                axis = quantization.QuantizedDimension()
        constant = (bool(has_data) and has_data[number]) or tensor.ExternalBuffer() != 0
        return Tensor(
            name=name,
            shape=tuple(None if -1 in (size, known) else known for size, known in zip(signature, shape, strict=True)),
            type=self._types.get(tensor.Type(), "unknown"),
            is_constant=constant and not tensor.IsVariable(),
            scales=scales,
            axis=axis,
            scale=scale,
            zero_point=zero_point,
            graph=graph,
        )

    def _operator(self, operator, codes, graph, first, count):
        number = operator.OpcodeIndex()
        if number >= len(codes):
            raise _Damaged(f"an operator is said to be of kind {number} of {len(codes)}")
        name, version, is_custom = codes[number]
        inputs, outputs = (self._places(operator, side, first, count) for side in ("Inputs", "Outputs"))
        return Operator(name, version, inputs, outputs, is_custom, graph)

    def _places(self, table, name, first, count, lowest=-1):
        """Returns the places of tensors among those of all graphs; an operator may leave one out, which is -1."""
        numbers = self._numbers(table, name)
        wrong = numbers[(numbers < lowest) | (numbers >= count)]
        if len(wrong):
            raise _Damaged(f"among its {name} is tensor {wrong[0]} of {count}")
        return tuple(-1 if number < 0 else first + int(number) for number in numbers)

    def _signature(self, signature, first, count):
        graph = signature.SubgraphIndex()
        if graph >= len(first):
            raise _Damaged(f"a signature is said to be of graph {graph} of {len(first)}")

        def named(side):
            found = {}
            for entry in self._parts(signature, side):
                place = first[graph] + entry.TensorIndex()
                if place >= count:
                    raise _Damaged(f"a signature names tensor {place} of {count}")
                found[self._text(entry, "Name")] = place
            return found

        return Signature(self._text(signature, "SignatureKey"), named("Inputs"), named("Outputs"))
