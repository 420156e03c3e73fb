"""What a network predicts and a set of images has the truth of: the words that both share."""

import dataclasses
import sys
from typing import Literal, get_args

from auxzoo.checks import is_real, is_whole
from auxzoo.errors import UserError

Kind = Literal["classification", "segmentation", "regression"]
# Parts of the keys of a joint network's output, and of the names of losses and of what is validated.
_RESERVED, _RESERVED_WORDS = ("auxiliary", "compact", "joint"), ("distillation_", "val_")


@dataclasses.dataclass(frozen=True)
class Task:
    """One thing that a network predicts.

    Attributes:
        name: letters, digits and `_`; of a network with several tasks it is the key of the output. Not beginning with
            `auxiliary`, `compact` or `joint`, nor with the words `distillation` or `val`, which name other things.
        kind: `"classification"` (logits `[batch, classes]`), `"segmentation"` (logits at every pixel,
            `[batch, rows, columns, classes]`) or `"regression"` (a number at every pixel, `[batch, rows, columns, 1]`,
            in `unit`).
        labels: names of the classes in the order of the logits, of a segmentation all different; empty where nobody
            gave them names.
        colours: red, green and blue, 0 to 255, of every class, for pictures of a segmentation; chosen where empty.
        unit: of a regression, such as `"m"`.
        scale: of a regression, above 0: the size of a usual difference, in `unit`. Losses are measured in it, and the
            network computes in it.

    Raises:
        UserError: if a value is not so.

    Example:
        >>> Task("height", "regression", unit="m", scale=1000.0).is_dense
        True
    """

    name: str
    kind: Kind
    labels: tuple[str, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
    unit: str = ""
    scale: float = 1.0

    def __post_init__(self):
        if not isinstance(self.name, str) or not self.name.isidentifier() or not self.name.isascii():
            raise UserError(f"`name` of a task must be letters, digits and `_`. Received: name={self.name!r}")
        if self.name.startswith(_RESERVED) or f"{self.name}_".startswith(_RESERVED_WORDS):
            raise UserError(
                f"`name` of a task must not begin with {', '.join(_RESERVED)}, nor with the words "
                f"{', '.join(word.rstrip('_') for word in _RESERVED_WORDS)}. Received: {self.name!r}"
            )
        if self.kind not in get_args(Kind):
            raise UserError(
                f"`kind` of task {self.name!r} must be one of {', '.join(get_args(Kind))}. Received: kind={self.kind!r}"
            )
        if not isinstance(self.labels, (list, tuple)) or not all(isinstance(label, str) for label in self.labels):
            raise UserError(f"`labels` must be a list of names. Received: labels={self.labels!r}")
        if not isinstance(self.colours, (list, tuple)) or not all(_is_colour(colour) for colour in self.colours):
            raise UserError(
                f"`colours` of task {self.name!r} must be triples of 0 to 255. Received: colours={self.colours!r}"
            )
        for name, values in (("labels", self.labels), ("colours", self.colours)):
            if self.kind == "segmentation" and len(values) > 255:
                raise UserError(
                    f"`{name}` of task {self.name!r} must be 255 at most, since 255 is where there is no truth. "
                    f"Received: {len(values)}"
                )
        if self.kind == "segmentation" and len(set(self.labels)) != len(self.labels):
            repeated = next(label for label in self.labels if self.labels.count(label) > 1)
            raise UserError(f"`labels` of task {self.name!r} must differ from each other. Received: {repeated!r} twice")
        if self.kind == "regression" and (self.labels or self.colours):
            raise UserError(f"`labels` and `colours` of task {self.name!r}, a regression, must be empty.")
        if self.colours and self.labels and len(self.colours) != len(self.labels):
            raise UserError(
                f"`colours` of task {self.name!r} must be {len(self.labels)}, one a class. "
                f"Received: {len(self.colours)}"
            )
        if not isinstance(self.unit, str):
            raise UserError(f"`unit` of task {self.name!r} must be text. Received: unit={self.unit!r}")
        if not (is_real(self.scale) and 0 < self.scale <= sys.float_info.max):
            raise UserError(f"`scale` of task {self.name!r} must be above 0. Received: scale={self.scale!r}")
        if self.kind != "regression" and (self.unit or self.scale != 1):
            raise UserError(
                f"`unit` and `scale` of task {self.name!r}, a {self.kind}, must be left out: they are of regressions. "
                f"Received: unit={self.unit!r}, scale={self.scale!r}"
            )
        object.__setattr__(self, "labels", tuple(self.labels))
        object.__setattr__(self, "colours", tuple(tuple(map(int, colour)) for colour in self.colours))
        object.__setattr__(self, "scale", float(self.scale))

    @property
    def is_dense(self):
        """Whether there is a prediction for every pixel."""
        return self.kind != "classification"

    def completed(self, other):
        """Returns the task with the labels and colours of another, such as a set of images has, where it has none.

        Colours are taken over where both have as many classes: they are those of masks of these numbers, whatever the
        classes are called.
        """
        if self.kind == "regression":
            return self
        labels = self.labels or other.labels
        colours = self.colours or (other.colours if len(other.colours) == len(labels) else ())
        return dataclasses.replace(self, labels=labels, colours=colours)

    def to_dict(self):
        """Returns the task as plain JSON types, without what is as by default."""
        fields = {field.name: field.default for field in dataclasses.fields(self)}
        value = {name: getattr(self, name) for name, default in fields.items() if getattr(self, name) != default}
        return {name: _plain(item) for name, item in value.items()}

    @classmethod
    def from_dict(cls, value):
        """Returns the task that `to_dict` wrote; strict about its keys.

        Raises:
            UserError: if a key is unknown or missing, or a value is not allowed.
        """
        optional = {field.name for field in dataclasses.fields(cls)} - {"name", "kind"}
        if not isinstance(value, dict) or set(value) - optional != {"name", "kind"}:
            received = sorted(map(str, value)) if isinstance(value, dict) else repr(value)
            raise UserError(
                f"A task must have the keys name and kind, and may have {', '.join(sorted(optional))}. "
                f"Received: {received}"
            )
        return cls(**value)


def checked_tasks(tasks, least=1):
    """Returns tasks as a tuple.

    Raises:
        UserError: unless they are a list of `least` or more `Task`, with a name each.
    """
    if not isinstance(tasks, (list, tuple)) or len(tasks) < least or not all(isinstance(task, Task) for task in tasks):
        raise UserError(f"`tasks` must be a list of Task, {least} or more. Received: tasks={tasks!r}")
    names = [task.name for task in tasks]
    if len(set(names)) != len(names):
        raise UserError(f"`tasks` must have a name each. Received: {', '.join(names)}")
    return tuple(tasks)


def _is_colour(value):
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and all(is_whole(part) and 0 <= part <= 255 for part in value)
    )


def _plain(value):
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
