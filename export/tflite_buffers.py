"""Named buffers of metadata in a TFLite file, added without touching a byte of the rest.

The object API of the schema would pack the whole file anew, in another order and alignment than the converter chose. So
what is new goes to the front, and the rest moves behind it as it is, by a multiple of 16 bytes: in a flatbuffer every
reference is relative to its own place, and leads forward.
"""

import struct

from auxzoo.errors import UserError

from .model_file import LARGEST_FILE

_MOST_ENTRIES = 1000  # a file has a handful
_ALIGNMENT = 16
# What `flatbuffers` raises where an offset leads astray.
ASTRAY = (struct.error, TypeError, IndexError, ValueError, OverflowError, AttributeError)


def add_buffers(content, buffers):
    """Returns a TFLite file with named buffers of metadata beside those that it has.

    Args:
        content: `bytes` of a file as a converter wrote it.
        buffers: `dict` of name to `bytes`.

    Raises:
        UserError: if it has a buffer of such a name, or would be too large.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    known = {model.Metadata(place).Name() for place in range(model.MetadataLength())}
    for name in buffers:
        if name.encode() in known:
            raise UserError(f"The file has metadata called {name!r} already.")
    if len(content) + sum(map(len, buffers.values())) > LARGEST_FILE - 2**20:
        raise UserError("A TFLite file must be smaller than 2 GB with its metadata.")
    if any(model.Buffers(place).Offset() > 1 for place in range(model.BuffersLength())):
        raise UserError("Metadata cannot be added to a TFLite file with buffers outside its flatbuffer.")
    return _Front(content, model._tab).with_buffers(buffers)


def read_buffer(content, name):
    """Returns the `bytes` of a named buffer of metadata, `None` if there is none of this name.

    Args:
        content: `bytes` of a TFLite file, not to be trusted.
        name: `str`.

    Raises:
        ValueError: if it is damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.Model.GetRootAs(content, 0)
        if model.MetadataLength() > _MOST_ENTRIES:
            raise ValueError("too many entries")
        for place in range(model.MetadataLength()):
            entry = model.Metadata(place)
            if entry.Name() != name.encode():
                continue
            if entry.Buffer() >= model.BuffersLength():
                raise ValueError("no such buffer")
            return model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    except ASTRAY:
        raise ValueError("it leads to places that it does not have") from None
    return None


class _Front:
    """What is put before a flatbuffer: the root of the model anew, with longer vectors of buffers and metadata."""

    _VERSION, _BUFFERS, _METADATA = 0, 4, 6  # fields of the schema's table `Model`

    def __init__(self, content, table):
        self._content, self._table = content, table
        self._front = bytearray(content[:8])  # where the root is, set in the end; and `TFL3`
        self._references = []  # (where it stands, what it refers to, whether that is in the rest)

    def with_buffers(self, buffers):
        """Returns the whole file."""
        fields = [number for number in range(self._fields()) if self._place(number) is not None]
        fields = sorted({*fields, self._BUFFERS, self._METADATA})
        vtable = self._append(struct.pack(f"<{2 * (fields[-1] + 3)}x"), 2)
        root = self._append(struct.pack(f"<i{4 * len(fields)}x", 0), 4)
        struct.pack_into("<i", self._front, root, root - vtable)
        struct.pack_into("<HH", self._front, vtable, 2 * (fields[-1] + 3), 4 * (len(fields) + 1))
        self._references.append((0, root, False))
        places = {}
        for number, field in enumerate(fields):
            struct.pack_into("<H", self._front, vtable + 4 + 2 * field, 4 + 4 * number)
            places[field] = root + 4 + 4 * number
            if field == self._VERSION:
                self._front[places[field] : places[field] + 4] = self._content[self._place(field) :][:4]
            elif field not in (self._BUFFERS, self._METADATA):
                self._references.append((places[field], self._target(self._place(field)), True))
        old_buffers, old_metadata = self._elements(self._BUFFERS), self._elements(self._METADATA)
        new_buffers = self._vector(places[self._BUFFERS], old_buffers, len(buffers))
        new_metadata = self._vector(places[self._METADATA], old_metadata, len(buffers))
        for number, (name, data) in enumerate(buffers.items()):
            self._add_entry(new_metadata + 4 * number, name.encode(), len(old_buffers) + number)
            self._add_buffer(new_buffers + 4 * number, data)
        # What stood behind the first eight bytes moves by a multiple of 16.
        self._front += bytes((8 - len(self._front)) % _ALIGNMENT)
        for place, target, in_rest in self._references:
            target += len(self._front) - 8 if in_rest else 0
            struct.pack_into("<I", self._front, place, target - place)
        return bytes(self._front) + self._content[8:]

    def _add_entry(self, reference, name, buffer):
        vtable = self._append(struct.pack("<HHHH", 8, 12, 4, 8), 2)  # fields: name, buffer
        entry = self._append(struct.pack("<iII", 0, 0, buffer), 4)
        struct.pack_into("<i", self._front, entry, entry - vtable)
        self._references.append((reference, entry, False))
        text = self._append(struct.pack("<I", len(name)) + name + b"\0", 4)
        self._references.append((entry + 4, text, False))

    def _add_buffer(self, reference, data):
        vtable = self._append(struct.pack("<HHH", 6, 8, 4), 2)  # field: data
        buffer = self._append(struct.pack("<iI", 0, 0), 4)
        struct.pack_into("<i", self._front, buffer, buffer - vtable)
        self._references.append((reference, buffer, False))
        # Data begin at a multiple of 16, as the schema asks for, and their length stands before them.
        self._front += bytes(-(len(self._front) + 4) % _ALIGNMENT)
        vector = self._append(struct.pack("<I", len(data)) + data, 1)
        self._references.append((buffer + 4, vector, False))

    def _vector(self, reference, old, added):
        """Appends a vector of references, and returns where those to what is added shall stand."""
        vector = self._append(struct.pack(f"<I{4 * (len(old) + added)}x", len(old) + added), 4)
        self._references.append((reference, vector, False))
        self._references += [(vector + 4 + 4 * number, target, True) for number, target in enumerate(old)]
        return vector + 4 + 4 * len(old)

    def _append(self, piece, alignment):
        self._front += bytes(-len(self._front) % alignment)
        place = len(self._front)
        self._front += piece
        return place

    def _fields(self):
        vtable = self._table.Pos - struct.unpack_from("<i", self._content, self._table.Pos)[0]
        return (struct.unpack_from("<H", self._content, vtable)[0] - 4) // 2

    def _place(self, number):
        """Returns where a field of the model stands, `None` if it does not."""
        offset = self._table.Offset(4 + 2 * number)
        return self._table.Pos + offset if offset else None

    def _target(self, place):
        return place + struct.unpack_from("<I", self._content, place)[0]

    def _elements(self, field):
        """Returns what the references in a vector of the model lead to."""
        place = self._place(field)
        if place is None:
            return []
        vector = self._target(place)
        count = struct.unpack_from("<I", self._content, vector)[0]
        return [self._target(vector + 4 + 4 * number) for number in range(count)]
