"""Recipes: read, overridden, checked by name, and written so that they come back equal."""

import pathlib

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import auxzoo
from auxzoo import training
from auxzoo.models.zoo import read_index
from auxzoo.training import Recipe, read_recipe

PACKAGED = sorted((pathlib.Path(training.__file__).parent / "recipes").glob("*.yaml"))
SMALLEST = {
    "name": "a",
    "network": {"architecture": "ResNet18"},
    "data": {"source": "sample"},
    "epochs": 1,
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(SMALLEST))
    return path


def test_every_published_network_has_a_recipe():
    assert {path.stem for path in PACKAGED} == {"fine_tune", "fine_tune_photographs", *read_index()}


@pytest.mark.parametrize("path", PACKAGED, ids=lambda path: path.stem)
class TestPackagedRecipe:
    def test_is_found_by_its_name_and_is_called_by_it(self, path):
        recipe = read_recipe(path.stem)
        assert recipe == read_recipe(path)
        assert recipe.name == path.stem

    def test_fixes_what_changes_the_last_digits(self, path):
        # XLA, oneDNN and threads change the order of sums.
        compute = read_recipe(path.stem).compute
        assert compute.compilation in ("xla", "graph")
        assert isinstance(compute.onednn, bool)
        if path.stem in read_index():  # its figures are published
            assert compute.threads is not None

    def test_differs_from_its_plain_arm_in_the_structure_alone(self, path):
        recipe, plain = read_recipe(path.stem), read_recipe(path.stem, ["auxiliary.structure=none"])
        assert recipe != plain
        assert recipe.model_copy(update={"auxiliary": plain.auxiliary}) == plain

    def test_names_no_folder_of_a_machine(self, path):
        assert read_recipe(path.stem).data.data_dir is None

    def test_builds_its_network_and_auxiliary(self, path):
        from auxzoo.training.run import build_compact, build_structure

        recipe = read_recipe(path.stem)
        if "weights" in recipe.network.arguments:  # which would be fetched
            recipe = read_recipe(path.stem, ["network.arguments.weights=null"])
        compact = build_compact(recipe)
        assert compact.output.shape == (None, 10)  # CIFAR-10's, or those of the packaged pictures
        assert len({link for node in build_structure(recipe, compact).nodes for link in node.links}) >= 4


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "value"),
        [
            ("epochs=3", lambda recipe: recipe.epochs == 3),
            ("objective.auxiliary_weight=0.5", lambda recipe: recipe.objective.auxiliary_weight == 0.5),
            ("optimization.weight_decay=2e-3", lambda recipe: recipe.optimization.weight_decay == 2e-3),
            ("optimization.ema_momentum=null", lambda recipe: recipe.optimization.ema_momentum is None),
            ("compute.onednn=off", lambda recipe: recipe.compute.onednn is False),
            ("compute.onednn=auto", lambda recipe: recipe.compute.onednn == "auto"),
            ("data.skip_broken=true", lambda recipe: recipe.data.skip_broken is True),
            ("data.source=folder:a=b", lambda recipe: recipe.data.source == "folder:a=b"),
            ("data.augmentation={flip: true, shift: 2}", lambda recipe: recipe.data.augmentation["shift"] == 2),
            (
                "network.arguments.input_shape=[32, 32, 3]",
                lambda recipe: recipe.network.arguments == {"input_shape": [32, 32, 3]},
            ),
        ],
    )
    def test_a_dotted_name_sets_a_typed_value(self, file, override, value):
        assert value(read_recipe(file, [override]))

    def test_the_last_of_two_wins_and_the_rest_stays(self, file):
        recipe = read_recipe(file, ["epochs=3", "seed=7", "epochs=4"])
        assert recipe == Recipe(**SMALLEST | {"epochs": 4, "seed": 7})

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("epochs", "`--set` must be KEY=VALUE. Received: 'epochs'"),
            ("=3", "`--set` must be KEY=VALUE. Received: '=3'"),
            ("epochs.more=3", "`epochs.more` must name a setting of a recipe. Received: epochs.more=3"),
            ("epochs=[", r"`--set` must have a YAML value. Received: 'epochs=\['"),
            # YAML reads these as a date and as a hexadecimal number, and then cannot make one of them.
            ("seed=2020-99-99", "`--set` must have a YAML value. Received: 'seed=2020-99-99'"),
            ("seed=0x_", "`--set` must have a YAML value. Received: 'seed=0x_'"),
            ("epoch=3", "`epoch`: no such setting. Received: 3"),
            ("optimization.rate=3", "`optimization.rate`: no such setting. Received: 3"),
        ],
    )
    def test_a_wrong_one_is_named(self, file, override, message):
        with pytest.raises(auxzoo.UserError, match=message):
            read_recipe(file, [override])


class TestBadInput:
    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("epochs=0", "`epochs`: .*greater than or equal to 1. Received: 0"),
            ("epochs=many", "`epochs`: .*valid integer.* Received: 'many'"),
            ("epochs=1.5", "`epochs`: .*valid integer.* Received: 1.5"),
            ("epochs=null", "`epochs`: .*valid integer.* Received: None"),
            ("name=Not a name", "`name`: .* Received: 'Not a name'"),
            ("seed=-1", "`seed`: .* Received: -1"),
            ("seed=4294967296", "`seed`: .*less than 4294967296"),
            ("auxiliary.width_multiplier=0.5", "`auxiliary.width_multiplier`: .*greater than or equal to 1"),
            ("network.architecture=VGG", "`network.architecture`: .*'MobileNetV2' or 'ResNet18'.* Received: 'VGG'"),
            ("network.entry=tiny", "`network`: .*either `architecture` or `entry` must be set, and not both"),
            ("network.architecture=null", "`network`: .*either `architecture` or `entry` must be set, and not both"),
            ("optimization.optimizer=adam", "`optimization.optimizer`: .*'sgd' or 'adamw'.* Received: 'adam'"),
            ("optimization.momentum=1", "`optimization.momentum`: .*less than 1. Received: 1"),
            ("objective.label_smoothing=1", "`objective.label_smoothing`: .*less than 1. Received: 1"),
            ("objective.auxiliary_schedule=up", "`objective.auxiliary_schedule`: .* Received: 'up'"),
            ("compute.compilation=fast", "`compute.compilation`: .*'auto', 'xla' or 'graph'.* Received: 'fast'"),
            ("compute.onednn=perhaps", "`compute.onednn.*`: .* Received: 'perhaps'"),
            ("compute.threads=0", "`compute.threads`: .* Received: 0"),
            ("data.validation_count=0", "`data.validation_count`: .* Received: 0"),
            ("data.augmentation={shift: -1}", "`data.augmentation`: .*`shift` must be 0 pixels or more"),
            (
                "data.augmentation={turn: 90}",
                r"`data.augmentation`: .*may have flip, .*colour\. Received: {'turn': 90}",
            ),
            ("data=sample", "`data`: .* Received: 'sample'"),
            ("data.test_split=train", "`data`: .*`test_split` must be another split than that of training"),
        ],
    )
    def test_a_wrong_value_is_named(self, file, override, message):
        with pytest.raises(auxzoo.UserError, match=rf"(?s)The recipe `{file}` is not right:.*{message}"):
            read_recipe(file, [override])

    def test_every_mistake_is_named_at_once(self, file):
        with pytest.raises(auxzoo.UserError) as caught:
            read_recipe(file, ["epochs=0", "sead=1", "data.source=null"])
        assert all(name in str(caught.value) for name in ("`epochs`", "`sead`", "`data.source`"))

    @pytest.mark.parametrize("missing", SMALLEST)
    def test_a_missing_setting_is_named(self, tmp_path, missing):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in SMALLEST.items() if key != missing}))
        with pytest.raises(auxzoo.UserError, match=f"`{missing}`: Field required"):
            read_recipe(path)

    def test_a_missing_file_is_told_what_there_is(self, tmp_path):
        known = ", ".join(path.stem for path in PACKAGED)
        for source in (tmp_path / "nowhere.yaml", "mobilenet_v3"):
            with pytest.raises(auxzoo.UserError, match=f"`recipe` must be a YAML file or one of {known}. Received: "):
                read_recipe(source)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"a: [1,", "cannot be read as YAML"),
            (b"a: b: c", "cannot be read as YAML"),
            (b"\xff\xfe\x00", "cannot be read as YAML"),
            (b"seed: 2020-99-99", "cannot be read as YAML"),
            (b"- epochs\n- 3\n", "must hold settings by name. Received: list"),
            (b"epochs", "must hold settings by name. Received: str"),
            (b"", "must hold settings by name. Received: NoneType"),
        ],
    )
    def test_a_file_that_is_no_recipe_is_named(self, tmp_path, content, message):
        path = tmp_path / "recipe.yaml"
        path.write_bytes(content)
        with pytest.raises(auxzoo.UserError, match=rf"recipe.yaml` {message}"):
            read_recipe(path)

    def test_a_packaged_recipe_is_found_beside_a_folder_of_its_name(self, tmp_path, monkeypatch):
        # `auxzoo pull NAME --to .` makes one.
        (tmp_path / PACKAGED[0].stem).mkdir()
        monkeypatch.chdir(tmp_path)
        assert read_recipe(PACKAGED[0].stem).name == PACKAGED[0].stem

    def test_a_folder_is_no_recipe(self, tmp_path):
        with pytest.raises(auxzoo.UserError, match="cannot be read as YAML"):
            read_recipe(tmp_path)

    def test_a_name_longer_than_a_file_name_may_be(self):
        with pytest.raises(auxzoo.UserError, match="`recipe` must be a YAML file|cannot be read"):
            read_recipe("a" * 300)


def number(lowest, highest=1e6, **limits):
    return st.floats(lowest, highest, allow_nan=False, **limits)


TEXT = st.text(max_size=12)
# What YAML can hold as an argument of a constructor.
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | number(-1e6) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
VALID = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[a-z0-9_]+", fullmatch=True),
        "network": st.fixed_dictionaries(
            {"architecture": st.sampled_from(["MobileNetV2", "ResNet18"])},
            optional={"arguments": st.dictionaries(TEXT, PLAIN, max_size=3)},
        )
        | st.fixed_dictionaries(
            {"entry": TEXT}, optional={"preprocessing_fit": st.sampled_from([None, "resize", "pad"])}
        ),
        "data": st.fixed_dictionaries(
            {"source": TEXT},
            optional={
                "title": st.none() | TEXT,
                "data_dir": st.none() | TEXT,
                "train_split": TEXT,
                "test_split": st.none() | TEXT,
                "validation_count": st.integers(1, 10**6),
                "train_count": st.none() | st.integers(1, 10**6),
                "skip_broken": st.booleans(),
                "augmentation": st.fixed_dictionaries(
                    {}, optional={"flip": st.booleans(), "shift": st.integers(0, 99), "erase": number(0, 1)}
                ),
            },
        ).filter(lambda data: data.get("train_split", "train") != data.get("test_split", "test")),
        "epochs": st.integers(1, 10**6),
    },
    optional={
        "auxiliary": st.fixed_dictionaries({}, optional={"structure": TEXT, "width_multiplier": st.none() | number(1)}),
        "objective": st.fixed_dictionaries(
            {},
            optional={
                "label_smoothing": number(0, 1, exclude_max=True),
                "auxiliary_schedule": st.sampled_from(["constant", "warm_up", "decay_to_zero"]),
                "distillation_weight": number(0),
            },
        ),
        "optimization": st.fixed_dictionaries(
            {},
            optional={
                "optimizer": st.sampled_from(["sgd", "adamw"]),
                "learning_rate": number(0, exclude_min=True),
                "ema_momentum": st.none() | number(0, 1, exclude_min=True, exclude_max=True),
            },
        ),
        "compute": st.fixed_dictionaries(
            {},
            optional={
                "compilation": st.sampled_from(["auto", "xla", "graph"]),
                "onednn": st.sampled_from([None, True, False, "auto"]),
                "threads": st.none() | st.integers(1, 64),
            },
        ),
        "batch_size": st.integers(1, 10**6),
        "seed": st.integers(0, 2**32 - 1),
    },
)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(VALID)
def test_a_saved_recipe_comes_back_equal(tmp_path_factory, value):
    # A resumed run is known by it: a recipe that came back unequal would be refused as another's.
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    recipe = Recipe.parse(value, "The recipe")
    recipe.save(path)
    assert read_recipe(path) == recipe
    # Every setting is spelled out, so that a later default changes nothing.
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(written) == set(Recipe.model_fields)
    assert set(written["optimization"]) == set(training.Optimization.model_fields)


def test_a_recipe_made_in_python_comes_back_equal(tmp_path):
    # Where a shape is a tuple, as every signature and example writes it.
    recipe = Recipe.parse(
        SMALLEST | {"network": {"architecture": "ResNet18", "arguments": {"input_shape": (32, 32, 3)}}}, "The recipe"
    )
    recipe.save(tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml") == recipe


PLACES = {
    "data": {"source": "folder:/home/me/flowers/", "data_dir": "/sets"},
    "network": {"entry": "/home/me/runs/first"},
    "auxiliary": {"structure": "/home/me/found/structure.json"},
}


def test_what_goes_out_names_no_folder_of_this_machine():
    public = Recipe.parse(SMALLEST | PLACES, "The recipe").public()
    assert (public.data.source, public.data.data_dir) == ("folder:flowers", None)
    assert public.network.entry == "first"
    assert public.auxiliary.structure == "structure.json"
    weights = {"architecture": "MobileNetV2", "arguments": {"weights": "/home/me/trunk.h5"}}
    public = Recipe.parse(SMALLEST | {"network": weights}, "The recipe").public()
    assert public.network.arguments == {"weights": "trunk.h5"}
    # What is no path of this machine stays: a study's structures lie relative to it.
    for kept in ({"auxiliary": {"structure": "structures/a.json"}}, {"data": {"source": "tfds:a/b"}}):
        recipe = Recipe.parse(SMALLEST | kept, "The recipe")
        assert recipe.public() == recipe
    assert read_recipe("fine_tune").public() == read_recipe("fine_tune")


def test_where_things_lie_makes_no_other_training():
    first = Recipe.parse(SMALLEST | PLACES, "The recipe").without_places()
    moved = {
        "data": {"source": "folder:elsewhere", "download": True},
        "network": {"entry": "./mobilenet_v2_050_cifar10"},
        "auxiliary": {"structure": "other.json"},
    }
    assert Recipe.parse(SMALLEST | moved, "The recipe").without_places() == first
    for other in (
        {"data": {"source": "tfds:flowers"}},
        {"network": {"entry": "mobilenet_v2_050_cifar10"}},
        {"auxiliary": {"structure": "none"}},
        {"seed": 1},
    ):
        assert Recipe.parse(SMALLEST | moved | other, "The recipe").without_places() != first


def test_a_recipe_is_frozen(file):
    with pytest.raises(ValueError, match="frozen"):
        read_recipe(file).epochs = 2
