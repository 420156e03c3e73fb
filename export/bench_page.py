"""A folder with a page that measures an ONNX file in a browser and shows what it says of pictures."""

import shutil
from pathlib import Path

from auxzoo.errors import UserError
from auxzoo.files import sha256, write_json, written_aside
from auxzoo.pictures import COLOUR_MAP, NO_NUMBER, colours_of

from .apart import SECONDS, Apart, FileApart
from .metadata import check_fits, check_same, described_by, parse_metadata, tells_all
from .web_runtime import FILES, PACKAGE, runtime_folder

FACTS_FILE = "network.json"
NETWORK_FILE = "network.onnx"
_PAGE = Path(__file__).parent / "page"
_PAGE_FILES = ("index.html", "style.css", "page.js", "picture.js", "prediction.js", "measurement.js")


def write_page(path, folder, description=None, runtime_from=None, overwrite=False, progress=None, timeout=SECONDS):
    """Writes a folder that any web server can serve: page, runtime, the file, and what the page must know of it.

    Args:
        path: `str` or `Path` of an ONNX file that takes one image of a fixed size, float32, `[1, height, width, 3]` or
            `[1, 3, height, width]`.
        folder: `str` or `Path`, which must not exist.
        description: `Description` of the file's network, with preprocessing and tasks; what the file's metadata say if
            `None`. Where nothing tells them the page measures latency and shows no prediction.
        runtime_from: as the `folder` of `runtime_folder`.
        overwrite: whether a folder that such a page was written to is replaced.
        progress: called with a line of text before each step, or `None`.
        timeout: seconds, within which the file must be loaded.

    Returns:
        `Path` of the folder.

    Raises:
        UserError: if `path` is no such file, does not fit the description, or cannot be run; if `folder` exists, or the
            runtime cannot be had.

    Example:
        >>> write_page("flowers.onnx", "flowers_page")
    """
    path, folder = Path(path), Path(folder)
    check_path(path)
    if folder.exists() and not (overwrite and (folder / FACTS_FILE).is_file() and (folder / "page.js").is_file()):
        what = "give --overwrite" if (folder / FACTS_FILE).is_file() else "it must be a new folder"
        raise UserError(f"`{folder}` exists already; {what}.")
    facts = network_facts(path, description, timeout)
    source, version = runtime_folder(runtime_from, progress)
    with written_aside(folder) as temporary:
        temporary.mkdir()
        for name in _PAGE_FILES:
            shutil.copyfile(_PAGE / name, temporary / name)
        for name in FILES:
            shutil.copyfile(source / name, temporary / name)
        shutil.copyfile(path, temporary / NETWORK_FILE)
        _check_runs_alone(temporary / NETWORK_FILE, path, timeout)
        facts |= {"sha256": sha256(temporary / NETWORK_FILE), "runtime": {"package": PACKAGE, "version": version}}
        write_json(temporary / FACTS_FILE, facts)
        if folder.exists():
            shutil.rmtree(folder)
    return folder


def check_path(path):
    """Raises a `UserError` if `path`, a `Path`, is no ONNX file by its name and size."""
    if path.suffix != ".onnx":
        raise UserError(f"`path` must end in .onnx, which browsers can run. Received: `{path}`")
    Apart.check(path)


def _check_runs_alone(copy, path, timeout):
    """Raises a `UserError` unless a copy of `path`, which was run, runs without the files that lay beside it."""
    try:
        FileApart(copy, timeout=timeout).close()
    except UserError as error:
        raise UserError(
            f"`{path}` must run without other files beside it, as in a page: `onnx.save(onnx.load(path), path)` puts "
            f"external weights in. Received: {str(error).removeprefix(f'`{copy}` ')}"
        ) from None


def network_facts(path, description=None, timeout=SECONDS):
    """Returns what the page must know of an ONNX file, as plain JSON types.

    Args:
        path: `Path` of the file, which is run once in a child process.
        description: as of `write_page`.
        timeout: as of `write_page`.

    Raises:
        UserError: as of `write_page`.
    """
    file = FileApart(path, timeout=timeout)
    tensors = file.tensors()
    file.close()
    outputs = tensors.get("outputs") or [tensors["output"]]
    shape = [1, *tensors["input"]["shape"][1:]]
    facts = {
        "file": path.name,
        "bytes": path.stat().st_size,
        "input": {"name": tensors["input"]["name"], "shape": shape},
        "outputs": [{"name": output["name"], "shape": output["shape"]} for output in outputs],
        "preprocessing": None,
        "tasks": [],
    }
    metadata = parse_metadata(path)
    if tells_all(metadata) or (metadata is not None and description is None):
        given, description = description, described_by(metadata, tensors, path)
        check_same(given, description, path, "description")
    if description is None:
        return facts
    preprocessing = description.preprocessing
    size = [preprocessing.height, preprocessing.width]
    layouts = {"NHWC": [1, *size, 3], "NCHW": [1, 3, *size]}
    layout = next((name for name, of_layout in layouts.items() if of_layout == shape), None)
    if layout is None:
        raise UserError(
            f"`description` must be of the network of `{path}`: it makes images of {size[0]}x{size[1]}. "
            f"Received: a file that takes {shape}"
        )
    facts["input"]["layout"] = layout
    facts["preprocessing"] = vars(preprocessing) | {"scale": [*preprocessing.scale], "offset": [*preprocessing.offset]}
    of_tasks = check_fits(description, tensors, path, "description")
    facts["tasks"] = [_of_task(task, of_tasks[task.name]["name"]) for task in description.tasks]
    told = {} if metadata is None else {output.task: output.activation or "logits" for output in metadata.outputs}
    for task in facts["tasks"]:
        task["gives"] = told.get(task["name"])  # `None` where the file does not tell
    return facts


def _of_task(task, output):
    """Returns a task with the name of the output that is its."""
    facts = task.to_dict() | {"output": output, "labels": list(task.labels)}
    if task.kind == "segmentation":
        facts["colours"] = colours_of(task).tolist()
    if task.kind == "regression":
        facts["colour_map"], facts["no_number"] = _colour_map()
    return facts


def _colour_map():
    """Returns the colours of heights, low ones first, and that of pixels without a number: those of our pictures."""
    import matplotlib
    from matplotlib.colors import to_rgb

    colours = [[round(255 * part) for part in colour[:3]] for colour in matplotlib.colormaps[COLOUR_MAP](range(256))]
    return colours, [round(255 * part) for part in to_rgb(NO_NUMBER)]
