"""Reading the YAML of a recipe, without TensorFlow: some of its settings must be known before that is imported."""

import os
from pathlib import Path

import yaml

from auxzoo.errors import UserError

from ..models.zoo import read_index

RECIPES = Path(__file__).parent / "recipes"


def read_settings(source, overrides=()):
    """Returns the settings of a recipe as plain types, overrides applied, not yet checked.

    The arguments and errors are those of `read_recipe`.
    """
    path = Path(source)
    packaged = RECIPES / f"{source}.yaml"
    try:
        if not path.is_file() and os.sep not in str(source) and packaged.is_file():
            path = packaged
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(file.stem for file in RECIPES.glob("*.yaml"))
        raise UserError(
            f"`recipe` must be a YAML file or one of {', '.join(known)}. Received: {str(source)!r}"
        ) from None
    except (OSError, ValueError, yaml.YAMLError) as error:  # a date that does not exist is a `ValueError`
        raise UserError(f"`{path}` cannot be read as YAML: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"`{path}` must hold settings by name. Received: {type(value).__name__}")
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise UserError(f"`--set` must be KEY=VALUE. Received: {override!r}")
        try:
            override_value = yaml.safe_load(text)
        except (ValueError, yaml.YAMLError) as error:
            raise UserError(f"`--set` must have a YAML value. Received: {override!r}: {error}") from None
        set_value(value, key, override_value)
    return value


def without_places(settings):
    """Returns the settings of a recipe without where anything lies: two with the same ask for the same training.

    Args:
        settings: `dict` of plain types, checked or not. Of a folder of pictures or of an entry, and of a file of
            weights or of a structure, it is kept that there is one; what is in it must be compared besides.
    """
    kept = {name: dict(group) for name, group in settings.items() if isinstance(group, dict)}
    data, network, auxiliary = (kept.get(name, {}) for name in ("data", "network", "auxiliary"))
    for name in ("data_dir", "download"):
        data.pop(name, None)
    if str(data.get("source")).startswith("folder:"):
        data["source"] = "folder:"
    if network.get("entry") is not None and str(network["entry"]) not in read_index():
        network["entry"] = "a folder"
    if isinstance(arguments := network.get("arguments"), dict) and arguments.get("weights") not in (None, "imagenet"):
        network["arguments"] = arguments | {"weights": "a file"}
    if str(auxiliary.get("structure")).endswith(".json"):
        auxiliary["structure"] = "a file"
    return settings | kept


def set_value(settings, key, value):
    """Puts a value at a dotted key of nested settings.

    Raises:
        UserError: if a part of the key but the last names a value, not a group.
    """
    *groups, last = key.split(".")
    for group in groups:
        settings = settings.setdefault(group, {})
        if not isinstance(settings, dict):
            raise UserError(f"`{key}` must name a setting of a recipe. Received: {key}={value!r}")
    settings[last] = value
