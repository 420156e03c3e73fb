"""Files that compute in whole numbers: number types, engines, ranges of activations, layers that stay float."""

import functools
import importlib.util
import itertools
import json
import types

import keras
import numpy as np
import onnx
import PIL.Image
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import auxzoo
from auxzoo import command_line, models
from auxzoo.data import ImageSet
from auxzoo.errors import UserError
from auxzoo.export import (
    FORMATS,
    export_files,
    open_file,
    quantization_report,
    selective_search,
    tflite_quantization,
    to_tflite,
)
from auxzoo.export.activation_ranges import _BINS, _least_squares, _percentile, activation_ranges
from auxzoo.export.calibration import choose_calibration
from auxzoo.export.folding import fold_batch_normalization
from auxzoo.export.layer_operators import last_layers, layer_operators, layers_by_operator
from auxzoo.export.onnx_quantization import _nodes_of
from auxzoo.export.outputs import Output
from auxzoo.export.quantization import CALIBRATION_METHODS, ENGINES, Quantization
from auxzoo.export.refused import Refused
from auxzoo.export.selective_search import Search, _least_count, find_float_layers
from auxzoo.export.tflite_buffers import add_buffers, read_buffer
from auxzoo.export.tflite_conversion import save_for_tflite, tflite_content
from auxzoo.export.tflite_quantization import check_allocation, open_quantizer
from auxzoo.export.trials import drop_of
from auxzoo.export.tuning import tuning_part

WHOLE = [name for name, form in FORMATS.items() if form.activations and name.startswith("tflite")]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A network with trained weights, its quantisers, and the packaged pictures that they are calibrated on."""
    network = auxzoo.load("mobilenet_v2_050_cifar10")
    images = auxzoo.data.open_images("sample", "train")
    calibration, _ = choose_calibration(images, (32, 32, 3), auxzoo.describe(network).preprocessing, 100)
    calibration = calibration[:32]  # most of the time goes into looking at them, again and again
    folded, saved_model = fold_batch_normalization(network), tmp_path_factory.mktemp("shipped") / "saved_model"
    save_for_tflite(folded, [Output("logits")], saved_model)
    expected = folded(calibration).numpy()

    @functools.cache
    def quantizer(engine, method="min_max"):
        if engine == "ai-edge-quantizer":
            pytest.importorskip("ai_edge_quantizer")
        return open_quantizer(Quantization(engine, method), saved_model, calibration, folded)

    @functools.cache
    def content(engine, form, method="min_max"):
        return quantizer(engine, method).content(FORMATS[form])

    @functools.cache
    def float_content(*arguments):
        return tflite_content(*arguments)

    @functools.cache
    def ranges(float_content, method, levels):
        return activation_ranges(float_content, calibration, method, levels)

    def error_of(content, path):
        path.write_bytes(content)
        return float(np.abs(open_file(path).predict(calibration) - expected).mean() / expected.std())

    with pytest.MonkeyPatch.context() as patch:
        # All quantisers begin with the same float file, and those of one method with the same ranges.
        patch.setattr(tflite_quantization, "tflite_content", float_content)
        patch.setattr(
            tflite_quantization,
            "activation_ranges",
            lambda float_content, images, method, levels=256: ranges(float_content, method, levels),
        )
        yield types.SimpleNamespace(
            folded=folded, calibration=calibration, quantizer=quantizer, content=content, error_of=error_of
        )


def ends(content, path):
    path.write_bytes(content)
    tensors = open_file(path).tensors()
    return tensors["input"]["type"], tensors["output"]["type"]


@pytest.mark.slow
class TestEngines:
    @pytest.mark.parametrize("engine", ENGINES)
    def test_every_layer_with_weights_has_an_operator(self, shipped, engine):
        quantizer = shipped.quantizer(engine)
        with_weights = [layer.name for layer in shipped.folded.layers if layer.count_params()]
        chosen = layers_by_operator(quantizer.operators, quantizer.weights)
        assert [layer for layer in chosen if quantizer.weights[layer]] == with_weights
        operators = [name for layer in chosen for name in quantizer.operators[layer]]
        assert len(operators) == len(set(operators)) == 64

    @pytest.mark.parametrize("form", WHOLE)
    @pytest.mark.parametrize("engine", ENGINES)
    def test_number_types(self, shipped, tmp_path, engine, form, kernels):
        if engine == "tensorflow" and FORMATS[form].activations == "int16":
            pytest.skip("made by other code, which the whole export tests")
        content = shipped.content(engine, form)
        assert set(kernels(content).values()) == {"INT8"}
        assert ends(content, tmp_path / "a.tflite") == (FORMATS[form].ends,) * 2
        assert shipped.error_of(content, tmp_path / "a.tflite") < (0.05 if "int8" in form else 0.03)
        assert read_buffer(add_buffers(content, {"NAME": b"content"}), "NAME") == b"content"

    @pytest.mark.parametrize("kept", [["Conv1"], ["block_3_expand_relu"], ["predictions", "block_2_add"]], ids=str)
    @pytest.mark.parametrize("form", ["tflite_int8", "tflite_int8_float_io"])
    @pytest.mark.parametrize("engine", ENGINES)
    def test_kept_layers_alone_are_float(self, shipped, tmp_path, engine, form, kept, kernels):
        quantizer = shipped.quantizer(engine)
        content = quantizer.content(FORMATS[form], kept)
        floats = [name for name, kind in kernels(content).items() if kind == "FLOAT32"]
        expected = {"block_3_expand_relu": "block_3_expand"}.get(kept[0], kept[0])
        assert [name.split("/")[1] for name in floats] == [f"{expected}_1"]
        assert len(content) > len(shipped.content(engine, form))
        assert ends(content, tmp_path / "a.tflite") == (FORMATS[form].ends,) * 2
        assert shipped.error_of(content, tmp_path / "a.tflite") < 0.05

    @pytest.mark.parametrize("engine", ENGINES)
    def test_all_layers_in_float_are_the_float_file(self, shipped, tmp_path, engine):
        quantizer = shipped.quantizer(engine)
        content = quantizer.content(FORMATS["tflite_int8_float_io"], list(quantizer.operators))
        assert shipped.error_of(content, tmp_path / "a.tflite") < 1e-5

    @pytest.mark.parametrize("kept", ["Conv1", "predictions"])
    def test_uint8_ends_need_whole_numbers_beside_them(self, shipped, kept):
        form = FORMATS["tflite_int8_uint8_io"]
        content = shipped.quantizer("tensorflow").content(form, [kept])
        with pytest.raises(Refused, match="would be float32 and not uint8, for the layer there stays float"):
            check_allocation(content, form)
        check_allocation(shipped.quantizer("tensorflow").content(form, ["block_2_add"]), form)

    def test_a_layer_without_an_operator(self, shipped):
        with pytest.raises(Refused, match="the layer 'image' has no operator of its own in the file"):
            shipped.quantizer("tensorflow").content(FORMATS["tflite_int8"], ["image"])

    @pytest.mark.parametrize("method", CALIBRATION_METHODS)
    def test_methods_differ_and_fit(self, shipped, tmp_path, method):
        found = {}
        for engine in CALIBRATION_METHODS[method]:
            content = shipped.content(engine, "tflite_int8", method)
            found[engine] = content
            assert shipped.error_of(content, tmp_path / "a.tflite") < (0.2 if method == "moving_average" else 0.06)
            if method != "min_max":
                assert content != shipped.content(engine, "tflite_int8")
        assert found

    def test_ranges_are_those_of_the_layers(self, shipped):
        """And lie in the converter's, which are too wide where a sum is written over its term (`block_2_project`)."""
        quantizer = shipped.quantizer("tensorflow")
        ours = activation_ranges(quantizer.float_content, shipped.calibration, "min_max")
        graph, compared = schema.Model.GetRootAs(quantizer._calibrated, 0).Subgraphs(0), 0
        for tensor in (graph.Tensors(index) for index in range(graph.TensorsLength())):
            statistics, name = tensor.Quantization(), tensor.Name().decode()
            if name in ours and statistics is not None and statistics.MinLength():
                low, high = ours[name]
                assert low >= min(statistics.Min(0), 0) - 1e-3, name
                assert high <= max(statistics.Max(0), 0) + 1e-3, name
                compared += 1
        assert compared == 65  # the input and 64 operators
        for layer in ("Conv1_relu", "block_2_project", "block_2_add", "global_average_pooling", "predictions"):
            values = keras.Model(shipped.folded.input, shipped.folded.get_layer(layer).output)(shipped.calibration)
            expected = (min(float(values.numpy().min()), 0), max(float(values.numpy().max()), 0))
            assert ours[quantizer.operators[layer][0]] == pytest.approx(expected, rel=1e-4, abs=1e-4), layer


@pytest.mark.parametrize("outputs", [["first"], ["first", "second"], ["second", "first"]], ids=" ".join)
def test_an_output_without_weights_is_its_layers(outputs, tmp_path):
    """Its operator is called after the whole function; in a report it would be in int8 whatever stays float."""
    image = keras.Input((8, 8, 3), name="image")
    heads = {
        name: keras.layers.Resizing(8, 8, name=f"{name}_upsampling")(
            keras.layers.Conv2D(2, 3, strides=2, name=f"{name}_predictions")(image)
        )
        for name in outputs
    }
    network = keras.Model(image, heads if len(heads) > 1 else heads["first"])
    ends = [Output(name, key=name) for name in outputs] if len(heads) > 1 else [Output("logits")]
    save_for_tflite(network, ends, tmp_path / "saved_model")
    content = tflite_content(tmp_path / "saved_model", FORMATS["tflite_float32"], None)
    found = layer_operators(content, [layer.name for layer in network.layers], last_layers(network))
    assert set(found) >= {layer.name for layer in network.layers if layer.name != "image"}
    assert len({name for names in found.values() for name in names}) == 2 * len(outputs)


def test_a_drop_is_met_to_the_last_bit():
    """0.831 less 0.830 is one image in a thousand, and 0.10000000000000853 points to the processor."""
    measured, reference = ({"scores": {"accuracy": share}} for share in (0.830, 0.831))
    assert drop_of(measured, reference) == 0.1


class TestRanges:
    @given(st.integers(0, 2**31), st.floats(0.5, 3), st.booleans())
    @settings(deadline=None, max_examples=25)
    def test_percentile_is_that_of_numpy(self, seed, power, is_positive):
        values = np.random.default_rng(seed).normal(size=20011)
        values = np.sign(values) * np.abs(values) ** power
        values = np.abs(values) if is_positive else values
        low, high = min(values.min(), 0.0), values.max()
        counts, _ = np.histogram(values, _BINS, (low, high))
        found = _percentile(counts, low, high, 256)
        bin_width = (high - low) / _BINS
        expected = np.percentile(values, [0.005, 99.995], method="inverted_cdf")
        assert found[0] <= 0 <= found[1]
        assert found[1] == pytest.approx(expected[1], abs=2 * bin_width)
        assert found[0] == pytest.approx(min(expected[0], 0), abs=2 * bin_width)

    @given(st.integers(0, 2**31), st.floats(1, 1000))
    @settings(deadline=None, max_examples=10)
    def test_least_squares_is_no_worse_than_the_whole_range(self, seed, outlier):
        values = np.append(np.random.default_rng(seed).normal(size=5000), [-1.0, outlier])
        low, high = values.min(), values.max()
        counts, edges = np.histogram(values, _BINS, (low, high))
        centres = (edges[1:] + edges[:-1]) / 2

        def error(limits):
            step = (limits[1] - limits[0]) / 255
            rounded = np.clip(np.round((centres - limits[0]) / step), 0, 255) * step + limits[0]
            return (counts * (rounded - centres) ** 2).sum()

        found = _least_squares(counts, low, high, 256)
        assert low <= found[0] <= 0 <= found[1] <= high
        assert error(found) <= error((low, high)) * (1 + 1e-9)

    @given(st.integers(0, 70), st.integers(1, 64))
    def test_least_count_of_layers(self, least, largest):
        expected = max(least, 1) if least <= largest else None
        asked = []
        assert _least_count(lambda count: asked.append(count) or count >= least, largest) == expected
        for place, count in enumerate(asked):  # what failed is not tried again, nor less
            assert count > max((one for one in asked[:place] if one < least), default=0)


class TestSearch:
    """Of layers that stay float, on a file that is no file: what each saves and weighs is known."""

    LAYERS = st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 100)), min_size=1, max_size=8)

    @pytest.fixture
    def search_among(self, tmp_path, monkeypatch):
        def search(layers, max_drop):
            weights, saved = ({f"layer_{place}": one[of] for place, one in enumerate(layers)} for of in (0, 1))
            whole = sum(saved.values())
            tried = {}

            def measure(kept):
                lost = whole - sum(saved[name] for name in kept)
                tried[frozenset(kept)] = lost
                size = 10_000 + sum(3 * weights[name] for name in kept)
                return {"error": lost / 100, "bytes": size, "scores": {"accuracy": 1 - lost / 10_000}}

            trials = types.SimpleNamespace(float={"scores": {"accuracy": 1.0}}, measure=measure)
            monkeypatch.setattr(selective_search, "Trials", lambda *arguments: trials)
            monkeypatch.setattr(selective_search, "tell_parent", lambda *arguments: None)
            quantizer = types.SimpleNamespace(
                float_content=None,
                operators={name: [name] for name in weights},
                weights=weights,
                content=lambda form, kept: kept,
            )
            images = ImageSet.from_arrays(np.zeros((2, 4, 4, 3), "uint8"), [0, 1], ("a", "b"))
            subset = types.SimpleNamespace(images=images)
            found = find_float_layers(Search(max_drop, subset), quantizer, None, [], tmp_path)
            return found, tried, weights

        return search

    def test_one_light_layer_is_chosen_where_a_heavy_one_saves_more(self, search_among):
        found, *_ = search_among([(300, 50), (1, 45), (1000, 5)], 0.6)
        assert found["keep_float"] == ["layer_1"]

    def test_nine_times_of_ten_it_is_the_lightest_of_all_choices(self, search_among):
        """All of eight layers are looked through beside it; each layer adds its share to the loss."""
        generator, limit, excess = np.random.default_rng(0), 60, []
        while len(excess) < 100:
            weights = (10 ** generator.uniform(1, 4, 8)).astype(int)
            saved = generator.exponential(30, 8).astype(int)
            choices = np.array(list(itertools.product((0, 1), repeat=8)))
            fits = (saved.sum() - choices @ saved <= limit) & (choices @ weights <= weights.sum() / 3)
            if saved.sum() <= limit or not fits.any():
                continue
            found, tried, _ = search_among(list(zip(weights.tolist(), saved.tolist(), strict=True)), limit / 100)
            assert len(tried) <= 8 + 2 * (4 + 8)
            weight = sum(weights[int(name.removeprefix("layer_"))] for name in found["keep_float"])
            excess.append(weight / (choices @ weights)[fits].min() - 1)
        assert np.mean(np.array(excess) == 0) >= 0.9
        assert np.mean(excess) < 0.1

    @settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(layers=LAYERS, max_drop=st.integers(0, 300))
    def test_nothing_lighter_was_tried_that_meets_the_limit(self, search_among, layers, max_drop):
        try:
            found, tried, weights = search_among(layers, max_drop / 100)
        except Refused:
            # Then no layer is enough alone that is light enough, and no number of those that save most.
            assert sum(saved for _, saved in layers) > max_drop
            return
        kept = frozenset(found["keep_float"])
        weight = {layers: sum(weights[layer] for layer in layers) for layers in tried}
        assert tried[kept] <= max_drop
        assert weight[kept] <= sum(weights.values()) / 3
        assert all(weight[kept] <= weight[other] for other in tried if tried[other] <= max_drop)


class TestArguments:
    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        return models.MobileNetV2((32, 32, 3), 0.35, num_classes=10)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"engine": "toco"}, "`engine` must be one of tensorflow, ai-edge-quantizer. Received: 'toco'"),
            ({"calibration_method": "entropy"}, "`calibration_method` must be one of min_max, .*. Received: 'entropy'"),
            ({"calibration_method": "octav"}, "'octav' needs the engine ai-edge-quantizer. Received: engine='tensor"),
            ({"keep_float": "Conv1"}, "`keep_float` must be a list of names of layers. Received: 'Conv1'"),
        ],
    )
    def test_settings(self, arguments, message):
        with pytest.raises(UserError, match=message):
            Quantization(**arguments)

    def test_an_engine_that_is_not_installed(self, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(
            UserError,
            match=r"`engine` ai-edge-quantizer is not installed: in a clone of auxzoo, pip install '\.\[quant",
        ):
            Quantization("ai-edge-quantizer")

    @pytest.mark.parametrize(
        ("keep_float", "quantization", "message"),
        [
            (
                ["block_2_expnd"],
                "int8",
                "`keep_float` must be layers .*Received: 'block_2_expnd'; there are block_2_exp",
            ),
            (["block_2_expand_BN"], "int8", "whose batch-norm is in its convolutions. Received: 'block_2_expand_BN'"),
            (["block_2_expand"], "int16", "of int16 files need the engine ai-edge-quantizer"),
            (
                ["block_2_expand"],
                "float16",
                "`keep_float` is of int8 and int16 files. Received: formats tflite_float16",
            ),
        ],
    )
    def test_layers_and_formats(self, network, keep_float, quantization, message, tmp_path, monkeypatch):
        monkeypatch.setattr("sys.executable", "/bin/false")  # no child may be started
        images = auxzoo.data.open_images("sample", "test")
        with pytest.raises(UserError, match=message):
            to_tflite(network, tmp_path / "a.tflite", quantization, images, keep_float=keep_float)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("max_drop", [-0.1, 101, "1", True, float("nan")])
    def test_max_drop(self, network, max_drop, tmp_path):
        images = auxzoo.data.open_images("sample", "test")
        with pytest.raises(UserError, match="`max_drop` must be 0 to 100 points. Received: "):
            export_files(network, tmp_path, ["tflite_int8"], calibration=images, max_drop=max_drop)
        with pytest.raises(UserError, match="`max_drop` is of int8 and int16 TFLite files. Received: formats onnx"):
            export_files(network, tmp_path, ["onnx"], max_drop=max_drop)
        with pytest.raises(UserError, match="`max_drop` chooses the layers of an int8 ONNX file by a TFLite file with"):
            export_files(network, tmp_path, ["tflite_int16", "onnx_int8"], max_drop=max_drop)

    def test_tuning_images_are_others(self, make_images):
        images = make_images(50)
        for count, expected in ((10, 10), (1000, 25)):
            rest, tuning = tuning_part(images, count)
            assert (rest.size, tuning.size) == (50 - expected, expected)
            assert not rest.overlaps(tuning)
        for count in (0, -1, True, "5", 1.0):
            with pytest.raises(UserError, match="`count` must be 1 or more. Received: "):
                tuning_part(images, count, "count")
            with pytest.raises(UserError, match="`tuning_count` must be 1 or more. Received: "):
                tuning_part(images, count)


def spoiled(width, third_size):
    """A network of which int8 destroys the layer `spoiled`, and it alone.

    Its kernel has weights of 300 for a channel that is always 0: in float they do nothing, in int8 the scale is theirs.
    """
    inputs = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu", name="first")(inputs)
    x = keras.layers.Conv2D(width, 3, activation="relu", name="spoiled")(x)
    x = keras.layers.Conv2D(24, third_size, activation="relu", name="third")(x)
    outputs = keras.layers.Dense(3, name="classes")(keras.layers.GlobalAveragePooling2D(name="pooling")(x))
    network = keras.Model(inputs, outputs, name="net")
    generator = np.random.default_rng(0)
    for layer in network.layers:
        for weight in layer.weights:
            weight.assign(
                generator.normal(0, np.prod(weight.shape[:-1]) ** -0.5 if weight.ndim > 1 else 0.1, weight.shape)
            )
    first, second = network.get_layer("first"), network.get_layer("spoiled")
    first.bias.assign([-1000, *first.bias.numpy()[1:]])
    kernel = second.kernel.numpy()
    kernel[:, :, 0] = 300
    second.kernel.assign(kernel)
    return network


@pytest.fixture(scope="module")
def make_case(make_pictures):
    """A function that returns a spoiled network, its description, and images whose truth is what it says itself."""

    def make(width=8, third_size=3):
        network, preprocessing = spoiled(width, third_size), models.Preprocessing(12, 12)
        centre = np.median(network(next(iter(make_pictures(300, 1).batches(preprocessing, 300)))[0]).numpy(), axis=0)
        network.get_layer("classes").bias.assign_sub(centre)  # or one class would win everywhere
        sets = []
        for seed in (1, 2):
            pictures = make_pictures(300, seed)
            logits = network(next(iter(pictures.batches(preprocessing, 300)))[0]).numpy()
            labels = ("red", "green", "blue")
            sets.append(ImageSet.from_arrays(pictures.records, logits.argmax(-1), labels, f"itself {seed}"))
        task = auxzoo.Task("colour", "classification", ("red", "green", "blue"))
        return network, models.Description((), preprocessing, (task,)), *sets

    return make


@pytest.mark.slow
class TestWhichLayers:
    def test_report_names_the_spoiled_layer(self, make_case, tmp_path):
        network, description, images, _ = make_case()
        told = []
        report = quantization_report(
            network, tmp_path / "out", images, description=description, count=100, progress=told.append
        )
        assert {path.name for path in (tmp_path / "out").iterdir()} == {"net_layers.json", "net_layers.png"}
        assert json.loads((tmp_path / "out" / "net_layers.json").read_text()) == json.loads(json.dumps(report))
        assert PIL.Image.open(tmp_path / "out" / "net_layers.png").width == 14 * 120, "three panels: accuracy, too"
        rows = {row["layer"]: row for row in report["layers"]}
        assert list(rows) == ["first", "spoiled", "third", "pooling", "classes"]
        assert rows["spoiled"]["weights"] == 8 * 9 * 8 + 8
        assert report["int8"]["error"] > 0.3 > 0.1 > rows["spoiled"]["float_alone"]["error"]
        assert rows["spoiled"]["int8_alone"]["error"] > 0.3
        for layer in set(rows) - {"spoiled"}:
            assert rows[layer]["float_alone"]["error"] > 0.3, layer
            assert rows[layer]["int8_alone"]["error"] < 0.1, layer
        assert report["float32"]["scores"] == {"accuracy": 1.0}
        assert rows["spoiled"]["float_alone"]["scores"]["accuracy"] > report["int8"]["scores"]["accuracy"] + 0.1
        assert (report["images"]["count"], report["calibration"]["count"]) == (100, 200)

    def test_search_keeps_the_spoiled_layer_alone(self, make_case, tmp_path):
        network, description, images, evaluation = make_case()
        arguments = {"calibration": images, "evaluation": evaluation, "description": description, "name": "net"}
        formats = ["tflite_float32", "tflite_int8", "tflite_int8_float_io", "onnx_int8"]
        records = export_files(network, tmp_path, formats, max_drop=3.0, tuning_count=100, **arguments)
        plain, *searched, onnx_file = records
        assert onnx_file["quantization"]["keep_float"] == ["spoiled"]
        assert onnx_file["accuracy"]["accuracy"] > 0.94
        assert plain["quantization"] is None
        for record in searched:
            quantization = record["quantization"]
            assert quantization["keep_float"] == ["spoiled"]
            search = quantization["search"]
            assert search["drop"] <= search["max_drop"] == 3.0 < search["drop_without"]
            assert search["images"]["count"] == 100
            assert search["images"]["sha256"] != record["calibration"]["sha256"]
            assert search["trials"] >= len(search["layers"]) == 5
            assert record["accuracy"]["accuracy"] > 0.94

    def test_search_that_finds_nothing_says_so(self, make_case, tmp_path):
        """The layer holds more than a third of the weights."""
        network, description, images, _ = make_case(64, 1)
        (tmp_path / "net_int8.tflite").write_text("an older file")
        arguments = {"calibration": images, "description": description, "name": "net"}
        formats = ["tflite_float32", "tflite_int8", "onnx_int8"]
        kept, refused, onnx_file = export_files(network, tmp_path, formats, max_drop=3.0, tuning_count=100, **arguments)
        assert onnx_file["refused"] == f"its layers are chosen by the TFLite file: {refused['refused']}"
        assert kept["format"] == "tflite_float32"
        assert refused["refused"].startswith(
            "no choice of layers in float32 keeps the drop at 3.0 points on 100 tuning"
        )
        assert json.loads((tmp_path / "net_int8.tflite.json").read_text()) == refused
        assert not (tmp_path / "net_int8.tflite").exists()
        assert (tmp_path / "net_float32.tflite").exists()

    def test_layers_by_name(self, make_case, tmp_path, kernels):
        network, description, images, _ = make_case()
        path = to_tflite(
            network, tmp_path / "a.tflite", "int8", images, description, keep_float=["spoiled"], calibration_count=100
        )
        record = json.loads((tmp_path / "a.tflite.json").read_text())
        assert record["quantization"] == {
            "engine": "tensorflow",
            "calibration_method": "min_max",
            "keep_float": ["spoiled"],
        }
        assert sorted(kernels(path.read_bytes()).values()) == ["FLOAT32", "INT8", "INT8", "INT8"]
        assert record["calibration"]["count"] == 100

    def test_layers_by_name_of_an_onnx_file(self, make_case, tmp_path):
        network, description, images, evaluation = make_case()
        arguments = {"calibration": images, "evaluation": evaluation, "description": description}
        (spoiled,) = export_files(network, tmp_path / "all", ["onnx_int8"], **arguments)
        (kept,) = export_files(network, tmp_path / "kept", ["onnx_int8"], keep_float=["spoiled"], **arguments)
        assert kept["quantization"]["keep_float"] == ["spoiled"] != spoiled["quantization"]["keep_float"]
        assert kept["accuracy"]["accuracy"] > spoiled["accuracy"]["accuracy"] + 0.1
        # The weights and the bias of one layer of four, and nothing else, are not quantised.
        (one,), (other,) = ((tmp_path / name).glob("*.onnx") for name in ("all", "kept"))
        weights = [
            {
                node.input[1].removesuffix("_DequantizeLinear_Output")
                for node in onnx.load(path).graph.node
                if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1].endswith("_DequantizeLinear_Output")
            }
            for path in (one, other)
        ]
        assert len(weights[0]) == 4
        assert weights[1] < weights[0]
        assert len(weights[1]) == 3

    def test_layers_of_onnx_nodes_are_told_apart_by_all_names(self):
        # TensorFlow numbers every scope once more than Keras its layers.
        names = [f"net_1/{layer}_1/convolution" for layer in ("conv2d", "conv2d_1", "conv2d_1_relu")]
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Conv", [], [], name=name) for name in names], "g", [], []
        )
        # A depthwise convolution has a name of tf2onnx' own; what it reads is of another layer, its bias is not.
        inputs = ["net_1/conv2d_1_relu_1/Relu6:0", "const_fold_opt__7", "net_1/depthwise_1/Squeeze:0"]
        graph.node.append(onnx.helper.make_node("Conv", inputs, ["Conv__8:0"], name="Conv__8"))
        graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(3, np.float32), inputs[2]))
        layers = {"conv2d", "conv2d_1", "conv2d_1_relu", "depthwise", "flatten", "net"}
        assert _nodes_of(graph, ["conv2d_1"], layers) == names[1:2]
        assert _nodes_of(graph, ["conv2d", "conv2d_1_relu"], layers) == [names[0], names[2]]
        assert _nodes_of(graph, ["depthwise"], layers) == ["Conv__8"]
        with pytest.raises(Refused, match="the layer 'flatten' has no operator of its own in the file"):
            _nodes_of(graph, ["flatten"], layers)

    @pytest.mark.skipif(importlib.util.find_spec("ai_edge_quantizer") is None, reason="ai-edge-quantizer is missing")
    def test_search_is_of_each_kind_of_activations(self, make_case, tmp_path):
        network, description, images, _ = make_case()
        arguments = {"calibration": images, "description": description, "name": "net", "engine": "ai-edge-quantizer"}
        formats = ["tflite_int16", "tflite_int8"]
        of_16, of_8 = export_files(network, tmp_path, formats, max_drop=3.0, tuning_count=100, **arguments)
        # Weights are int8 in both, and it is those of the layer that are spoiled.
        assert of_16["quantization"]["keep_float"] == of_8["quantization"]["keep_float"] == ["spoiled"]
        saved = [
            {one["layer"]: one["error_saved"] for one in record["quantization"]["search"]["layers"]}
            for record in (of_16, of_8)
        ]
        assert saved[0].keys() == saved[1].keys()
        assert saved[0] != saved[1]


@pytest.mark.slow
def test_a_format_that_the_runtime_refuses(tmp_path, pictures, capsys):
    """Of a network that nobody trained."""
    models.MobileNetV2((32, 32, 3), 0.35, num_classes=3).save(tmp_path / "net.keras")
    formats = "tflite_float32,tflite_int16"
    arguments = ["export", str(tmp_path / "net.keras"), "--formats", formats, "--data", f"folder:{pictures}"]
    assert command_line.main([*arguments, "--to", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().out
    assert "net_int16.tflite was refused: " in printed
    record = json.loads((tmp_path / "out" / "net_int16.tflite.json").read_text())
    assert record["refused"].startswith("LiteRT's interpreter does not take the file: ")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "net.html",
        "net_float32.tflite",
        "net_float32.tflite.json",
        "net_int16.tflite.json",
    }
    assert command_line.main([*arguments[:3], "tflite_int16", *arguments[4:], "--to", str(tmp_path / "none")]) == 2
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("rows", ["0", "-1"])
def test_report_of_no_rows(rows, capsys):
    arguments = ["quantization-report", "mobilenet_v2_050_cifar10", "--rows", rows]
    assert command_line.main(arguments) == 2
    assert f"`--rows` must be 1 or more. Received: {rows}" in capsys.readouterr().err


def test_report_of_several_tasks_is_a_line_a_layer(capsys, monkeypatch, tmp_path):
    def measured(error):
        scores = {"surface_mean_iou": 0.1613, "surface_pixel_accuracy": 0.5, "height_root_mean_squared_error": 2509.4}
        return {"scores": scores, "error": error, "bytes": 5000}

    layers = [
        {"layer": f"layer{place}", "weights": 9, "float_alone": measured(0.1), "int8_alone": measured(0.2)}
        | {"operators": 1, "error_saved": 0.1}
        for place in range(3)
    ]
    report = {"float32": measured(0), "int8": measured(0.2), "layers": layers, "images": {"count": 32}}
    monkeypatch.setattr(auxzoo.export, "quantization_report", lambda *arguments, **options: report)
    arguments = ["quantization-report", "mobilenet_v2_050_cifar10", "--to", str(tmp_path), "--data", "sample"]
    assert command_line.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert rows == [[f"layer{place}", "9", "0.0", "10.000", "20.000", "16.13", "2,509"] for place in range(3)]
    assert "float32: surface mean IoU 16.13 %, height root mean squared error 2,509" in lines[-2]


def test_report_of_an_unknown_layer(capsys):
    arguments = [
        "quantization-report",
        "mobilenet_v2_050_cifar10",
        "--keep-float",
        "Conv2",
        "--to",
        "nowhere",
        "--data",
        "sample",
    ]
    assert command_line.main(arguments) == 2
    assert "Received: 'Conv2'; there are Conv1" in capsys.readouterr().err
