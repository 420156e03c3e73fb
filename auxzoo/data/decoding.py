"""Pictures: which files are taken for one, and how what they hold becomes pixels."""

import collections
import concurrent.futures
import io
import os
import re
from pathlib import Path

import numpy as np
import PIL.ExifTags
import PIL.Image
import tensorflow as tf
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from auxzoo.errors import first_line

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
# Suffix of a picture that is not read -> its format. Such a file is a broken picture: it must not be lost unseen.
UNREAD = {
    **dict.fromkeys((".heic", ".heif"), "HEIC"),
    **dict.fromkeys((".jp2", ".j2k", ".jpx"), "JPEG 2000"),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PNM"),
    **dict.fromkeys((".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw"), "raw"),
    **{".avif": "AVIF", ".jxl": "JPEG XL", ".psd": "PSD", ".svg": "SVG", ".tga": "TGA", ".exr": "OpenEXR"},
}
_JPEG, _PNG, _GIF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8"
# First bytes -> what reads EXIF data. Pillow turns a TIFF itself when it loads it, the others have none.
_HEADERS = {_JPEG: JpegImageFile, _PNG: PngImageFile, b"RIFF": WebPImageFile}
# The rest is Pillow's: of a BMP TensorFlow takes the numbers of a palette for grey, it refuses a WebP with alpha.
_BY_TENSORFLOW, _BY_PILLOW = (_JPEG, _PNG, _GIF), ("BMP", "TIFF", "WEBP")
# TensorFlow refuses a picture of so many pixels, a JPEG without a word about it.
_TOO_MANY_PIXELS = 2**29
# Results that wait to be looked at.
_MOST_WAITING = 16


def decode(encoded):
    """Returns an encoded picture as it is stored; its first bytes tell what it is.

    Args:
        encoded: string tensor.

    Returns:
        uint8 `[height, width, 3]`, without alpha; of several frames the first.

    Raises:
        OSError, tf.errors.OpError: if it cannot be read; inside `tf.data` another error comes out.
    """
    starts = [tf.strings.substr(encoded, 0, len(signature)) == signature for signature in _BY_TENSORFLOW]
    picture = tf.cond(
        tf.reduce_any(starts),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
        lambda: _by_python(_decoded_by_pillow, encoded, tf.uint8),
    )
    return tf.ensure_shape(picture, [None, None, 3])


def decode_turned(encoded):
    """Returns what `decode` does, turned as its EXIF data tell, as viewers and browsers show it."""
    picture = decode(encoded)
    orientation = tf.ensure_shape(_by_python(_orientation, encoded, tf.int64), ())
    # 1 to 8 of the EXIF standard: 5 to 8 are 1 to 4 with rows and columns exchanged before.
    mirrored = (orientation - 1) % 4
    picture = tf.cond(orientation > 4, lambda: tf.transpose(picture, (1, 0, 2)), lambda: picture)
    picture = tf.cond((mirrored == 1) | (mirrored == 2), lambda: picture[:, ::-1], lambda: picture)
    return tf.cond(mirrored > 1, lambda: picture[::-1], lambda: picture)


def read(record):
    """Returns a picture, a uint8 tensor `[height, width, 3]`.

    Args:
        record: an encoded picture (`bytes`), decoded by `decode`; or the path of one (`str`), by `decode_turned`.

    Raises:
        OSError: if it cannot be read. The message is one line.
    """
    is_path = isinstance(record, str)
    # By the suffix, since some of these look like a TIFF.
    if is_path and (unread := UNREAD.get(os.path.splitext(record)[1].lower())) is not None:
        raise OSError(_not_read(unread))
    encoded = encoded_in(record) if is_path else record
    try:
        with tf.device("CPU:0"):
            return (decode_turned if is_path else decode)(tf.constant(encoded))
    except tf.errors.OpError as error:
        raise OSError(_too_large(encoded) or reason_of(error)) from None


def encoded_in(path):
    """Returns the bytes of a file; raises an `OSError` of one line that names it."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise OSError(f"{printable(path)}; {error.strerror}") from None


def printable(name):
    """Returns the name of a file as text that may be written anywhere: a name need not be UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def reason_of(error):
    """Returns the first line of what an error says."""
    # TensorFlow names the operation before and behind what is wrong.
    text = re.sub(r"\{\{[^}]*\}\}|\[Op:\w+\]", "", getattr(error, "message", None) or str(error))
    return first_line(error, text, longest=200)


def in_order(function, count, threads=None):
    """Yields what a function makes of 0 to `count - 1` in threads; few results wait, since pictures are large."""
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        waiting = collections.deque()
        for number in range(count):
            waiting.append(pool.submit(function, number))
            if len(waiting) > _MOST_WAITING:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _by_python(function, encoded, kind):
    """Returns what a function of `bytes` makes of a string tensor."""
    if tf.executing_eagerly():
        return tf.constant(function(encoded.numpy()))
    return tf.numpy_function(function, [encoded], kind)


def _decoded_by_pillow(encoded):
    try:
        with PIL.Image.open(io.BytesIO(encoded), formats=_BY_PILLOW) as picture:
            if picture.mode.startswith("I;16"):  # Pillow would clip; the upper half, as TensorFlow takes of a PNG
                return np.repeat((np.asarray(picture) >> 8).astype(np.uint8)[..., None], 3, axis=-1)
            if picture.mode in ("I", "F"):
                raise OSError("values of 32 bits are not read; convert it to 8 bits")
            return np.array(picture.convert("RGB"))
    except PIL.UnidentifiedImageError:
        if encoded[4:8] == b"ftyp":
            raise OSError(_not_read("HEIC or AVIF")) from None
        raise OSError("it is none of JPEG, PNG, GIF, BMP, WebP, TIFF, or damaged") from None
    except Exception as error:  # of a damaged file Pillow raises whatever it was that it stumbled over
        raise OSError(reason_of(error)) from None


def _not_read(what):
    return f"{what} is not read; convert it to JPEG or PNG"


def _too_large(encoded):
    """Returns how large a picture is, where it is too large for TensorFlow; else nothing."""
    try:
        with _header(encoded) as header:
            width, height = header.size
    except Exception:  # as in `_decoded_by_pillow`
        return ""
    return f"{height}x{width} pixels are too many" if width * height >= _TOO_MANY_PIXELS else ""


def _orientation(encoded):
    try:
        with _header(encoded) as header:
            orientation = header.getexif().get(PIL.ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF data are no reason not to show a picture that can be decoded
        return np.int64(1)
    return np.int64(orientation if orientation in range(1, 9) else 1)


def _header(encoded):
    """Opens a picture whose pixels are not wanted: `PIL.Image.open` would warn of large ones."""
    (reader,) = (reader for signature, reader in _HEADERS.items() if encoded.startswith(signature))
    return reader(io.BytesIO(encoded))
