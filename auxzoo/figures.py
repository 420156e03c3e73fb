"""What every picture that is drawn with matplotlib shares: settings, texts of any content, files written aside."""

import contextlib
from pathlib import Path

from auxzoo.errors import UserError
from auxzoo.files import written_aside

LONGEST_LABEL, LONGEST_TITLE = 48, 120


def checked_path(path, suffixes):
    """Returns `path` as a `Path`.

    Raises:
        UserError: if it does not end in one of the suffixes.
    """
    if not isinstance(path, str | Path) or Path(path).suffix.lower() not in suffixes:
        raise UserError(f"`path` must end in {' or '.join(suffixes)}. Received: path={str(path)!r}")
    return Path(path)


@contextlib.contextmanager
def fixed_style():
    """Sets aside the settings of the caller while a picture is drawn: the same input gives the same file."""
    import matplotlib

    settings = {
        "svg.fonttype": "none",  # text stays text, which can be searched and read aloud
        "svg.hashsalt": "auxzoo",
        "text.parse_math": False,  # a name may hold a dollar sign
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        yield


def save_figure(figure, path, resolution):
    """Writes a figure aside and renames it.

    Args:
        figure: matplotlib's.
        path: `Path`, ending in `.png` or `.svg`.
        resolution: pixels per inch.

    Raises:
        UserError: if it cannot be written.
    """
    file_format = path.suffix.lower()[1:]
    metadata = {"Date": None} if file_format == "svg" else None
    try:
        with written_aside(path) as temporary:
            figure.savefig(temporary, format=file_format, dpi=resolution, metadata=metadata)
    except OSError as error:
        raise UserError(f"`path` cannot be written: {error.strerror or error}. Received: path={str(path)!r}") from None


def one_line(name, longest=LONGEST_LABEL):
    """Returns the name as one line of printable text, without its middle if it is very long."""
    text = "".join(character if character.isprintable() else " " for character in str(name))
    half = longest // 2
    return text if len(text) <= longest else f"{text[: half - 1]}…{text[-half:]}"


def text_width(texts, size, weight, resolution):
    """Returns the width of the widest text in pixels.

    Args:
        texts: strings.
        size: of the font, in points.
        weight: `"normal"` or `"bold"`.
        resolution: pixels per inch.
    """
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    renderer, font = RendererAgg(1, 1, resolution), FontProperties(size=size, weight=weight)
    return max((renderer.get_text_width_height_descent(text, font, ismath=False)[0] for text in texts), default=0)
