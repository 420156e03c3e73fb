"""Commands on `.keras` files that auxzoo did not make."""

import keras
import numpy as np
import onnx
import PIL.Image
import pytest

from auxzoo.export import read_model_file
from auxzoo.export.metadata import parse_metadata
from auxzoo.files import read_json
from auxzoo.models import Preprocessing
from auxzoo.prediction import open_predictor

LABELS = ["red", "green", "blue"]


ENDS = ["none", "activation", "inside", "layer", "named", "operation", "sequential", "nested"]


def classifier(end):
    """Returns a network that tells red, green and blue pictures apart, with one of the usual ends.

    Its weights are those of the layer `classes`, wherever that is.
    """
    if end in ("sequential", "nested"):
        logits = keras.layers.Dense(3, activation="softmax", name="classes")
        network = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D(), logits])
        logits.set_weights([4 * np.eye(3), np.zeros(3)])
        if end == "sequential":
            return network
        inputs = keras.Input((8, 8, 3))
        return keras.Model(inputs, network(inputs), name="wrapped")
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    activation = {"activation": "softmax", "inside": keras.layers.Softmax()}.get(end)
    logits = keras.layers.Dense(3, activation=activation, name="classes")
    outputs = logits(x)
    if end == "operation":
        outputs = keras.ops.softmax(outputs)
    if end == "layer":
        outputs = keras.layers.Softmax(name="probabilities")(outputs)
    if end == "named":
        outputs = keras.layers.Activation("softmax", name="probabilities")(outputs)
    network = keras.Model(inputs, outputs, name="colours")
    logits.set_weights([4 * np.eye(3), np.zeros(3)])
    return network


class Doubling(keras.layers.Layer):
    """What no other process knows."""

    def call(self, inputs):
        return inputs * 2.0


def saved_classifier():
    """Saves a classifier of the classes that a folder has, in the order of the alphabet, as `colours.keras`."""
    network = classifier("none")
    kernel, bias = network.get_weights()
    network.set_weights([kernel[:, [LABELS.index(label) for label in sorted(LABELS)]], bias])
    network.save("colours.keras")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of plain pictures, red, green and blue, for calibration and measuring."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 4)):
        for number, label in enumerate(LABELS):
            (folder / split / label).mkdir(parents=True)
            for picture in range(count):
                pixels = generator.integers(0, 100, (9, 9, 3)).astype("uint8")
                pixels[..., number] += 150
                PIL.Image.fromarray(pixels).save(folder / split / label / f"{picture}.png")
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in sorted(LABELS)), encoding="utf-8-sig")
    return folder


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The command's working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestExport:
    @pytest.mark.parametrize("end", ENDS)
    def test_the_file_tells_what_the_arguments_told(self, command, work, pictures, end):
        network = classifier(end)
        kernel, bias = network.get_weights()
        # Folders are classes in the order of the alphabet.
        network.set_weights([kernel[:, [LABELS.index(label) for label in sorted(LABELS)]], bias])
        network.save("colours.keras")
        arguments = ["--preprocessing", "torch", "--labels", str(pictures / "labels.txt")]
        arguments += ["--data", f"folder:{pictures}", "--formats", "tflite_float32,tflite_int8", "--to", "files"]
        outcome = command("export", "colours.keras", *arguments, "--calibration-count", "100")
        assert outcome.code == 0, outcome.error
        assert outcome.output.count("100.00") >= 3, outcome.output  # both files, and Keras
        for form in ("float32", "int8"):
            file = work / "files" / f"colours_{form}.tflite"
            predictor = open_predictor(file)
            assert predictor.description.preprocessing == Preprocessing.by_convention("torch", 8, 8)
            assert [task.labels for task in predictor.description.tasks] == [tuple(sorted(LABELS))]
            assert read_json(f"{file}.json")["output"]["name"] == ("logits" if end == "none" else "probabilities")
            softmaxes = read_json(f"{file}.json")["operators"].get("SOFTMAX", 0)
            assert softmaxes == (end != "none")

    def options(self, pictures):
        labels = pictures / "labels.txt"
        return [
            "--preprocessing",
            "tf",
            "--labels",
            labels,
            "--data",
            f"folder:{pictures}",
            "--calibration-count",
            "100",
        ]

    @pytest.mark.parametrize("activation", ["sigmoid", "relu", keras.layers.ReLU(name="inside")])
    def test_an_end_that_is_no_logits(self, command, work, pictures, activation):
        network = classifier("none")
        outputs = keras.layers.Activation(activation, name="end")(network.output)
        keras.Model(network.input, outputs).save("colours.keras")
        arguments = ["--preprocessing", "tf", "--data", f"folder:{pictures}", "--to", "files"]
        outcome = command("export", "colours.keras", *arguments, "--formats", "tflite_int8,onnx")
        assert outcome.code == 0, outcome.error
        assert ("Warning: colours.keras ends in a sigmoid" in outcome.error) == (activation == "sigmoid")
        assert "colours_int8.tflite, 12 images" in (work / "files" / "colours.html").read_text("utf-8")
        outcome = command("evaluate", "colours.keras", *arguments[:4])
        assert outcome.code == 0, outcome.error
        assert "% of 12 images" in outcome.output

    def test_files_that_lose_more_than_was_asked_for_are_told(self, command, work, pictures, capsys):
        from auxzoo.commands.export import _tell_larger_drops

        record = {"file": "a.tflite", "quantization": {}, "keras_scores": {"accuracy": 0.9}}
        of_tasks = {"surface_mean_iou": 0.5, "surface_pixel_accuracy": 0.9, "height_root_mean_squared_error": 3.0}
        records = [
            {**record, "accuracy": {"accuracy": 0.88, "images": 10}},
            {**record, "accuracy": {"accuracy": 0.895, "images": 10}, "file": "b.tflite"},
            {**record, "accuracy": of_tasks | {"images": 7}, "keras_scores": of_tasks | {"surface_mean_iou": 0.6}},
            {**record, "accuracy": {"accuracy": 0.1, "images": 10}, "quantization": None},
        ]
        _tell_larger_drops(records, 1.0)
        first, second = capsys.readouterr().out.splitlines()
        assert first.startswith("a.tflite loses 2.00 points on the 10 images of the table, more than 1.0: ")
        assert second.startswith("a.tflite loses 10.00 points on the 7 images")

    def test_a_target_chooses_formats_and_refuses_what_misses_it(self, command, work, pictures):
        saved_classifier()
        arguments = ("export", "colours.keras", *self.options(pictures), "--target", "edgetpu", "--to", "files")
        outcome = command(*arguments)
        assert outcome.code == 0, outcome.error
        assert "Every file fits edgetpu" in outcome.output
        assert sorted(path.name for path in (work / "files").iterdir()) == [
            *("colours.html", "colours_int8.tflite", "colours_int8.tflite.json")
        ]
        outcome = command(*arguments[:-1], "missed", "--formats", "tflite_float32")
        assert outcome.code == 1
        assert "The files do not fit edgetpu" in outcome.error
        assert "colours_float32.tflite: float32, must be" in outcome.error
        assert not (work / "missed").exists()

    def test_options_of_onnx_files_reach_them(self, command, work, pictures):
        saved_classifier()
        options = ("--onnx-opset", "15", "--onnx-layout", "nchw", "--onnx-batch", "dynamic", "--licence", "MIT")
        arguments = ("--formats", "onnx", "--embed-preprocessing", "--to", "files")
        outcome = command("export", "colours.keras", *self.options(pictures), *options, *arguments)
        assert outcome.code == 0, outcome.error
        model = onnx.load("files/colours.onnx")
        assert [one.version for one in model.opset_import if one.domain == ""] == [15]
        sizes = [size.dim_value or size.dim_param for size in model.graph.input[0].type.tensor_type.shape.dim]
        assert sizes[1:] == [3, 8, 8]
        assert isinstance(sizes[0], str)
        metadata = parse_metadata("files/colours.onnx")
        assert metadata.licence == "MIT"
        # The pixels come as they are: the file scales them itself.
        assert metadata.embedded_preprocessing.scale == (1 / 127.5,) * 3
        assert read_json("files/colours.onnx.json")["accuracy"]["accuracy"] == 1.0

    def test_options_of_quantisation_reach_the_files(self, command, work, pictures):
        saved_classifier()
        options = ("--engine", "ai-edge-quantizer", "--calibration-method", "percentile", "--keep-float", "classes")
        arguments = ("--formats", "tflite_int8", "--to", "files")
        outcome = command("export", "colours.keras", *self.options(pictures), *options, *arguments)
        assert outcome.code == 0, outcome.error
        told = read_json("files/colours_int8.tflite.json")["quantization"]
        assert told["engine"] == "ai-edge-quantizer"
        assert told["calibration_method"] == "percentile"
        assert told["keep_float"] == ["classes"]
        assert "float32" in {tensor.type for tensor in read_model_file("files/colours_int8.tflite").tensors}

    def test_max_drop_tells_what_it_found(self, command, work, pictures, monkeypatch):
        saved_classifier()
        monkeypatch.setattr("auxzoo.export.trials.drop_of", lambda *scores: 6.0)  # not in the child that searches
        arguments = ("--formats", "tflite_int8", "--max-drop", "5", "--tuning-count", "20", "--to", "files")
        outcome = command("export", "colours.keras", *self.options(pictures), *arguments)
        assert outcome.code == 0, outcome.error
        search = read_json("files/colours_int8.tflite.json")["quantization"]["search"]
        assert search["max_drop"] == 5
        assert f"for a drop of at most 5.0 points: {', '.join(search['keep_float']) or 'none'};" in outcome.output
        assert f"{search['trials']} file" in outcome.output
        assert "colours_int8.tflite loses 6.00 points on the 12 images of the table, more than 5.0" in outcome.output

    @pytest.mark.parametrize("name", ["colours_float32.tflite", "colours.onnx"])
    def test_inspect_reads_back_what_was_told(self, command, work, pictures, name):
        saved_classifier()
        form = "onnx" if name.endswith("onnx") else "tflite_float32"
        arguments = ("--formats", form, "--licence", "MIT", "--to", "files")
        assert command("export", "colours.keras", *self.options(pictures), *arguments).code == 0
        outcome = command("inspect", f"files/{name}", "--json", "told.json")
        assert outcome.code == 0, outcome.error
        words = " ".join(outcome.output.split())
        record = read_json(f"files/{name}.json")
        assert "It says of itself: colours, written by auxzoo" in words
        assert "licence: MIT" in words
        assert f"weights' SHA-256: {record['metadata']['weights_sha256']}" in words
        assert "preprocessing before it: height 8; width 8; fit resize; scale [0.00784" in words
        assert f"3 classes: {', '.join(sorted(LABELS))}" in words
        (told,) = read_json("told.json")
        assert told["metadata"]["tasks"][0]["labels"] == sorted(LABELS)

    def test_quantization_report_too(self, command, work, pictures):
        classifier("activation").save("colours.keras")
        arguments = ["--preprocessing", "tf", "--data", f"folder:{pictures}", "--to", "report", "--count", "12"]
        outcome = command("quantization-report", "colours.keras", *arguments, "--calibration-count", "100")
        assert outcome.code == 0, outcome.error
        assert "classes" in outcome.output

    @pytest.mark.parametrize("end", ENDS)
    def test_it_is_measured_and_predicts_without_any_file(self, command, work, pictures, end):
        network = classifier(end)
        kernel, bias = network.get_weights()
        network.set_weights([kernel[:, [LABELS.index(label) for label in sorted(LABELS)]], bias])
        network.save("colours.keras")
        arguments = ["--preprocessing", "torch", "--labels", str(pictures / "labels.txt")]
        outcome = command("evaluate", "colours.keras", *arguments, "--data", f"folder:{pictures}")
        assert outcome.code == 0, outcome.error
        assert "100.00 % of 12 images" in outcome.output
        outcome = command("predict", "colours.keras", str(pictures / "test/green/0.png"), *arguments, "--to", "drawn")
        assert outcome.code == 0, outcome.error
        assert outcome.output.startswith("0.png: green ")
        assert (work / "drawn" / "0.png").exists()

    @pytest.mark.parametrize("kind", ["segmentation", "regression"])
    def test_an_output_at_every_pixel_is_drawn(self, command, work, pictures, kind):
        inputs = keras.Input((8, 8, 3))
        keras.Model(inputs, keras.layers.Conv2D(2 if kind == "segmentation" else 1, 1)(inputs)).save("dense.keras")
        picture = str(pictures / "test/green/0.png")
        outcome = command("predict", "dense.keras", picture, "--preprocessing", "none", "--task", kind, "--to", "drawn")
        assert outcome.code == 0, outcome.error
        assert ("class" in outcome.output.split("\n")[0]) == (kind == "segmentation")

    @pytest.mark.parametrize("name", ["evaluate", "predict"])
    def test_what_tells_of_itself_needs_no_arguments(self, command, work, pictures, name):
        (work / "net.tflite").write_bytes(b"never read")
        rest = ["--data", f"folder:{pictures}"] if name == "evaluate" else [str(pictures / "test/green/0.png")]
        for network in ("resnet18_025_cifar10", "net.tflite"):
            outcome = command(name, network, *rest, "--preprocessing", "tf")
            assert outcome.code == 2
            assert "`--preprocessing` may be given only for a .keras file that auxzoo did not make." in outcome.error
        saved_classifier()
        outcome = command(name, "colours.keras", *rest)
        assert outcome.code == 2
        assert "`--preprocessing` must be one of tf, torch, unit, none for colours.keras" in outcome.error

    def test_an_output_at_every_pixel(self, command, work):
        inputs = keras.Input((8, 8, 3))
        keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs), name="mask").save("mask.keras")
        arguments = ["--preprocessing", "none", "--task", "segmentation", "--formats", "onnx", "--no-accuracy"]
        outcome = command("export", "mask.keras", *arguments, "--to", "files")
        assert outcome.code == 0, outcome.error
        (task,) = open_predictor(work / "files" / "mask.onnx").description.tasks
        assert task.kind == "segmentation"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                [],
                "`--preprocessing` must be one of tf, torch, unit, none for colours.keras, which auxzoo did not make. ",
            ),
            (["--preprocessing", "caffe"], "Received: caffe"),
            (["--preprocessing", "tf", "--task", "regression"], "`--task` must be classification for an output of "),
            (["--preprocessing", "tf", "--labels", "two.txt"], "a line for each of 3 classes. Received: `two.txt`, 2"),
            (
                ["--preprocessing", "tf", "--labels", "empty.txt"],
                "`empty.txt` must have a name in every line. Received:",
            ),
            (
                ["--preprocessing", "tf", "--labels", "lost.txt"],
                "`--labels` must be a text file of names, one a line.",
            ),
            (
                ["--preprocessing", "tf", "--labels", "colours.keras"],
                "`colours.keras` cannot be read as names",
            ),
        ],
    )
    def test_wrong_arguments_are_told(self, command, work, arguments, message):
        saved_classifier()
        (work / "two.txt").write_text("red\ngreen\n")
        (work / "empty.txt").write_text("red\n\ngreen\n")
        outcome = command("export", "colours.keras", "--formats", "onnx", "--no-accuracy", "--to", "files", *arguments)
        assert (outcome.code, (work / "files").exists()) == (2, False)
        assert message in outcome.error

    @pytest.mark.parametrize(
        ("make_output", "size", "arguments", "message"),
        [
            (lambda x: keras.layers.Conv2D(2, 1)(x), 3, [], "`--task` must be segmentation or regression for"),
            (lambda x: keras.layers.Reshape((-1, 3))(x), 3, [], "must be (classes) or (rows, columns, channels)."),
            (lambda x: keras.layers.Dense(1)(keras.layers.Flatten()(x)), 3, [], "of 2 classes or more"),
            (lambda x: {"a": x, "b": x}, 3, [], "must be one tensor. Received: a, b"),
            (lambda x: keras.layers.Flatten()(x), 1, [], "must be pictures, (rows, columns, 3). Received: (8, 8, 1)"),
        ],
        ids=["no task", "sequence", "one number", "several outputs", "grey"],
    )
    def test_networks_that_cannot_be_described(self, command, work, make_output, size, arguments, message):
        inputs = keras.Input((8, 8, size))
        keras.Model(inputs, make_output(keras.layers.ReLU()(inputs))).save("other.keras")
        outcome = command("export", "other.keras", "--preprocessing", "tf", "--formats", "onnx", "--no-accuracy")
        assert outcome.code == 2
        assert message in outcome.error

    @pytest.mark.parametrize(
        ("make_layer", "message"),
        [
            (lambda: keras.layers.Lambda(lambda x: x * 2, name="double"), "`other.keras` cannot be loaded: "),
            (lambda: Doubling(name="double"), "Could not locate class 'Doubling'"),
            (lambda: keras.layers.ReLU(dtype="mixed_bfloat16", name="half"), "'half' computes in bfloat16"),
        ],
        ids=["lambda", "custom", "bfloat16"],
    )
    @pytest.mark.parametrize("name", ["export", "quantization-report"])
    def test_layers_that_cannot_be_exported(self, command, work, pictures, make_layer, message, name):
        inputs = keras.Input((8, 8, 3))
        keras.Model(inputs, keras.layers.Flatten()(make_layer()(inputs))).save("other.keras")
        arguments = ["--preprocessing", "tf", "--data", f"folder:{pictures}", "--to", "files"]
        outcome = command(name, "other.keras", *arguments)
        assert (outcome.code, (work / "files").exists()) == (2, False)
        assert message in outcome.error
        assert len(outcome.error.splitlines()) == 1

    def test_a_softmax_that_cannot_be_taken_off_is_named(self, command, work):
        inner = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Softmax(name="end")])
        inputs = keras.Input((8, 8, 3))
        keras.Model(inputs, inner(inputs)).save("other.keras")
        outcome = command("export", "other.keras", "--preprocessing", "tf", "--formats", "onnx", "--no-accuracy")
        assert outcome.code == 2
        assert "Received: 'end', inside a network that is a layer" in outcome.error

    def test_a_softmax_over_another_axis_is_named(self, command, work):
        inputs = keras.Input((8, 8, 3))
        keras.Model(inputs, keras.layers.Softmax(axis=1, name="rows")(inputs)).save("other.keras")
        arguments = ["--preprocessing", "tf", "--task", "segmentation", "--formats", "onnx", "--no-accuracy"]
        outcome = command("export", "other.keras", *arguments)
        assert outcome.code == 2
        assert "must be over the last axis. Received: 'rows', axis=1" in outcome.error

    def test_a_network_of_ours_tells_of_itself(self, command, work):
        arguments = ["--formats", "onnx", "--no-accuracy", "--labels", "labels.txt"]
        outcome = command("export", "resnet18_025_cifar10", *arguments)
        assert outcome.code == 2
        assert "`--labels` may be given only for a .keras file that auxzoo did not make." in outcome.error
