"""Studies: several arms trained on the same seeds, what each run measured, and what the pairs say."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pydantic
import yaml

from auxzoo.auxiliary import Structure, attach
from auxzoo.errors import UserError
from auxzoo.files import read_json
from auxzoo.metric_names import METRICS, metric_name

from .class_weights import check_weighted_tasks
from .recipe import Recipe
from .recipe_file import RECIPES, read_settings, set_value
from .run import build_compact, build_structure
from .settings import Settings

_NAME = r"^[a-z0-9_]+$"


class Comparison(Settings):
    """Two sides that are compared beside the table's differences to the best baseline."""

    arm: str
    """Name of an arm."""

    against: list[str] = pydantic.Field(min_length=1)
    """Names of arms, whose mean it is compared with, seed by seed."""


class Improvement(Settings):
    """A network with several tasks that is compared with one network a task, by the mean relative improvement."""

    arm: str
    """Name of the arm with several tasks."""

    against: dict[str, str] = pydantic.Field(min_length=1)
    """Name of a metric, with the task's -> name of the arm that has this task alone."""


class StudySettings(Settings):
    """A study: one recipe, arms that change some of its settings, and the seeds that every arm is trained on."""

    name: str = pydantic.Field(pattern=_NAME)
    """Name of the study, the title of its table."""

    recipe: str
    """YAML file of the recipe, relative to the study's, or the name of a packaged one."""

    seeds: list[int] = pydantic.Field(min_length=1)
    """Seeds of the runs, the same for every arm, so that differences are taken within a seed."""

    arms: dict[str, dict[str, Any]] = pydantic.Field(min_length=1)
    """Name of the arm -> settings of the recipe that it changes, dotted key -> value. A structure's JSON file is
    relative to the study's."""

    baselines: list[str] = pydantic.Field(min_length=1)
    """Arms without an auxiliary, at several schedules, say; every other is compared with the best of them."""

    comparisons: list[Comparison] = pydantic.Field(default_factory=list)
    """What else is compared."""

    metrics: list[str] = pydantic.Field(["accuracy"], min_length=1)
    """What is compared, names in a run's scores such as `mean_iou`: a table each. Shares are told in per cent; of
    errors the lowest is the best. Of a network with several tasks `TASK_mean_iou`, and so on; a network with that task
    alone has the same under the name without the task's. An arm without a metric is left out of its table."""

    iou_classes: list[str] | None = pydantic.Field(None, min_length=1)
    """Labels whose mean IoU is taken for a metric that ends in `iou_of_classes`; of all if not set."""

    improvements: list[Improvement] = pydantic.Field(default_factory=list)
    """Arms with several tasks, against arms of one task each."""

    keep_networks: bool = False
    """Whether the folder of a finished run is kept, under `networks/`, to be evaluated, drawn or exported; else its
    record alone is."""

    designs_tried: int | None = pydantic.Field(None, ge=0)
    """How many designs were tried on validation before this study: the table says it."""

    @pydantic.field_validator("seeds")
    @classmethod
    def _different_seeds(cls, value):
        if len(set(value)) != len(value):
            raise ValueError("seeds must differ from each other")
        return value

    @pydantic.field_validator("arms")
    @classmethod
    def _plain_names(cls, value):
        for name in value:
            if not name.replace("_", "").isalnum():
                raise ValueError(f"names of arms must be letters, digits and `_`, not {name!r}")
            if "seed" in value[name]:
                raise ValueError(f"arm {name!r} must not set `seed`: every arm is trained on the seeds of the study")
        return value

    @pydantic.model_validator(mode="after")
    def _known_baselines(self):
        for name in self.baselines:
            if name not in self.arms:
                raise ValueError(f"`baselines` must be among the arms {', '.join(self.arms)}, not {name!r}")
        for comparison in self.comparisons:
            for name in (comparison.arm, *comparison.against):
                if name not in self.arms:
                    raise ValueError(f"`comparisons` must be among the arms {', '.join(self.arms)}, not {name!r}")
        for improvement in self.improvements:
            for name in (improvement.arm, *improvement.against.values()):
                if name not in self.arms:
                    raise ValueError(f"`improvements` must be among the arms {', '.join(self.arms)}, not {name!r}")
            for metric in improvement.against:
                if metric not in self.metrics:
                    raise ValueError(f"`improvements` must be of the metrics {', '.join(self.metrics)}, not {metric!r}")
        return self


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        arm: name of the arm.
        seed: its seed.
        settings: `dict`, the whole recipe as it is written down in the record; paths as in the study.
        recipe: the same as `Recipe`, with paths that hold here.
        structure: `Structure` that is attached, or `None`.
    """

    arm: str
    seed: int
    settings: dict
    recipe: Recipe
    structure: Structure | None

    @property
    def name(self):
        """Name of its folder and record."""
        return f"{self.arm}-seed{self.seed}"


class Study:
    """A study read from its file, every recipe and structure checked.

    Args:
        path: `str` or `Path` of the YAML file.
        overrides: strings `key=value` for the recipe of every arm, such as `"data.data_dir=sets"`.

    Attributes:
        settings: `StudySettings`.
        runs: tuple of `Run`, seed by seed, so that pairs are complete early.

    Raises:
        UserError: if the file, a recipe or a structure is not right; the message names it.

    Example:
        >>> study = Study("training/studies/replication_resnet18/study.yaml")
        >>> [run.name for run in study.runs][:2]
        ['plain_120-seed20', 'plain_240-seed20']
    """

    def __init__(self, path, overrides=()):
        path = Path(path)
        try:
            value = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"`study` must be a YAML file. Received: {str(path)!r}") from None
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"`{path}` cannot be read as YAML: {error}") from None
        self.settings = StudySettings.parse(value, f"The study `{path}`")
        recipe_file = path.parent / self.settings.recipe
        is_packaged = not recipe_file.is_file() and (RECIPES / f"{self.settings.recipe}.yaml").is_file()
        base = read_settings(self.settings.recipe if is_packaged else recipe_file, overrides)
        arms = {arm: self._arm(arm, base, path) for arm in self.settings.arms}
        self._check_metrics({arm: metrics for arm, (_, metrics) in arms.items()}, f"The study `{path}`")
        self.runs = tuple(arms[arm][0][place] for place in range(len(self.settings.seeds)) for arm in arms)

    def _arm(self, arm, base, path):
        """Returns the runs of an arm, one a seed, and the names of what they measure."""
        settings = copy.deepcopy(base)
        for key, value in self.settings.arms[arm].items():
            set_value(settings, key, copy.deepcopy(value))  # aliases in the file share what is below
        source = f"Arm {arm!r} of the study `{path}`"
        recipe = Recipe.parse(settings, source)
        structure_name = recipe.auxiliary.structure
        if structure_name.endswith(".json"):
            settings["auxiliary"]["structure"] = str((path.parent / structure_name).resolve())
            recipe = Recipe.parse(settings, source)
        try:
            compact = build_compact(recipe)
            structure = build_structure(recipe, compact)
            if structure is not None:
                attach(compact, structure)
            tasks = compact.description.tasks
            self._check_classes(recipe.data.all_targets or ())
            check_weighted_tasks(recipe.own_objective, [task.name for task in tasks])
        except UserError as error:
            raise UserError(f"{source} is not right: {error}") from None
        runs = []
        for seed in self.settings.seeds:
            of_seed = Recipe.parse({**settings, "seed": seed}, source)
            recorded = of_seed.record()
            recorded["auxiliary"]["structure"] = structure_name
            runs.append(Run(arm, seed, recorded, of_seed, structure))
        metrics = [metric_name(tasks, task, metric) for task in tasks for metric in METRICS[task.kind]]
        if recipe.data.targets and len(tasks) == 1:  # arms with several tasks have them under these names
            metrics += [f"{tasks[0].name}_{metric}" for metric in metrics]
        return runs, metrics

    def _check_classes(self, targets):
        """Refuses classes of `iou_classes` that the masks to be compared have not, where the recipe names those."""
        settings = self.settings
        compared = {*settings.metrics, *(metric for one in settings.improvements for metric in one.against)}
        for task in (target.task for target in targets):
            names = {f"{task.name}_iou_of_classes", *["iou_of_classes"] * (len(targets) == 1)}
            unknown = [label for label in settings.iou_classes or () if label not in task.labels]
            if task.labels and unknown and names & compared:
                raise UserError(f"`iou_classes` must be among {', '.join(task.labels)}. Received: {unknown[0]!r}")

    def _check_metrics(self, known, source):
        """Refuses metrics and improvements that no arm can have; `known` are the metrics of each."""
        settings = self.settings
        of_baselines = [metric for arm in settings.baselines for metric in known[arm]]
        for metric in settings.metrics:
            if metric not in of_baselines:
                raise UserError(
                    f"{source} is not right: `metrics` must be among those of a baseline, "
                    f"{', '.join(dict.fromkeys(of_baselines))}. Received: {metric!r}"
                )
        for improvement in settings.improvements:
            for metric, arm in improvement.against.items():
                for one in (improvement.arm, arm):
                    if metric not in known[one]:
                        raise UserError(
                            f"{source} is not right: `improvements` must be of metrics that both arms have. "
                            f"Received: {metric!r}, which {one!r} has not"
                        )


def make_record(run, metrics):
    """Returns what is kept of a finished run: plain JSON types.

    Args:
        run: `Run`.
        metrics: `dict`, its `metrics.json`.
    """
    history = {name: [round(value, 5) for value in values] for name, values in metrics["history"].items()}
    structure = None if run.structure is None else run.structure.to_dict()
    if structure is not None and "provenance" in structure:
        # Of what a search tells only its cost is compared; the rest, every gate's history, is in the structure's file.
        kept = ("made_by", "cost")
        structure["provenance"] = {key: value for key, value in structure["provenance"].items() if key in kept}
    return {
        "arm": run.arm,
        "seed": run.seed,
        "settings": run.settings,
        "structure": structure,
        "metrics": {**metrics, "history": history},
    }


def read_record(path, run):
    """Returns the record of a run, or `None` if there is none yet.

    Raises:
        UserError: if it is the record of other settings or of another structure.
    """
    if not Path(path).exists():
        return None
    record = read_json(path)
    record_of = record if isinstance(record, dict) else {}
    structure = None if run.structure is None else run.structure.to_dict(with_provenance=False)
    for name, received, value in (
        ("settings", completed_settings(record_of.get("settings")), run.settings),
        # How a structure came to be does not change what was trained.
        ("structure", _without_provenance(record_of.get("structure")), structure),
    ):
        if received != value:
            raise UserError(
                f"`{path}` is the record of other {name} than arm {run.arm!r} has now{_difference(received, value)}. "
                "Delete it to run the arm again, or give the arm another name."
            )
    return record


def completed_settings(settings):
    """Returns recorded settings with those that recipes have got since, at their defaults."""
    try:
        return Recipe.parse(settings, "The record").record()
    except UserError:
        return settings


def _without_provenance(value):
    return {key: item for key, item in value.items() if key != "provenance"} if isinstance(value, dict) else value


def _difference(one, other, path=""):
    """Returns the first setting in which two differ, as text for a message."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            if one.get(key) != other.get(key):
                return _difference(one.get(key), other.get(key), f"{path}.{key}" if path else key)
    return f" (`{path}` was {one!r} and is {other!r})" if path else ""
