"""Recipes: the YAML file that reproduces a training run, and its overrides."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

from auxzoo.data import Augmentation, Target, open_images
from auxzoo.tasks import Task

from .objective import Objective
from .optimization import Optimization
from .recipe_file import read_settings, without_places
from .settings import Settings


class NetworkSettings(Settings):
    """Which compact network is trained: a new one of an architecture, or an entry of the zoo."""

    architecture: Literal["MobileNetV2", "ResNet18"] | None = None
    """Constructor in `auxzoo.models`."""

    arguments: dict[str, Any] = pydantic.Field(default_factory=dict)
    """Arguments of the constructor, without the number of classes, which the data tell."""

    entry: str | None = None
    """Name of a published entry, or a folder of one, to fine-tune. It keeps its head where its classes are those of the
    data, in the same order, and else gets a new one."""

    preprocessing_fit: Literal["resize", "pad"] | None = None
    """How pictures are fitted to the input of an `entry`; as the entry says if not set."""

    tasks: list[str] | None = pydantic.Field(None, min_length=1)
    """Names of the data's targets that the network has a head for; of all if not set."""

    head_channels: int = pydantic.Field(128, ge=1)
    """Width of a head's branches, of tasks at every pixel."""

    low_level: bool = True
    """Whether such a head adds the predictions of finer features, as of `auxzoo.models.DeepLabLite`."""

    @pydantic.model_validator(mode="after")
    def _one_of_both(self):
        if (self.architecture is None) == (self.entry is None):
            raise ValueError("either `architecture` or `entry` must be set, and not both")
        return self


class DataSettings(Settings):
    """Which images: the training split, less a held-out part for validation, and the test split."""

    source: str
    """`sample`, `tfds:NAME` or `folder:PATH`."""

    title: str | None = None
    """What a card calls the data; the source if not set."""

    data_dir: str | None = None
    """Folder of prepared `tensorflow_datasets`; their default if not set."""

    targets: dict[str, dict[str, Any]] = pydantic.Field(default_factory=dict)
    """What there is the truth of: name of the task -> fields of `auxzoo.Task` and `auxzoo.data.Target` (`kind`,
    `labels`, `colours`, `unit`, `scale`; `feature`, `void`, `factor`, `missing`). One class an image if none is
    named."""

    train_split: str = "train"
    """Name of the split that is trained on."""

    validation_split: str | None = None
    """Name of the split that designs are chosen by; a part of the training split, held out, if not set."""

    test_split: str | None = "test"
    """Name of the split that is measured once, at the end; not measured if `null`, as while designs are chosen."""

    validation_count: int | None = pydantic.Field(5000, ge=1)
    """Images of the training split that are held out for validation, where it has no split of its own; a fifth of them
    if `null`."""

    validation_seed: int = pydantic.Field(0, ge=0)
    """Chooses the held-out images; the same for all runs that are compared."""

    train_count: int | None = pydantic.Field(None, ge=1)
    """Train on this many images only; on all that are left if not set."""

    download: bool = False
    """Let `tensorflow_datasets` fetch a set that is not prepared."""

    skip_broken: bool = False
    """Leave broken images out and count them, instead of stopping."""

    augmentation: dict[str, Any] = pydantic.Field(default_factory=dict)
    """Fields of `auxzoo.data.Augmentation`."""

    @pydantic.model_validator(mode="after")
    def _other_images(self):
        if self.validation_split is not None and self.validation_split in (self.train_split, self.test_split):
            raise ValueError("`validation_split` must be another split than those of training and test")
        if self.test_split == self.train_split:
            raise ValueError("`test_split` must be another split than that of training")
        return self

    @pydantic.field_validator("targets")
    @classmethod
    def _known_targets(cls, value):
        for name, fields in value.items():
            make_target(name, fields)
        return value

    @property
    def all_targets(self):
        """The targets as a list of `Target`, `None` where there is one class an image."""
        return [make_target(name, fields) for name, fields in self.targets.items()] or None

    def open(self, split):
        """Returns the `ImageSet` of a split."""
        return open_images(
            self.source,
            split,
            data_dir=self.data_dir,
            skip_broken=self.skip_broken,
            download=self.download,
            targets=self.all_targets,
        )

    @pydantic.field_validator("augmentation")
    @classmethod
    def _known_augmentation(cls, value):
        known = [field.name for field in dataclasses.fields(Augmentation)]
        if not set(value) <= set(known):
            raise ValueError(f"may have {', '.join(known)}")
        Augmentation(**value)
        return value


def make_target(name, fields):
    """Returns the `Target` of a recipe's fields.

    Raises:
        ValueError: if a field is unknown or not allowed.
    """
    of_task = [field.name for field in dataclasses.fields(Task) if field.name != "name"]
    of_target = [field.name for field in dataclasses.fields(Target) if field.name != "task"]
    if "kind" not in fields or not set(fields) <= {*of_task, *of_target}:
        optional = ", ".join(key for key in (*of_task, *of_target) if key != "kind")
        raise ValueError(f"{name!r} must have `kind`, and may have {optional}")
    task = Task(name, **{key: fields[key] for key in of_task if key in fields})
    return Target(task, **{key: fields[key] for key in of_target if key in fields})


class AuxiliarySettings(Settings):
    """Which auxiliary is attached while training."""

    structure: str = "default"
    """`default`, `none` (plain training), `published` (the one that `network.entry` was trained with), or the
    path of a structure's JSON file."""

    width_multiplier: float | None = pydantic.Field(None, ge=1)
    """Width of the default structure's nodes, as a multiple of their taps'; its own default if not set."""

    supervision: Literal["hierarchical", "deep", "both"] | None = None
    """Of the default structure: whether its nodes read each other, and whether each has a head; its own default if
    not set."""

    tasks: Literal["shared", "separate"] = "shared"
    """Of the default structure over several tasks: whether its nodes serve all, or each has an auxiliary."""


class ComputeSettings(Settings):
    """How the steps are computed. Figures that are published fix it: results differ in the last digits."""

    compilation: Literal["auto", "xla", "graph"] = "auto"
    """Whether XLA compiles the steps; `auto` measures."""

    onednn: bool | Literal["auto"] | None = None
    """Whether TensorFlow uses oneDNN; TensorFlow's own choice for the processor if not set; `auto` measures.
    The command line carries it out, since it must be set before TensorFlow is imported."""

    threads: int | None = pydantic.Field(None, ge=1)
    """Threads of an operation; all cores if not set. Operations are computed one after the other."""


class Recipe(Settings):
    """Everything that a training run depends on, but for the machine and the versions."""

    name: str = pydantic.Field(pattern=r"^[a-z0-9_]+$")
    """Name of the run, and of the entry made from it."""

    network: NetworkSettings
    """The compact network."""

    data: DataSettings
    """The images."""

    auxiliary: AuxiliarySettings = AuxiliarySettings()
    """The auxiliary, in training only."""

    objective: Objective = Objective()
    """The losses and their schedule."""

    optimization: Optimization = Optimization()
    """The optimiser and its schedule."""

    compute: ComputeSettings = ComputeSettings()
    """XLA, oneDNN, threads."""

    epochs: int = pydantic.Field(ge=1)
    """Walks through the training images, each in a new order; what is left of whole batches waits for the next."""

    batch_size: int = pydantic.Field(128, ge=1)
    """Images a step."""

    validation_every: int = pydantic.Field(1, ge=1)
    """Validates after every so manieth epoch, and at the end in any case."""

    seed: int = pydantic.Field(0, ge=0, lt=2**32)
    """Of the first weights, the data order and the augmentation."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _without_search(cls, value):
        # One file may serve `auxzoo search` and then `auxzoo train`, which has no use for that group.
        if cls is Recipe and isinstance(value, dict):
            return {name: setting for name, setting in value.items() if name != "search"}
        return value

    def __eq__(self, other):
        # As they would be written: a shape may be a tuple in Python, and is a list in YAML.
        return isinstance(other, Recipe) and self.model_dump(mode="json") == other.model_dump(mode="json")

    @property
    def own_objective(self):
        """The objective without the weights of those of the data's tasks that the network leaves out."""
        left_out = set(self.data.targets) - set(self.network.tasks or self.data.targets)
        weights = {
            field: {name: value for name, value in getattr(self.objective, field).items() if name not in left_out}
            for field in ("class_weights", "task_weights")
        }
        return self.objective.model_copy(update=weights)

    def fit_arguments(self):
        """Returns what `fit` takes from a recipe, whatever is trained and for how long: a `dict` of its arguments."""
        return {
            "batch_size": self.batch_size,
            "objective": self.own_objective,
            "optimization": self.optimization,
            "augmentation": Augmentation(**self.data.augmentation),
            "seed": self.seed,
        }

    def record(self):
        """Returns the settings as plain JSON types, without `data_dir`, `download` and the folder of the weights.

        Folders of pictures and of entries stay: what is told by a path alone must not be taken for another.
        """
        settings = self.model_dump(mode="json")
        for name in ("data_dir", "download"):
            del settings["data"][name]
        arguments = settings["network"]["arguments"]
        if isinstance(arguments.get("weights"), str):
            arguments["weights"] = Path(arguments["weights"]).name
        return settings

    def without_places(self):
        """Returns the settings as plain JSON types, without where anything lies, as of `without_places`."""
        return without_places(self.model_dump(mode="json"))

    def public(self):
        """Returns the recipe that others may follow, with the names alone of folders and of files of weights.

        The path of a structure stays if it is relative: it may belong to what goes out with the recipe.
        """
        arguments, entry = dict(self.network.arguments), self.network.entry
        if isinstance(arguments.get("weights"), str):
            arguments["weights"] = Path(arguments["weights"]).name
        network = {"arguments": arguments, "entry": None if entry is None else _name(entry)}
        data, (kind, _, folder) = {"data_dir": None}, self.data.source.partition(":")
        if kind == "folder":
            data["source"] = f"folder:{_name(folder)}"
        structure = self.auxiliary.structure
        if Path(structure).is_absolute():
            structure = _name(structure)
        return self.model_copy(
            update={
                "network": self.network.model_copy(update=network),
                "data": self.data.model_copy(update=data),
                "auxiliary": self.auxiliary.model_copy(update={"structure": structure}),
            }
        )

    def save(self, path):
        """Writes the recipe as YAML, every setting spelled out."""
        Path(path).write_text(
            # Escaped: written as they are, some line separators do not come back.
            yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=False),
            encoding="utf-8",
        )


def _name(path):
    return Path(path).name or path


def read_recipe(source, overrides=()):
    """Reads a recipe and applies overrides to it.

    Args:
        source: `str` or `Path` of a YAML file, or the name of a packaged recipe (`training/recipes/NAME.yaml`).
        overrides: strings `key=value`, the key dotted, the value YAML: `"objective.auxiliary_weight=0.5"`.

    Returns:
        `Recipe`.

    Raises:
        UserError: if the file or an override is not right; the message names every wrong setting.

    Example:
        >>> read_recipe("mobilenet_v2_050_cifar10", ["epochs=1"]).epochs
        1
    """
    return Recipe.parse(read_settings(source, overrides), f"The recipe `{source}`")
