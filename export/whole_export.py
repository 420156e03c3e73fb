"""A whole export: every file is converted and measured aside, then all appear at their places with records, or none."""

import dataclasses
from collections.abc import Callable

import numpy as np

from auxzoo.data import ImageSet
from auxzoo.errors import UserError
from auxzoo.files import move_together, temporary_folder, write_json

from .calibration import FEWEST, choose_calibration
from .checks import check_takes_pictures
from .conversion import Conversion, convert
from .embedding import with_scaling_inside
from .fitting import check_size
from .folding import fold_batch_normalization
from .formats import FORMATS
from .metadata import Metadata, write_metadata
from .model_file import read_model_file
from .onnx_options import OnnxOptions
from .quantization import Quantization
from .record import Reference, difference_too_large, images_to_compare, keras_reference, record_of, refusal
from .selective_search import Search
from .target_checks import refuse_misfits


@dataclasses.dataclass(frozen=True)
class Export:
    """What an export needs.

    Attributes:
        model: functional Keras model, checked.
        outputs: list of `Output`.
        metadata: `Metadata` of all files.
        paths: `dict` of format name to the `Path` of its file.
        quantization: `Quantization`.
        onnx: `OnnxOptions` of the ONNX files.
        calibration: float32 `[count, height, width, 3]`, what `with_calibration` chose, or `None`.
        manifest: what records tell of these images, or `None`.
        search: `Search` for layers that stay float, or `None`.
        evaluation: `ImageSet` for parity, or `None`.
        measured: the same with truth for the outputs, what `images_for_outputs` returned, or `None`.
        target: name among `TARGETS` that all files must fit, or `None`.
        progress: called with a line of text before each step, or `None`.
    """

    model: object
    outputs: list
    metadata: Metadata
    paths: dict
    quantization: Quantization = dataclasses.field(default_factory=Quantization)
    onnx: OnnxOptions = dataclasses.field(default_factory=OnnxOptions)
    calibration: np.ndarray | None = None
    manifest: dict | None = None
    search: Search | None = None
    evaluation: ImageSet | None = None
    measured: ImageSet | None = None
    target: str | None = None
    progress: Callable[[str], None] | None = None

    def with_calibration(self, images, count, source=None):
        """Returns the same with images chosen for the formats that need them, if one does.

        Args:
            images: as of `choose_calibration`, and so `count` and `source`.

        Raises:
            UserError: as `choose_calibration`; or if the description makes images of another size.
        """
        if not any(FORMATS[form].needs_calibration for form in self.paths):
            return self
        check_takes_pictures(self.model, "formats that are calibrated")
        preprocessing = self.metadata.preprocessing
        if preprocessing is not None:  # the range of an array can be checked
            check_size(self.model, preprocessing)
        others = [] if self.search is None else [self.search.subset.images]
        if self.evaluation is not None:
            others.append(self.evaluation)
            self._tell(
                f"looking for images to calibrate on that are none of the {self.evaluation.size} of the evaluation"
            )
        chosen, manifest = choose_calibration(
            images, self.model.input_shape[1:], preprocessing, count, source, apart_from=others
        )
        if len(chosen) < FEWEST:
            self._tell(f"calibrating on {len(chosen)} images, fewer than the {FEWEST} that are advised")
        return dataclasses.replace(self, calibration=chosen, manifest=manifest)

    def run(self):
        """Converts and measures in a folder of its own; then all files and records appear at their places, or none.

        Returns:
            list of records (`dict`), one a format.
        """
        if self.onnx.is_channels_first:
            check_takes_pictures(self.model, "ONNX files with channels first")
        network, model = fold_batch_normalization(self.model), self.model
        self.quantization.check(network, self.paths, self.search is not None)
        embedded = self.metadata.embedded_preprocessing
        if embedded is not None:
            network, model = (with_scaling_inside(one, embedded) for one in (network, model))
        with temporary_folder() as folder:
            made = {form: folder / path.name for form, path in self.paths.items()}
            converted = self._convert(network, made)
            written = {form: path for form, path in made.items() if form not in converted.refused}
            layouts = {form: write_metadata(path, self.metadata) for form, path in written.items()}
            if self.target is not None:
                refuse_misfits({path.name: read_model_file(path) for path in written.values()}, self.target)
            reference = self._compute_reference(model)
            records = {}
            moves = {path: self.paths[form] for form, path in written.items()}
            for form, path in made.items():
                if form not in converted.refused:
                    self._tell(f"measuring {path.name}")
                    try:
                        records[form] = record_of(self, form, path, layouts[form], converted, reference)
                        reason = difference_too_large(form, records[form]["parity"], reference)
                    except UserError as error:  # of the runtime; where the file lies now is not where it would
                        reason = str(error).replace(str(path), path.name)
                    if reason is not None:
                        converted.refused[form] = reason
                        del moves[path]
                        self._check_one_is_left(converted)
                if form in converted.refused:
                    records[form] = refusal(form, path, converted.refused[form])
                record_path = path.with_name(f"{path.name}.json")
                write_json(record_path, records[form])
                moves[record_path] = self.paths[form].with_name(record_path.name)
            move_together(moves)
            for form in converted.refused:  # one of an earlier export would not be what the record tells
                self.paths[form].unlink(missing_ok=True)
        return list(records.values())

    def _tell(self, line):
        if self.progress is not None:
            self.progress(line)

    def _convert(self, network, made):
        """Writes the files, and returns `Converted`, where one at least is not refused."""
        self._tell(f"converting to {len(made)} format{'s' * (len(made) > 1)}")
        settings = (self.outputs, self.calibration, self.onnx, self.quantization, self.search)
        converted = convert(Conversion(network, made, *settings), self.progress)
        self._check_one_is_left(converted)
        return converted

    def _check_one_is_left(self, converted):
        if converted.refused.keys() == self.paths.keys():
            form, reason = next(iter(converted.refused.items()))
            raise UserError(f"`{self.paths[form].name}` cannot be made: {reason}")

    def _compute_reference(self, model):
        """Returns the `Reference` of the files."""
        images, source = images_to_compare(self)
        if self.measured is not None:
            self._tell(f"measuring the Keras network on {self.measured.size} images")
        preprocessing = self.metadata.preprocessing
        return Reference(images, source, *keras_reference(model, self.outputs, images, self.measured, preprocessing))
