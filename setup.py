"""Maps the folders at the root into one namespace: nothing but `auxzoo` reaches site-packages.

Metadata and tool settings stand in `pyproject.toml`; this file holds what that format cannot say well.
"""

from pathlib import Path

from setuptools import setup

ROOMS = {
    "auxzoo": "auxzoo",
    "auxzoo.models": "models",
    "auxzoo.training": "training",
    "auxzoo.export": "export",
}


def packages_below(package, folder):
    """Yields `(package, folder)` for a room and every package inside it."""
    yield package, folder
    for initializer in sorted(Path(folder).glob("*/__init__.py")):
        inner = initializer.parent
        yield from packages_below(f"{package}.{inner.name}", inner.as_posix())


PACKAGE_DIRECTORIES = {
    package: folder for room, room_folder in ROOMS.items() for package, folder in packages_below(room, room_folder)
}

setup(
    packages=sorted(PACKAGE_DIRECTORIES),
    package_dir=PACKAGE_DIRECTORIES,
    package_data={
        "auxzoo": ["report.html"],
        "auxzoo.data": ["sample/*"],
        "auxzoo.export": ["page/*"],
        "auxzoo.models": ["published/*.json", "published/*/*"],
        "auxzoo.training": ["recipes/*.yaml"],
    },
)
