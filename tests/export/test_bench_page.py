"""The page for browsers: what is written, where its runtime comes from, and what Chromium computes with it."""

import base64
import contextlib
import hashlib
import http.client
import io
import json
import shutil
import tarfile
import threading
import time
import types

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import auxzoo
from auxzoo import models
from auxzoo.command_line import main
from auxzoo.data import preprocess, read_image
from auxzoo.errors import UserError
from auxzoo.export import open_file, web_runtime
from auxzoo.export.bench_page import network_facts, write_page
from auxzoo.export.page_server import PageServer
from auxzoo.export.web_runtime import FILES, PACKAGE, VERSION, check_integrity, runtime_folder
from auxzoo.files import read_json, sha256
from auxzoo.pictures import colours_of
from auxzoo.prediction import Predictor

HEIGHT, WIDTH = 24, 20
LABELS = tuple(f"kind {number}" for number in range(7))
TASKS = (
    auxzoo.Task("kind", "classification", LABELS),
    auxzoo.Task("surface", "segmentation", ("sea", "land", "ice", "<b>sand</b>")),
    auxzoo.Task("height", "regression", unit="m", scale=100.0),
)
# WebAssembly adds in another order, and the picture is scaled in float64: rounding, of numbers of about 30.
TOLERANCE = 1e-4


def write_network(path, tasks=TASKS, channels_last=True, activation=None, seed=39):
    """Writes an ONNX file with an output a task: a convolution, and a head each, of random weights.

    With this seed it says four different things of the ten pictures.
    """
    generator = np.random.default_rng(seed)
    weights, nodes, outputs = [], [], []

    def weight(name, *shape, scale=1.0):
        value = generator.normal(0, scale / np.sqrt(max(np.prod(shape[1:]), 1)), shape).astype("float32")
        weights.append(numpy_helper.from_array(value, name))
        return name

    if channels_last:
        nodes.append(helper.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2]))
    source = "first" if channels_last else "image"
    nodes += [
        helper.make_node(
            "Conv", [source, weight("w", 8, 3, 3, 3, scale=3), weight("b", 8)], ["conv"], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["conv"], ["features"]),
    ]
    for task in tasks:
        name, shape = task.name if len(tasks) > 1 else "logits", [1, HEIGHT, WIDTH]
        kind = TensorProto.FLOAT
        if task.kind == "classification":
            nodes.append(helper.make_node("GlobalAveragePool", ["features"], [f"{name}_pooled"]))
            nodes.append(helper.make_node("Flatten", [f"{name}_pooled"], [f"{name}_flat"]))
            head = [
                f"{name}_flat",
                weight(f"{name}_w", 8, len(task.labels), scale=9),
                weight(f"{name}_b", len(task.labels)),
            ]
            nodes.append(helper.make_node("Gemm", head, [f"{name}_out"]))
            shape = [1, len(task.labels)]
        else:
            count = len(task.labels) or 1
            head = ["features", weight(f"{name}_w", count, 8, 1, 1, scale=3), weight(f"{name}_b", count)]
            nodes.append(helper.make_node("Conv", head, [f"{name}_planes" if channels_last else f"{name}_out"]))
            if channels_last:
                nodes.append(helper.make_node("Transpose", [f"{name}_planes"], [f"{name}_out"], perm=[0, 2, 3, 1]))
            shape = [*shape, count] if channels_last else [1, count, *shape[1:]]
        axis = -1 if channels_last or not task.is_dense else 1
        if task.kind != "regression" and activation == "softmax":
            nodes.append(helper.make_node("Softmax", [f"{name}_out"], [f"{name}_shares"], axis=axis))
            # In steps of 1/255, as int8 files give them: they add up to about 1.
            weights.append(numpy_helper.from_array(np.array(1 / 255, "float32"), f"{name}_step"))
            weights.append(numpy_helper.from_array(np.array(0, "uint8"), f"{name}_zero"))
            step = [f"{name}_step", f"{name}_zero"]
            nodes.append(helper.make_node("QuantizeLinear", [f"{name}_shares", *step], [f"{name}_steps"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"{name}_steps", *step], [name]))
        elif task.kind != "regression" and activation == "argmax":
            nodes.append(helper.make_node("ArgMax", [f"{name}_out"], [name], axis=axis, keepdims=0))
            kind = TensorProto.INT64
            shape.pop(axis)
        else:
            nodes.append(helper.make_node("Identity", [f"{name}_out"], [name]))
        outputs.append(helper.make_tensor_value_info(name, kind, shape))
    size = [1, HEIGHT, WIDTH, 3] if channels_last else [1, 3, HEIGHT, WIDTH]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, size)
    graph = helper.make_graph(nodes, "graph", [image], outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def write_classes(path, classes):
    """Writes an ONNX file that gives the same classes of every picture, int64 `[1, rows, columns]`."""
    constant = numpy_helper.from_array(classes[None].astype("int64"))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, HEIGHT, WIDTH, 3])
    output = helper.make_tensor_value_info("surface", TensorProto.INT64, [1, HEIGHT, WIDTH])
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["surface"], value=constant)], "graph", [image], [output]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def described(tasks=TASKS, **changes):
    offset, scale = (-0.5, -1.0, 0.25), (1 / 100, 1 / 127.5, 1 / 200)
    return models.Description((), models.Preprocessing(HEIGHT, WIDTH, scale=scale, offset=offset, **changes), tasks)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """A folder that looks like an unpacked onnxruntime-web, with other content."""
    folder = tmp_path_factory.mktemp("npm") / PACKAGE
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": PACKAGE, "version": "9.8.7"}))
    for name in (*FILES, "ort.all.mjs"):
        (folder / "dist" / name).write_text(f"content of {name}")
    return folder


class TestFolder:
    def test_is_whole(self, unpacked, tmp_path):
        path = write_network(tmp_path / "net.onnx")
        folder = write_page(path, tmp_path / "page", described(), unpacked)
        assert {file.name for file in folder.iterdir()} == {
            *("index.html", "style.css", "page.js", "picture.js", "prediction.js", "measurement.js"),
            *(*FILES, "network.onnx", "network.json"),
        }
        assert (folder / "network.onnx").read_bytes() == path.read_bytes()
        facts = read_json(folder / "network.json")
        assert facts["sha256"] == sha256(path)
        assert facts["runtime"] == {"package": PACKAGE, "version": "9.8.7"}
        assert facts["input"] == {"name": "image", "shape": [1, HEIGHT, WIDTH, 3], "layout": "NHWC"}
        assert facts["preprocessing"] == json.loads(json.dumps(vars(described().preprocessing)))
        assert [task["output"] for task in facts["tasks"]] == ["kind", "surface", "height"]
        assert facts["tasks"][1]["colours"] == colours_of(TASKS[1]).tolist()
        assert len(facts["tasks"][2]["colour_map"]) == 256

    def test_names_no_other_host(self, unpacked, tmp_path):
        """Self-contained: nothing is loaded from elsewhere."""
        folder = write_page(write_network(tmp_path / "net.onnx"), tmp_path / "page", described(), unpacked)
        for name in ("index.html", "style.css", "page.js", "picture.js", "prediction.js", "measurement.js"):
            assert "://" not in (folder / name).read_text(), name

    def test_without_a_description_there_is_no_preprocessing(self, tmp_path):
        facts = network_facts(write_network(tmp_path / "net.onnx"))
        assert (facts["preprocessing"], facts["tasks"]) == (None, [])

    def test_channels_first_is_seen(self, tmp_path):
        facts = network_facts(write_network(tmp_path / "net.onnx", channels_last=False), described())
        assert facts["input"]["layout"] == "NCHW"

    @pytest.mark.parametrize(("activation", "gives"), [(None, "logits"), ("softmax", "softmax"), ("argmax", "argmax")])
    def test_what_an_output_gives_is_told_by_the_file(self, tmp_path, activation, gives):
        network = models.ResNet18((8, 8, 3), 0.125, "small", num_classes=3, labels=LABELS[:3])
        path = auxzoo.export.to_onnx(network, tmp_path / "net.onnx", activation=activation)
        assert [task["gives"] for task in network_facts(path)["tasks"]] == [gives]
        assert network_facts(write_network(tmp_path / "other.onnx"), described())["tasks"][0]["gives"] is None

    def test_exists_already(self, unpacked, tmp_path):
        path, folder = write_network(tmp_path / "net.onnx"), tmp_path / "page"
        write_page(path, folder, described(), unpacked)
        with pytest.raises(UserError, match=r"page` exists already; give --overwrite"):
            write_page(path, folder, described(), unpacked)
        (folder / "old.txt").write_text("old")
        write_page(path, folder, described(), unpacked, overwrite=True)
        assert not (folder / "old.txt").exists()
        mine = tmp_path / "mine"
        mine.mkdir()
        with pytest.raises(UserError, match=r"mine` exists already; it must be a new folder"):
            write_page(path, mine, described(), unpacked, overwrite=True)

    @pytest.mark.parametrize(
        ("tasks", "changes", "message"),
        [
            (TASKS, {"height": 25}, r"it makes images of 25x20. Received: a file that takes \[1, 24, 20, 3\]"),
            (TASKS[:1], {}, "its tasks are classification. Received: a file with the outputs kind, surface"),
            (
                (*TASKS[:2], auxzoo.Task("depth", "regression")),
                {},
                "its tasks are .*, regression. Received: a file with",
            ),
            ((TASKS[0], auxzoo.Task("surface", "classification"), TASKS[2]), {}, "'surface' is a classification"),
        ],
    )
    def test_a_description_of_another_network(self, unpacked, tmp_path, tasks, changes, message):
        description = described(tasks)
        if changes:
            description = models.Description((), models.Preprocessing(25, WIDTH), tasks)
        with pytest.raises(UserError, match=message):
            write_page(write_network(tmp_path / "net.onnx"), tmp_path / "page", description, unpacked)
        assert not (tmp_path / "page").exists()

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("net.tflite", b"....TFL3", r"`path` must end in .onnx, which browsers can run"),
            ("net.onnx", b"nothing", r"net.onnx` cannot be run: "),
            ("gone.onnx", None, r"gone.onnx` is not a file"),
        ],
    )
    def test_other_files(self, unpacked, tmp_path, name, content, message):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            write_page(tmp_path / name, tmp_path / "page", None, unpacked)
        assert not (tmp_path / "page").exists()


def package(files):
    """Returns the bytes of an npm package, and its integrity."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    digest = hashlib.sha512(buffer.getvalue()).digest()
    return buffer.getvalue(), "sha512-" + base64.b64encode(digest).decode()


class TestRuntime:
    @pytest.fixture
    def registry(self, tmp_path, monkeypatch):
        """A registry whose package is small; every address that was asked for is in `asked`."""
        files = {
            "package.json": json.dumps({"name": PACKAGE, "version": VERSION}).encode(),
            "dist/other.js": b"not ours",
        }
        content, integrity = package(files | {f"dist/{name}": name.encode() for name in FILES})
        found = types.SimpleNamespace(asked=[], content=content)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.delenv("npm_config_registry", raising=False)
        monkeypatch.setattr(web_runtime, "INTEGRITY", integrity)
        monkeypatch.setattr(web_runtime, "_fetch", lambda url: found.asked.append(url) or found.content)
        return found

    def test_is_fetched_once_into_the_cache(self, registry, tmp_path):
        for _ in range(2):
            folder, version = runtime_folder()
        assert registry.asked == [f"https://registry.npmjs.org/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz"]
        assert folder == tmp_path / "cache" / "auxzoo" / f"{PACKAGE}-{VERSION}" / "dist"
        assert version == VERSION
        assert {file.name: file.read_text() for file in folder.iterdir()} == {name: name for name in FILES}

    def test_a_changed_byte_is_refused_and_nothing_stays(self, registry, tmp_path):
        registry.content = registry.content[:-1] + b"x"
        with pytest.raises(
            UserError, match=rf"{PACKAGE} {VERSION} must have the integrity sha512-\S+ Received: sha512-"
        ):
            runtime_folder()
        assert not list((tmp_path / "cache").rglob("*.wasm"))

    def test_a_mirror_is_asked_where_npm_would_ask_it(self, registry, monkeypatch):
        monkeypatch.setenv("npm_config_registry", "https://mirror.example/npm/")
        runtime_folder()
        assert registry.asked == [f"https://mirror.example/npm/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz"]

    def test_no_network_is_told_with_a_way_out(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
        with pytest.raises(UserError, match=rf"cannot be fetched: .*npm pack {PACKAGE}@{VERSION}.*--runtime-from"):
            runtime_folder()
        monkeypatch.setenv("npm_config_registry", "http://[bad")
        with pytest.raises(UserError, match="cannot be fetched: .*--runtime-from"):
            runtime_folder()
        monkeypatch.setenv("npm_config_registry", "file:///etc")
        with pytest.raises(UserError, match="must be an address of http or https. Received: file:"):
            runtime_folder()

    def test_a_connection_that_ends_early_is_told_with_a_way_out(self, tmp_path, monkeypatch):
        def end_early(url, timeout):
            raise http.client.IncompleteRead(b"the beginning", 99)

        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(web_runtime.urllib.request, "urlopen", end_early)
        with pytest.raises(UserError, match="cannot be fetched: IncompleteRead.*--runtime-from"):
            runtime_folder()

    def test_from_a_folder(self, unpacked):
        assert runtime_folder(unpacked) == (unpacked / "dist", "9.8.7")

    @pytest.mark.parametrize("missing", ["package.json", f"dist/{FILES[0]}", f"dist/{FILES[2]}"])
    def test_from_a_folder_that_is_none(self, unpacked, tmp_path, missing):
        folder = shutil.copytree(unpacked, tmp_path / "copy")
        (folder / missing).unlink()
        with pytest.raises(UserError, match=rf"copy` must be an unpacked {PACKAGE}. .*without {missing}"):
            runtime_folder(folder)

    @pytest.mark.parametrize("content", ["{}", "[]", "x", '{"name": "other", "version": "1"}'])
    def test_from_a_folder_of_another_package(self, unpacked, tmp_path, content):
        folder = shutil.copytree(unpacked, tmp_path / "copy")
        (folder / "package.json").write_text(content)
        with pytest.raises(UserError, match=rf"copy` must be an unpacked {PACKAGE}. Received: one whose package.json"):
            runtime_folder(folder)

    def test_integrity_is_that_of_npm(self):
        """`npm view` writes it so: the algorithm, and base64 of the digest."""
        check_integrity(
            b"", "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="
        )


def command(*arguments):
    output, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
        code = main(["bench-page", *map(str, arguments)])
    return code, output.getvalue(), error.getvalue()


class TestCommand:
    def test_writes_a_numbered_folder(self, unpacked, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        path = write_network(tmp_path / "net.onnx")
        for number in ("001", "002"):
            code, output, error = command(path, "--runtime-from", unpacked)
            assert (code, error) == (0, "")
            assert f"The page is in pages/net-{number}" in output
            assert "without --network the page measures latency and runs no pictures." in output
            assert (tmp_path / f"pages/net-{number}/network.onnx").exists()

    @pytest.mark.parametrize(
        ("host", "said"),
        [
            (None, "On this machine: http://127.0.0.1:"),
            ("0.0.0.0", "Open to everyone in the local"),
            ("127.0.0.1", "On this machine: http://127.0.0.1:"),
        ],
    )
    def test_serves_until_it_is_interrupted(self, unpacked, tmp_path, monkeypatch, host, said):
        def interrupted(_):
            raise KeyboardInterrupt

        monkeypatch.setattr(PageServer, "serve_forever", interrupted)
        options = ["--host", host] if host else []
        path = write_network(tmp_path / "net.onnx")
        code, output, error = command(
            path, "--to", tmp_path / "page", "--runtime-from", unpacked, "--serve", "0", *options
        )
        assert (code, error) == (0, "")
        assert said in output
        assert ("▄" in output or "█" in output) == (host == "0.0.0.0"), "the QR code"
        assert ("one thread, no WebGPU and no live camera" in output) == bool(host)

    def test_host_without_serve(self, tmp_path):
        code, _, error = command(write_network(tmp_path / "net.onnx"), "--host", "0.0.0.0")
        assert code == 2
        assert "`--host` may be given only with --serve. Received: '0.0.0.0'" in error

    def test_a_port_that_is_none_is_told_before_a_page_is_written(self, unpacked, tmp_path):
        page = tmp_path / "page"
        code, _, error = command(
            write_network(tmp_path / "net.onnx"), "--to", page, "--runtime-from", unpacked, "--serve", "99999"
        )
        assert (code, page.exists()) == (2, False)
        assert "`--serve` must be a port, 0 to 65535. Received: 99999" in error


# In a browser


@pytest.fixture(scope="module")
def runtime():
    try:
        runtime_folder()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def browser(runtime, tmp_path_factory):
    """Headless Chromium, the size of a phone; what it downloads goes to `browser.downloads`."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium with its chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    found.downloads = tmp_path_factory.mktemp("downloads")
    behaviour = {"behavior": "allow", "downloadPath": str(found.downloads)}
    found.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    found.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    yield found
    found.quit()


class Page:
    """A page in the browser."""

    def __init__(self, browser, server):
        self.browser, self.server = browser, server
        browser.get_log("browser")

    def open(self, address=None):
        self.browser.get(address or self.server.address)
        self.wait("globalThis.auxzoo?.ready")
        return self

    def ask(self, expression):
        return self.browser.execute_script(f"return {expression}")

    def wait(self, expression, seconds=60):
        deadline = time.monotonic() + seconds
        while not self.ask(expression):
            assert time.monotonic() < deadline, (
                f"{expression}: {self.text('problem')} {self.browser.get_log('browser')}"
            )
            time.sleep(0.02)

    def text(self, name):
        return self.ask(f"document.getElementById('{name}').textContent")

    def click(self, name):
        self.browser.find_element("id", name).click()
        self.wait("!document.getElementById('measure').disabled")

    def predict(self, path, input_name="choose"):
        """Returns what is predicted for a picture file, a `dict` a task."""
        self.ask("void (auxzoo.predictions = null)")
        self.browser.find_element("id", input_name).send_keys(str(path))
        self.wait("auxzoo.predictions || !document.getElementById('problem').hidden")
        self.wait("!document.getElementById('measure').disabled")
        return self.ask("auxzoo.predictions")

    def errors(self):
        return [entry for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture
def serve(browser, tmp_path):
    """A function that writes and serves a page of a network, and opens it."""
    servers = []

    def opened(path, description, host="127.0.0.1"):
        folder = write_page(path, tmp_path / f"page{len(servers)}", description)
        server = PageServer(folder, host)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return Page(browser, server).open()

    yield opened
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Ten PNG pictures: smaller and larger than the input, as large, grey, with a palette, very wide, very high."""
    folder, generator = tmp_path_factory.mktemp("photographs"), np.random.default_rng(3)
    sizes = [(24, 20), (12, 10), (1, 1), (100, 75), (37, 61), (240, 320), (20, 300), (300, 20), (25, 19), (480, 360)]
    paths = []
    for number, size in enumerate(sizes):
        rows, columns = (np.linspace(0, 1, length) for length in size)
        waves = np.sin(np.add.outer(rows * generator.uniform(2, 9), columns * generator.uniform(2, 9)))
        colours = generator.uniform(0, 255, 3) + waves[..., None] * generator.uniform(-90, 90, 3)
        pixels = np.clip(colours + generator.normal(0, 12, (*size, 3)), 0, 255).astype("uint8")
        picture = Image.fromarray(pixels)
        if number == 3:
            picture = picture.convert("L")
        paths.append(folder / f"{number} of ten.png")
        picture.save(paths[-1])
    return paths


def expected(path, description, photograph):
    """Returns what onnxruntime computes for a picture file, and what `auxzoo predict` makes of it."""
    picture = read_image(photograph)
    session = onnxruntime.InferenceSession(path)
    values = preprocess(picture, description.preprocessing)[None].numpy()
    raw = dict(zip([one.name for one in session.get_outputs()], session.run(None, {"image": values}), strict=True))
    return raw, Predictor(open_file(path).predict, description)(picture)


class TestInTheBrowser:
    def test_ten_pictures_agree_with_onnxruntime(self, serve, photographs, tmp_path):
        path, description = write_network(tmp_path / "net.onnx"), described()
        page = serve(path, description)
        likeliest = set()
        for photograph in photographs:
            kind, surface, height = page.predict(photograph)
            raw, predicted = expected(path, description, photograph)
            np.testing.assert_allclose(kind["values"], raw["kind"][0], atol=TOLERANCE)
            shares = np.exp(raw["kind"][0] - raw["kind"].max())
            shares /= shares.sum()
            assert kind["top"][0]["class"] == LABELS[shares.argmax()]
            np.testing.assert_allclose([one["share"] for one in kind["top"]], np.sort(shares)[::-1][:5], atol=TOLERANCE)
            likeliest.add(kind["top"][0]["class"])
            masks = np.reshape(surface["classes"], (surface["height"], surface["width"]))
            assert masks.shape == predicted["surface"].shape
            assert (masks == predicted["surface"]).mean() > 0.999  # rounding decides where two classes are equal
            heights = np.reshape(height["values"], (height["height"], height["width"]))
            np.testing.assert_allclose(heights, predicted["height"], atol=TOLERANCE)
        assert len(likeliest) > 1, "the network says the same of every picture"
        assert page.errors() == []

    def test_the_mask_is_drawn_over_the_picture(self, serve, photographs, tmp_path):
        page = serve(write_network(tmp_path / "net.onnx"), described())
        _, surface, _ = page.predict(photographs[0])
        drawn = page.ask(
            "Array.from([...document.querySelectorAll('.task canvas')][0].getContext('2d')"
            f".getImageData(0, 0, {WIDTH}, {HEIGHT}).data)"
        )
        drawn = np.reshape(drawn, (HEIGHT, WIDTH, 4))[..., :3]
        classes = np.reshape(surface["classes"], (HEIGHT, WIDTH))
        wanted = auxzoo.pictures.overlay(read_image(photographs[0]), classes, TASKS[1])
        assert np.abs(drawn - wanted.astype(int)).max() <= 1
        legend = page.ask("[...document.querySelectorAll('.legend li')].map((item) => item.textContent)")
        assert len(legend) == len(np.unique(classes))
        assert page.ask("document.querySelectorAll('.legend b').length") == 0, "a label became part of the page"

    @pytest.mark.parametrize("wrong", [4, -1])
    def test_pixels_without_a_class_are_left_as_they_are_and_a_class_that_there_is_not_is_told(
        self, serve, photographs, tmp_path, wrong
    ):
        classes = np.repeat(np.arange(WIDTH)[None] % 4, HEIGHT, axis=0)
        classes[:10] = 255
        page = serve(write_classes(tmp_path / "net.onnx", classes), described(TASKS[1:2]))
        (surface,) = page.predict(photographs[0])
        assert np.array_equal(np.reshape(surface["classes"], (HEIGHT, WIDTH)), classes)
        drawn = page.ask(
            "Array.from([...document.querySelectorAll('.task canvas')][0].getContext('2d')"
            f".getImageData(0, 0, {WIDTH}, {HEIGHT}).data)"
        )
        drawn = np.reshape(drawn, (HEIGHT, WIDTH, 4))
        wanted = auxzoo.pictures.overlay(read_image(photographs[0]), classes.astype("uint8"), TASKS[1])
        assert np.abs(drawn[..., :3] - wanted.astype(int)).max() <= 1
        classes[-1, -1] = wrong
        page = serve(write_classes(tmp_path / "wrong.onnx", classes), described(TASKS[1:2]))
        assert page.predict(photographs[0]) is None
        assert f"The file gives class {wrong}, of 4." in page.text("problem")

    def test_what_is_predicted_of_a_transparent_picture_is_seen(self, serve, tmp_path):
        page = serve(write_network(tmp_path / "net.onnx"), described())
        Image.new("RGBA", (WIDTH, HEIGHT), (200, 100, 50, 0)).save(tmp_path / "clear.png")
        assert page.predict(tmp_path / "clear.png") is not None
        canvases = "[...document.querySelectorAll('.task canvas[role=img]')]"
        pixels = f"canvas.getContext('2d').getImageData(0, 0, {WIDTH}, {HEIGHT}).data"
        opaque = f"{canvases}.map((canvas) => {pixels}.every((value, place) => place % 4 < 3 || value === 255))"
        assert page.ask(opaque) == [True, True]

    @pytest.mark.parametrize("activation", ["softmax", "argmax"])
    def test_channels_first_and_files_that_give_probabilities_or_classes(
        self, serve, photographs, tmp_path, activation
    ):
        path = write_network(tmp_path / "net.onnx", TASKS[:2], False, activation)
        page = serve(path, described(TASKS[:2]))
        plain = write_network(tmp_path / "plain.onnx", TASKS[:2])
        for photograph in photographs[:4]:
            kind, surface = page.predict(photograph)
            raw, _ = expected(plain, described(TASKS[:2]), photograph)
            best = raw["kind"][0].argmax()
            assert (kind["class"] if activation == "argmax" else kind["top"][0]["class"]) == LABELS[best]
            if activation == "softmax":
                shares = np.exp(raw["kind"][0] - raw["kind"].max())
                shares /= shares.sum()
                # The file's own rounding, and not a soft-max of what is one already.
                assert kind["top"][0]["share"] == pytest.approx(shares[best], abs=1 / 255)
            if surface["height"] == HEIGHT and surface["width"] == WIDTH:
                assert (np.ravel(raw["surface"][0].argmax(-1)) == surface["classes"]).mean() > 0.999

    def test_padding(self, serve, photographs, tmp_path):
        path, description = write_network(tmp_path / "net.onnx"), described(fit="pad")
        page = serve(path, description)
        kind, surface, _ = page.predict(photographs[1])  # 12 x 10
        raw, predicted = expected(path, description, photographs[1])
        np.testing.assert_allclose(kind["values"], raw["kind"][0], atol=TOLERANCE)
        assert (np.reshape(surface["classes"], (12, 10)) == predicted["surface"]).mean() > 0.99
        assert page.predict(photographs[3]) is None
        assert "padded to 24x20 pixels (height x width) and must not be larger. Received: 100x75" in page.text(
            "problem"
        )

    def test_a_jpeg_differs_by_its_decoder_alone(self, serve, photographs, tmp_path):
        path, description = write_network(tmp_path / "net.onnx"), described()
        photograph = tmp_path / "photograph.jpg"
        Image.open(photographs[9]).save(photograph, quality=95)
        page = serve(path, description)
        kind = page.predict(photograph, "photograph")[0]  # the other of the two inputs
        wanted = expected(path, description, photograph)[0]["kind"][0]
        # Decoders round colours differently, by a few of 255 steps.
        np.testing.assert_allclose(kind["values"], wanted, atol=0.02 * np.abs(wanted).max())
        assert kind["top"][0]["index"] == wanted.argmax()

    @pytest.mark.parametrize("orientation", [3, 6])
    def test_a_picture_is_turned_as_its_exif_says(self, serve, photographs, tmp_path, orientation):
        path, description = write_network(tmp_path / "net.onnx"), described()
        exif = Image.Exif()
        exif[0x0112] = orientation
        photograph = tmp_path / "turned.png"
        Image.open(photographs[4]).save(photograph, exif=exif)
        page = serve(path, description)
        kind, surface, _ = page.predict(photograph)
        raw, predicted = expected(path, description, photograph)
        np.testing.assert_allclose(kind["values"], raw["kind"][0], atol=TOLERANCE)
        assert predicted["surface"].shape == ((61, 37) if orientation == 6 else (37, 61))
        assert (np.reshape(surface["classes"], predicted["surface"].shape) == predicted["surface"]).mean() > 0.999

    def test_a_file_that_is_no_picture_is_told_and_the_page_goes_on(self, serve, photographs, tmp_path):
        (tmp_path / "text.png").write_text("no picture")
        page = serve(write_network(tmp_path / "net.onnx"), described())
        assert page.predict(tmp_path / "text.png") is None
        assert page.text("problem") == "text.png is no picture that this browser can read."
        assert page.predict(photographs[0]) is not None
        assert page.ask("document.getElementById('problem').hidden")

    def test_the_figures_are_complete(self, serve, photographs, tmp_path):
        path = write_network(tmp_path / "net.onnx")
        page = serve(path, described())
        assert page.ask("document.getElementById('save').disabled"), "there is nothing to save yet"
        page.ask("void (document.getElementById('runs').value = '20')")
        page.click("measure")
        page.predict(photographs[3])
        page.click("save")
        saved = page.browser.downloads / "net_browser.json"
        deadline = time.monotonic() + 10
        while not saved.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        figures = read_json(saved)
        saved.unlink()
        assert figures["network"]["sha256"] == sha256(path)
        assert figures["runtime"] == {"package": PACKAGE, "version": VERSION}
        latency = figures["latency"]
        assert (latency["samples"], len(latency["samples_ms"]), latency["threads"]) == (20, 20, 1)
        assert latency["median_ms"] == pytest.approx(np.median(latency["samples_ms"]))
        assert latency["p95_ms"] == pytest.approx(np.quantile(latency["samples_ms"], 0.95))
        assert (latency["warm_up"], latency["backend"]) == (10, "wasm")
        assert latency["runs_per_sample"] >= 1
        assert latency["first_run_ms"] > 0
        assert latency["load_ms"] == figures["start"]["load_ms"]
        assert 0 < latency["clock_step_ms"] < 5
        assert all(figures["start"][name] > 0 for name in ("download_ms", "load_ms"))
        assert "Chrome" in figures["device"]["user_agent"]
        assert figures["device"]["secure_context"] is True
        (prediction,) = figures["predictions"]
        assert (prediction["picture"], prediction["size"]) == (photographs[3].name, [100, 75])
        assert [task["task"] for task in prediction["tasks"]] == ["kind", "surface", "height"]
        assert page.errors() == []

    def test_without_a_description_latency_is_all(self, serve, tmp_path):
        page = serve(write_network(tmp_path / "net.onnx"), None)
        assert page.ask("document.getElementById('picture-section').hidden")
        page.click("measure")
        assert page.text("median").endswith(" ms")
        assert page.errors() == []

    def test_on_this_machine_there_may_be_several_threads(self, serve, tmp_path):
        page = serve(write_network(tmp_path / "net.onnx"), None)
        if not page.ask("crossOriginIsolated && navigator.hardwareConcurrency > 1"):
            pytest.skip("a browser with one processor")
        counting = "constructor(...all) { super(...all); globalThis.workers += 1; }"
        page.ask(f"void (globalThis.workers = 0, globalThis.Worker = class extends Worker {{ {counting} }})")
        for threads, workers in ((1, 0), (2, 1), (1, 1)):  # each runtime has its own; the main thread is one of them
            page.ask(f"void (document.getElementById('threads').value = '{threads}')")
            page.click("measure")
            assert page.ask("auxzoo.figures.latency.threads") == threads
            assert page.ask("workers") == workers
        assert page.errors() == []

    def test_over_plain_http_the_page_says_what_it_lacks(self, serve, photographs, tmp_path):
        page = serve(write_network(tmp_path / "net.onnx"), described(), "0.0.0.0")
        if page.ask("isSecureContext"):
            pytest.skip("no network, so no address that is not this machine's own")
        assert "Over plain HTTP a browser gives a page one thread, no WebGPU and no live camera" in page.text(
            "conditions"
        )
        page.click("measure")
        assert page.ask("auxzoo.figures.latency.threads") == 1
        assert page.predict(photographs[0]) is not None
        assert page.errors() == []

    def test_nothing_is_wider_than_a_phone(self, serve, photographs, tmp_path):
        page = serve(
            write_network(tmp_path / "a_network_with_a_rather_long_name_that_must_be_broken.onnx"), described()
        )
        page.click("measure")
        page.predict(photographs[6])
        page.ask("void (document.querySelector('details').open = true)")
        assert page.ask("document.documentElement.scrollWidth") == 390

    @pytest.mark.slow
    def test_a_published_network_agrees_on_ten_pictures(self, serve, tmp_path):
        network = auxzoo.load("resnet18_025_cifar10")
        path, description = auxzoo.export.to_onnx(network, tmp_path / "network.onnx"), auxzoo.describe(network)
        images = auxzoo.data.open_images("sample", "test").sample(10, 0)
        page = serve(path, description)
        for place in range(10):
            photograph = tmp_path / f"{place}.png"
            pixels = images.picture(place)
            Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype("uint8")).save(photograph)
            (found,) = page.predict(photograph)
            raw, _ = expected(path, description, photograph)
            np.testing.assert_allclose(found["values"], raw["logits"][0], atol=1e-3)
            assert found["top"][0]["index"] == raw["logits"].argmax()
