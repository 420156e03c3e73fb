"""Peak memory of activations, against lifetimes counted by hand and by brute force."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auxzoo.export import plan_memory, read_model_file
from auxzoo.export.formats import DEFAULT_FORMATS
from auxzoo.export.model_file import ModelFile, Operator, Tensor


def tensor(size, **more):
    """Returns a tensor of so many bytes."""
    return Tensor("", (size,), "int8", **more)


def file_of(tensors, operators, inputs, outputs):
    made = tuple(one if isinstance(one, Operator) else Operator("OP", 1, *one) for one in operators)
    return ModelFile("tflite", 3, {}, made, tuple(tensors), tuple(inputs), tuple(outputs))


class TestByHand:
    def test_a_chain_holds_two_at_a_time(self):
        tensors = [tensor(size) for size in (10, 100, 40, 5)]
        plan = plan_memory(file_of(tensors, [((0,), (1,)), ((1,), (2,)), ((2,), (3,))], [0], [3]))
        assert (plan.peak_bytes, plan.operator, plan.tensors) == (140, 1, (1, 2))

    def test_a_skip_keeps_its_tensor_alive(self):
        tensors = [tensor(size) for size in (10, 100, 40, 60)]
        operators = [((0,), (1,)), ((1,), (2,)), ((2, 0), (3,))]  # the input is read once more, in the end
        assert plan_memory(file_of(tensors, operators, [0], [3])).peak_bytes == 150

    def test_outputs_live_to_the_end(self):
        tensors = [tensor(size) for size in (1, 70, 20, 30)]
        operators = [((0,), (1,)), ((0,), (2,)), ((2,), (3,))]
        assert plan_memory(file_of(tensors, operators, [0], [1, 3])).peak_bytes == 70 + 20 + 30
        assert plan_memory(file_of(tensors, operators, [0], [3])).peak_bytes == 71

    def test_constants_are_not_counted(self):
        tensors = [tensor(10), tensor(1000, is_constant=True), tensor(5)]
        assert plan_memory(file_of(tensors, [((0, 1, -1), (2,))], [0], [2])).peak_bytes == 15

    def test_weights_that_are_unpacked_are_told_apart(self):
        tensors = [tensor(10), tensor(50, is_constant=True), Tensor("", (50,), "float32"), tensor(5)]
        operators = [Operator("DEQUANTIZE", 1, (1,), (2,)), Operator("CONV_2D", 1, (0, 2), (3,))]
        plan = plan_memory(file_of(tensors, operators, [0], [3]))
        assert (plan.peak_bytes, plan.unpacked_bytes) == (15, 200)

    def test_open_and_unknown_sizes(self):
        tensors = [Tensor("", (None, 8), "float32"), Tensor("", None, "float32"), tensor(4)]
        plan = plan_memory(file_of(tensors, [((0,), (1,)), ((1,), (2,))], [0], [2]))
        assert (plan.peak_bytes, plan.has_open_sizes, plan.unknown) == (32, True, 1)

    def test_every_graph_has_its_own(self):
        tensors = [tensor(10), tensor(20), tensor(100, graph=1), tensor(7, graph=1)]
        operators = [Operator("WHILE", 1, (0,), (1,)), Operator("OP", 1, (2,), (3,), graph=1)]
        assert plan_memory(file_of(tensors, operators, [0], [1])).peak_bytes == 30 + 107

    def test_what_nothing_in_a_branch_reads_is_its_output(self):
        tensors = [tensor(1), tensor(1), *(tensor(size, graph=1) for size in (10, 100, 40, 5))]
        inner = [((2,), (3,)), ((2,), (4,)), ((4,), (5,))]  # 3 is made first, and stays
        operators = [Operator("IF", 1, (0,), (1,)), *(Operator("OP", 1, *one, graph=1) for one in inner)]
        assert plan_memory(file_of(tensors, operators, [0], [1])).peak_bytes == 2 + 150

    def test_no_operator_at_all(self):
        plan = plan_memory(file_of([tensor(10)], [], [0], [0]))
        assert (plan.peak_bytes, plan.operator, plan.tensors) == (10, None, (0,))


def brute_force(file):
    """Returns the peak by asking of every tensor at every step whether it is alive."""
    sizes = [0 if one.is_constant else one.bytes() for one in file.tensors]
    totals = []
    for step in range(len(file.operators)):
        before, after = file.operators[: step + 1], file.operators[step:]
        made = {*file.inputs, *(place for operator in before for place in operator.outputs)}
        needed = {*file.outputs, *(place for operator in after for place in operator.inputs)}
        alive = made & (needed | set(file.operators[step].outputs) | (set(file.inputs) if step == 0 else set()))
        totals.append(sum(sizes[place] for place in alive))
    return max(totals)


@st.composite
def draw_file(draw):
    """Draws a graph in which every operator reads tensors that are there, and makes one."""
    count = draw(st.integers(1, 12))
    sizes = draw(st.lists(st.integers(0, 1000), min_size=count + 2, max_size=count + 2))
    constants = draw(st.sets(st.just(1), max_size=1))
    operators = []
    for place in range(2, count + 2):
        reads = draw(st.lists(st.integers(0, place - 1), min_size=1, max_size=3))
        operators.append((tuple(reads), (place,)))
    outputs = draw(st.lists(st.integers(2, count + 1), min_size=1, max_size=3, unique=True))
    tensors = [tensor(size, is_constant=place in constants) for place, size in enumerate(sizes)]
    return file_of(tensors, operators, [place for place in (0, 1) if place not in constants], outputs)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(draw_file())
def test_any_graph_has_the_peak_of_brute_force(file):
    plan = plan_memory(file)
    assert plan.peak_bytes == brute_force(file)
    assert sum(file.tensors[place].bytes() for place in plan.tensors) == plan.peak_bytes


@pytest.mark.parametrize("form", DEFAULT_FORMATS)
def test_of_our_own_files(tiny, form):
    """4x6x3 numbers in, three of the mean, three out; int8 takes a quarter of the memory."""
    plan = plan_memory(read_model_file(tiny.files[form]))
    assert plan.unknown == 0
    assert not plan.has_open_sizes
    image = 4 * 6 * 3
    assert plan.peak_bytes == {"tflite_int8": image + 3, "tflite_int8_float_io": image * 5}.get(form, plan.peak_bytes)
    assert image + 3 <= plan.peak_bytes <= 2 * 4 * image
