"""What a network needs beside its graph: taps, preprocessing, tasks with their labels."""

import dataclasses

import keras

from auxzoo.errors import UserError
from auxzoo.tasks import Task, checked_tasks

from .preprocessing import Preprocessing, check_keys


@dataclasses.dataclass(frozen=True)
class Description:
    """What a network needs beside its graph.

    Attributes:
        taps: pairs `(tap, layer name)` in order from input to output. A tap is an alias of that layer's output.
        preprocessing: how pictures become the input.
        tasks: what it predicts, `Task` each; none for a backbone without head. A network with one task outputs a
            tensor, one with several a dict of task name to tensor.
        trunk: name of the layer that ends the trunk, or `None`; that layer and all before it are the trunk, and what
            reads it is a head.

    Raises:
        UserError: if a value is not so.
    """

    taps: tuple[tuple[str, str], ...]
    preprocessing: Preprocessing
    tasks: tuple[Task, ...] = ()
    trunk: str | None = None

    def __post_init__(self):
        if not isinstance(self.preprocessing, Preprocessing):
            raise UserError(f"`preprocessing` must be a Preprocessing. Received: preprocessing={self.preprocessing!r}")
        object.__setattr__(self, "tasks", checked_tasks(self.tasks, least=0))
        object.__setattr__(self, "taps", checked_taps(self.taps))
        if not isinstance(self.trunk, str | None):
            raise UserError(f"`trunk` must be the name of a layer or None. Received: trunk={self.trunk!r}")

    @property
    def is_classifier(self):
        """Whether classification is the one thing that the network does."""
        return [task.kind for task in self.tasks] == ["classification"]

    @property
    def kinds(self):
        """What the network predicts, in words: `"segmentation, regression"`; `"features"` of a backbone."""
        return ", ".join(task.kind for task in self.tasks) or "features"

    def to_dict(self):
        """Returns the description as plain JSON types."""
        value = dataclasses.asdict(self)
        value["taps"] = dict(self.taps)  # JSON objects keep their order
        value["tasks"] = [task.to_dict() for task in self.tasks]
        return value

    @classmethod
    def from_dict(cls, value):
        """Returns the description that `to_dict` wrote; strict about its keys.

        Raises:
            UserError: if a key is unknown or missing, or a value is not allowed.
        """
        check_keys("description", value, cls)
        if not isinstance(value["taps"], dict):
            raise UserError(f"`taps` of a description must be an object. Received: taps={value['taps']!r}")
        tasks = value.get("tasks", [])
        if not isinstance(tasks, list):
            raise UserError(f"`tasks` of a description must be a list. Received: tasks={tasks!r}")
        return cls(
            taps=tuple(value["taps"].items()),
            preprocessing=Preprocessing.from_dict(value["preprocessing"]),
            tasks=tuple(Task.from_dict(task) for task in tasks),
            trunk=value.get("trunk"),
        )


def checked_taps(taps):
    """Returns a list of pairs of names, of a tap and of its layer, as a tuple.

    Raises:
        UserError: if it is no such list, or has a tap twice.
    """
    if not isinstance(taps, (list, tuple)) or not all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(name, str) for name in pair)
        for pair in taps
    ):
        raise UserError(f"`taps` must be a list of pairs of names, of a tap and its layer. Received: taps={taps!r}")
    names = [tap for tap, _ in taps]
    if len(set(names)) != len(names):
        raise UserError(f"`taps` must name every tap once. Received: {names}")
    return tuple(tuple(pair) for pair in taps)


@keras.saving.register_keras_serializable("auxzoo")
class Network(keras.Model):
    """A functional `keras.Model` that carries its description, through `.keras` files and `from_config` too.

    It adds nothing to the graph: every layer in it is a stock Keras layer.
    """

    description = None

    def get_config(self):
        """Returns the functional configuration and the description, if there is one: clones of Keras have none."""
        config = super().get_config()
        return config if self.description is None else {**config, "description": self.description.to_dict()}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Returns the network of `get_config`, with fresh weights."""
        config = dict(config)
        description = config.pop("description", None)
        network = super().from_config(config, custom_objects=custom_objects)
        network.description = None if description is None else Description.from_dict(description)
        return network


def described(inputs, outputs, description, name):
    """Returns a functional network from `inputs` to `outputs` that carries `description`.

    So a network from elsewhere can have the heads of `DeepLabLite` and `MultiTask`, and all else that reads a
    description.

    Args:
        inputs: symbolic input of a functional Keras model, shape `[batch, height, width, 3]`.
        outputs: symbolic output, or a `dict` of task name to one.
        description: `Description`.
        name: `str`, name of the network.

    Raises:
        UserError: if a tap or the trunk names a layer that the network does not have.

    Example:
        >>> trunk = keras.applications.MobileNetV2((192, 192, 3), include_top=False, weights=None)
        >>> description = auxzoo.models.Description(
        ...     taps=(("fine", "block_2_add"), ("coarse", "block_12_add")),
        ...     preprocessing=auxzoo.models.Preprocessing.by_convention("tf", 192, 192),
        ... )
        >>> backbone = auxzoo.models.described(trunk.input, trunk.output, description, "backbone")
        >>> auxzoo.models.DeepLabLite(backbone, num_classes=3).output.shape
        (None, 192, 192, 3)
    """
    network = Network(inputs=inputs, outputs=outputs, name=name)
    layer_names = {layer.name for layer in network.layers}
    for tap, layer_name in description.taps:
        if layer_name not in layer_names:
            raise UserError(f"`taps` must name layers of {name!r}. Received: {tap}={layer_name!r}")
    if description.trunk is not None and description.trunk not in layer_names:
        raise UserError(f"`trunk` must name a layer of {name!r}. Received: trunk={description.trunk!r}")
    network.description = description
    return network


def is_described(model):
    """Returns whether a model carries a description: a network of ours does, but not what Keras made a clone of."""
    return isinstance(getattr(model, "description", None), Description)


def describe(model):
    """Returns the `Description` that one of our networks carries.

    Args:
        model: a network made by `auxzoo.models`, loaded by `auxzoo.load` or from a `.keras` file of one.

    Raises:
        UserError: if `model` carries none; functions that need one take it as an argument then.

    Example:
        >>> import auxzoo
        >>> network = auxzoo.models.ResNet18(input_shape=(32, 32, 3), width=0.25)
        >>> [tap for tap, layer in auxzoo.describe(network).taps]
        ['stem', 'stage1', 'stage2', 'stage3', 'stage4']
    """
    if not is_described(model):
        raise UserError(
            f"`model` must be a network that carries a description (one made by auxzoo). "
            f"Received: {getattr(model, 'name', model)!r}; for others the functions that need one take "
            "`description=auxzoo.models.Description(...)` or what `auxzoo.models.described` returns, and the export "
            "commands --preprocessing."
        )
    return model.description


def trunk_layers(model, description=None):
    """Returns the layers of the trunk of a compact or joint network: the one that ends it and all that it reads.

    Args:
        model: functional network.
        description: `Description`, for a network that carries none.

    Raises:
        UserError: if no trunk is described.
    """
    description = description or describe(model)
    if description.trunk is None:
        raise UserError(f"The description of {model.name!r} must name the layer that ends the trunk. Received: none")
    found, waiting = {}, [model.get_layer(description.trunk)]
    while waiting:
        layer = waiting.pop()
        if id(layer) not in found:
            found[id(layer)] = layer
            waiting += [tensor._keras_history.operation for tensor in keras.tree.flatten(layer.input)]
    return [layer for layer in model.layers if id(layer) in found]
