"""Which images a command measures or calibrates on: by its arguments, or as the run that it names was trained."""

import dataclasses
import sys
from pathlib import Path

from auxzoo.commands.common import add_reading_arguments
from auxzoo.errors import UserError
from auxzoo.models import zoo


def add_data_arguments(parser):
    """Adds the arguments that choose images."""
    parser.add_argument(
        "--data", help="sample, tfds:NAME or folder:PATH (default: what the recipe in a run's folder was trained on)"
    )
    parser.add_argument(
        "--recipe",
        help="YAML file whose `data` tell what --data leaves open, and whose `data.targets` tell where the truth of "
        "masks, numbers or several tasks is (default: that of a run's folder)",
    )
    add_reading_arguments(parser)


def check_data(arguments, name, hint=""):
    """Raises a `UserError` if neither the arguments nor a run's recipe tell where images come from.

    Args:
        arguments: of a command with those of `add_data_arguments`.
        name: of the network; `None` of a file that tells of itself.
        hint: `str`, how to do without images.
    """
    if arguments.data is None and arguments.recipe is None and _own_recipe(name) is None:
        raise UserError(
            "`--data` must be sample, tfds:NAME or folder:PATH, unless a run's folder or --recipe names images. "
            f"Received: none{hint}"
        )


@dataclasses.dataclass(frozen=True)
class ChosenImages:
    """Where images come from, and how they are opened.

    Attributes:
        source: as of `open_images`.
        splits: name of the split that is trained on and of the one that is measured, by `"train"` and `"test"`; `None`
            where a recipe names none.
        options: other arguments of `open_images`.
    """

    source: str
    splits: dict
    options: dict

    def open(self, part, split=None):
        """Returns the `ImageSet` of a split, and tells of broken images left out.

        Args:
            part: `"train"` or `"test"`, what it is for.
            split: its name; that of the recipe if `None`, which is `"train"` or `"test"` where there is no recipe.

        Raises:
            UserError: if the recipe names none, or as of `open_images`.
        """
        from auxzoo.data import open_images

        split = self.splits[part] if split is None else split
        if split is None:
            raise UserError("`--split` must name the split to measure, since the recipe names none. Received: none")
        images = open_images(self.source, split, **self.options)
        if images.skipped:
            print(f"{len(images.skipped)} broken images of {images.name} left out: {', '.join(images.skipped[:5])}")
        return images


def choose_images(arguments, name, description):
    """Returns the `ChosenImages` of a command's arguments, completed by the recipe of the run that it names.

    A recipe's splits, and how a classifier's own recipe reads its images, count only for the source that it names.

    Args:
        arguments: of a command with those of `add_data_arguments`.
        name: of the network, as the command got it; `None` of a file that tells of itself.
        description: `Description` of the network.

    Raises:
        UserError: if no images are named, or the network is no classifier and there is no recipe.
    """
    from auxzoo.training.recipe import read_recipe

    check_data(arguments, name)
    path = _own_recipe(name) if arguments.recipe is None else arguments.recipe
    if path is None and name in zoo.read_index():
        path = zoo.entry_folder(name) / zoo.RECIPE_FILE
    data = None if path is None else read_recipe(path).data
    if data is None and description.tasks and not description.is_classifier:
        raise UserError(f"`--recipe` must name one whose data have the truth for {description.kinds}. Received: none")
    source = data.source if arguments.data is None else arguments.data
    is_same = data is not None and _place(data.source) == _place(source)
    has_targets = data is not None and (is_same or arguments.recipe is not None or not description.is_classifier)
    return ChosenImages(
        source,
        {"train": data.train_split, "test": data.test_split} if is_same else {"train": "train", "test": "test"},
        {
            "data_dir": arguments.data_dir or (data.data_dir if is_same else None),
            "skip_broken": arguments.skip_broken or (is_same and data.skip_broken),
            "download": arguments.download or (is_same and data.download),
            "targets": data.all_targets if has_targets else None,
        },
    )


def _place(source):
    """Returns a source such that those of one folder are equal, however its path is written."""
    kind, _, path = source.partition(":")
    return Path(path).expanduser().resolve() if kind == "folder" else source


def _own_recipe(name):
    """Returns the recipe in a run's folder, `None` where there is none."""
    if name is None:
        return None
    path = Path(name) / zoo.RECIPE_FILE
    return path if path.is_file() else None


def tell_other_classes(description, images):
    """Warns where the images' classes are others than the network's: scores would be of chance.

    Those that are called exactly as the network's are measured by their names.

    Args:
        description: `Description` of the network.
        images: `ImageSet`, or `None`.
    """
    known = {task.name: task.labels for task in images.tasks} if images is not None else {}
    for task in description.tasks:
        # An image set of one task may have another name for it.
        labels = known.get(task.name) or (next(iter(known.values())) if len(known) == 1 else ())
        own, theirs = ([label.casefold() for label in some] for some in (task.labels, labels))
        if len(own) != len(theirs):  # refused elsewhere, or without names
            continue
        if len(set(labels)) == len(labels) and set(labels) <= set(task.labels):
            continue
        moved = [place for place, label in enumerate(theirs) if label in own and own[place] != label]
        if moved:
            place = moved[0]
            of_network = own.index(theirs[place])
            problem = f"class {labels[place]!r} is number {place} of the images' and {of_network} of the network's"
        elif own and not set(own) & set(theirs):
            problem = (
                f"no class of the images ({', '.join(labels[:3])}, ...) is called as one of the network's "
                f"({', '.join(task.labels[:3])}, ...)"
            )
        else:
            continue
        print(f"Warning: {problem}; are these the images that are meant?", file=sys.stderr)
