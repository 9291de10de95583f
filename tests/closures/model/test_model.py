"""The closure `model` runs networks from ONNX files, and refuses by name files that do not fit the case."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from subgrid.closures.learning import weights_file
from subgrid.closures.learning.learned_term import LearnedTerm
from subgrid.closures.learning.noise import SPECTRUM
from subgrid.closures.model import Model
from subgrid.closures.regression.closure import Regression
from subgrid.closures.regression.export import export
from subgrid.solver.closure import ClosureError, Coupled, Problem, View
from subgrid.solver.equations import Burgers, Kolmogorov
from subgrid.solver.grid import Grid
from subgrid.solver.random import Stream
from subgrid.solver.simulation import Simulation

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

LENGTH = (6.25, 6.25)
FLOW, SQUARE = Kolmogorov(viscosity=0.02), Grid((16, 16), LENGTH)
LINE, POINTS = Burgers(viscosity=0.05), Grid((24,), (2 * np.pi,))


def problem_of(equation=FLOW, grid=SQUARE, members=(0, 1, 2), **changes):
    fixed = {"equation": equation, "grid": grid, "step": 0.01, "every": 1, "start": 0.0, "members": members, "seed": 0}
    return Problem(**fixed | changes)


def write(path, matrix, size=(16, 16), member="member", pad=0, external=False):
    """A network that multiplies the channels by a matrix (out, in), by a convolution that cuts off `pad` points."""
    matrix, size = np.asarray(matrix, np.float32), list(size)
    kernel = np.zeros((*matrix.shape, *[1 + 2 * pad] * len(size)), np.float32)
    kernel[(..., *[pad] * len(size))] = matrix
    larger = [n + 2 * pad for n in size]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["u", "w"], ["h"])],
        "linear",
        [helper.make_tensor_value_info("u", TensorProto.FLOAT, [member, matrix.shape[1], *larger])],
        [helper.make_tensor_value_info("h", TensorProto.FLOAT, [member, matrix.shape[0], *size])],
        [numpy_helper.from_array(kernel, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save_model(model, path, save_as_external_data=external, size_threshold=0, location=f"{path.name}.data")
    return path


def states(problem, seed=0):
    shape = (len(problem.members), len(problem.equation.fields), *problem.grid.shape)
    return np.random.default_rng(seed).normal(size=shape)


def called(closure, problem, *given):
    """The last answer of calls with these states."""
    memory, answer = closure.start(problem), None
    for n, state in enumerate(given):
        stream = Stream(0, "closure", n, problem.members)
        answer, memory = closure(View(lambda state=state: state, 0.0, n, stream), memory)
    return answer


def trained(path, features="state", grid=SQUARE, equation=FLOW, **options):
    """Weights of a small CNN with random parameters."""
    torch.manual_seed(1)
    axes, count = grid.dimensions, {"vorticity-velocity": 3}.get(features, 1)
    normalisation = {"state": [1.5], "term": [0.3]}
    if features != "state":
        normalisation["features"] = [1.0, 0.6, 0.7][:count]
    options = {"width": 6, "layers": 3, "kernel": 3} | options
    term = LearnedTerm("cnn", options, features, axes, grid.length, normalisation, grid.origin)
    header = {key: {} for key in weights_file.REQUIRED} | {
        "closure": "regression",
        "version": "0",
        "step": 0.01,
        "equation": json.loads(json.dumps({"name": equation.name} | equation.model_dump(mode="json"))),
        "fields": [f.name for f in equation.fields],
        "shape": list(grid.shape),
        "length": list(grid.length),
        "normalisation": normalisation,
        "network": {"kind": "cnn", "options": options, "features": features},
    }
    tensors = {k: v.numpy() for k, v in term.state_dict().items()}
    weights_file.save(path, tensors | {SPECTRUM: np.zeros((1, 12))}, header)
    return path


def test_inputs_and_outputs_are_scaled_and_fields_without_output_get_zero(tmp_path):
    """channel = (value - offset) / scale, of an anomaly, a derivative and a velocity; term = offset + scale channel."""
    file = write(tmp_path / "net.onnx", [[1.0, 2.0, 3.0, 4.0]])
    problem = problem_of(folder=tmp_path)
    inputs = [
        {"field": "vorticity", "scale": 2.0, "offset": 0.5},
        {"field": "vorticity", "derived": "anomaly"},
        {"field": "vorticity", "derived": "derivative", "axis": "x"},
        {"field": "vorticity", "derived": "velocity-y"},
    ]
    outputs = [{"field": "vorticity", "scale": 3.0, "offset": 0.25}]
    y, x = np.meshgrid(*SQUARE.coordinates(), indexing="ij")
    k = 2 * np.pi / LENGTH[0]
    w = (1.0 + np.sin(k * x) + np.cos(2 * k * y))[None, None].repeat(3, 0)
    wave, slope = np.sin(k * x) + np.cos(2 * k * y), k * np.cos(k * x)
    expected = (w[0, 0] - 0.5) / 2 + 2 * wave + 3 * slope + 4 * (-np.cos(k * x) / k)
    answer = called(Model(file=file, inputs=inputs, outputs=outputs), problem, w)
    np.testing.assert_allclose(answer.field[1, 0], 0.25 + 3 * expected, atol=1e-4)


def test_a_flux_gives_minus_its_divergence_and_a_correction_is_added(tmp_path):
    """F = u along x: -du/dx, spectral on points, and conservative between walls; C = u / 2: the state 3 u / 2."""
    file = write(tmp_path / "net.onnx", [[1.0]], (24,))
    (x,) = POINTS.coordinates()
    u = np.sin(2 * x)[None, None]
    problem = problem_of(LINE, POINTS, (0,), folder=tmp_path)
    flux = Model(file=file, outputs=[{"field": "velocity", "axis": "x"}], returns="flux")
    np.testing.assert_allclose(called(flux, problem, u).field[0, 0], -2 * np.cos(2 * x), atol=1e-5)
    walls = LINE.model_copy(update={"discretisation": "finite-volume", "boundary": "dirichlet"})
    between = called(flux, problem_of(walls, POINTS, (0,), folder=tmp_path), 1 + u).field
    assert abs(between.sum()) < 1e-4 < np.abs(between).max()
    half = called(Model(file=file, outputs=[{"field": "velocity", "scale": 0.5}], returns="correction"), problem, u)
    np.testing.assert_allclose(half.state, 1.5 * u, atol=1e-6)


def test_past_states_are_those_of_earlier_calls_and_too_few_give_no_answer(tmp_path):
    file = write(tmp_path / "net.onnx", [[1.0, 10.0]])
    problem = problem_of(folder=tmp_path)
    closure = Model(file=file, inputs=[{"field": "vorticity"}, {"field": "vorticity", "back": 2}])
    given = [states(problem, seed) for seed in range(4)]
    assert called(closure, problem, *given[:2]) is None
    np.testing.assert_allclose(called(closure, problem, *given).field, given[3] + 10 * given[1], atol=1e-5)


@pytest.mark.parametrize("member", ["member", 1, 3])
def test_padding_is_periodic_and_batches_do_not_matter(tmp_path, member):
    file = write(tmp_path / "net.onnx", [[2.0]], pad=2, member=member)
    problem = problem_of(folder=tmp_path)
    u = states(problem)
    answer = called(Model(file=file, padding=2, batch=2), problem, u)
    np.testing.assert_allclose(answer.field, 2 * u, atol=1e-5)
    larger = write(tmp_path / "larger.onnx", [[2.0]], (20, 20), member=member)  # its output has the padding, too
    np.testing.assert_allclose(called(Model(file=larger, padding=2), problem, u).field, 2 * u, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "options", "named"),
    [
        ({"matrix": [[1.0, 1.0]]}, {}, r"input 'u' of net.onnx has 2 channels, the case declares 1: vorticity\."),
        ({"matrix": [[1.0], [1.0]]}, {}, r"output 'h' of net.onnx has 2 channels, the case declares 1"),
        ({"matrix": [[1.0]], "size": (16,)}, {}, r"input 'u' of net.onnx has 3 axes, expected 4"),
        ({"matrix": [[1.0]], "size": (16, 20)}, {}, r"has \[16, 20\] points per axis .*expected \[16, 16\]"),
        ({"matrix": [[1.0]]}, {"padding": 1}, r"expected \[18, 18\]"),
        ({"matrix": [[1.0]], "member": 2}, {}, r"evaluates 2 members at a time, the case has 3"),
        ({"matrix": [[1.0]]}, {"inputs": [{"field": "height"}]}, r"inputs.0.field: kolmogorov has no field 'height'"),
        ({"matrix": [[1.0]]}, {"returns": "flux"}, r"outputs.0.axis: missing"),
        ({"matrix": [[1.0]]}, {"outputs": [{"field": "vorticity", "axis": "x"}]}, r"only derivatives and fluxes"),
        ({"matrix": [[1.0]]}, {"outputs": [{"field": "vorticity"}] * 2}, r"outputs: vorticity is named twice"),
        ({"matrix": [[1.0]]}, {"grid": {"shape": [16, 16], "length": [1.0, 1.0]}}, r"grid.length = \[1.0, 1.0\]"),
        ({"matrix": [[1.0]], "external": True}, {}, r"external_data=False"),
    ],
)
def test_what_does_not_fit_the_case_is_refused_by_name(tmp_path, network, options, named, monkeypatch):
    monkeypatch.chdir(tmp_path)  # ONNX Runtime looks for weights in other files there
    file = write(tmp_path / "net.onnx", **network)
    with pytest.raises(ClosureError, match=f"^model: .*{named}"):
        Model(file=file, **options).start(problem_of(folder=tmp_path))


def test_derivatives_and_velocities_need_a_grid_that_has_them(tmp_path):
    file = write(tmp_path / "net.onnx", [[1.0]], (24,))
    closure = Model(file=file, inputs=[{"field": "velocity", "derived": "velocity-x"}])
    with pytest.raises(ClosureError, match=r"inputs.0.derived: velocity-x is made for the vorticity.*Remedy"):
        closure.start(problem_of(LINE, POINTS, folder=tmp_path))


def test_torch_programs_and_damaged_files_are_refused_and_not_loaded(tmp_path):
    """torch.export.load evaluates expressions in the file, and TorchScript may write files."""
    program = torch.export.export(torch.nn.Conv1d(1, 1, 1), (torch.zeros(1, 1, 8),))
    torch.export.save(program, tmp_path / "net.pt2")
    torch.save({"w": torch.zeros(1)}, tmp_path / "net.pt")
    write(tmp_path / "whole.onnx", [[1.0]])
    (tmp_path / "damaged.onnx").write_bytes((tmp_path / "whole.onnx").read_bytes()[:-40])
    for name, named in (
        ("net.pt2", "net.pt2 is a program.*Remedy.*torch.onnx.export"),
        ("net.pt", "net.pt is a program or a pickle.*Remedy"),
        ("damaged.onnx", "damaged.onnx is not a network that ONNX Runtime reads.*Remedy"),
        ("absent.onnx", "absent.onnx: no such file. Remedy"),
    ):
        with pytest.raises(ClosureError, match=named):
            Model(file=tmp_path / name).start(problem_of(folder=tmp_path))


def test_without_onnx_runtime_the_extra_is_named(tmp_path, monkeypatch):
    file = write(tmp_path / "net.onnx", [[1.0]])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ClosureError, match=r"Remedy: pip install 'subgrid\[onnx\]'"):
        Model(file=file).start(problem_of(folder=tmp_path))


def test_the_listing_imports_neither_onnx_runtime_nor_torch():
    code = "import sys\nfrom subgrid.commands.listing import table\nassert 'ONNX' in table()['closures']['model']\n"
    code += "print(sorted({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("features", "options"),
    [("state", {}), ("anomaly", {}), ("vorticity-velocity", {"cut": 5}), ("state", {"cut": 3, "points": 10})],
)
def test_an_exported_network_gives_the_run_of_the_closure_to_single_precision(tmp_path, features, options):
    weights = trained(tmp_path / "w.safetensors", features, **options)
    table = export(weights, tmp_path / "net.onnx")["closure"]
    assert (table.pop("name"), table.pop("file")) == ("model", "net.onnx")
    assert str(tmp_path).encode() not in (tmp_path / "net.onnx").read_bytes()
    start = np.random.default_rng(3).normal(size=(3, 1, 16, 16))
    ends = []
    for closure in (Regression(weights=str(weights)), Model(file=tmp_path / "net.onnx", **table), None):
        closures = [] if closure is None else [Coupled("c", closure, every=2)]
        simulation = Simulation(FLOW, SQUARE, "etdrk4", 0.02, start, closures=closures, folder=tmp_path)
        simulation.run(30)
        ends.append(simulation.state)
    scale = np.abs(ends[0]).max()
    assert np.abs(ends[1] - ends[0]).max() < 3e-6 * scale < 1e-2 * np.abs(ends[2] - ends[0]).max()


def test_an_exported_network_is_refused_for_another_problem(tmp_path):
    export(trained(tmp_path / "w.safetensors"), tmp_path / "net.onnx")
    problem = problem_of(Kolmogorov(viscosity=0.02, omit=("advection",)), folder=tmp_path)
    with pytest.raises(ClosureError, match=r"net.onnx is for a model that omits \[\].*Remedy"):
        Model(file="net.onnx").start(problem)


def test_networks_that_onnx_has_no_operators_for_are_refused_by_name(tmp_path):
    weights = trained(tmp_path / "w.safetensors")
    tensors, header = weights_file.load(weights)
    for change, named in (
        ({"network": header["network"] | {"kind": "quadratic"}}, "network 'quadratic'"),
        ({"network": header["network"] | {"features": "phase-space"}}, "features 'phase-space'"),
        ({"closure": "lasdi"}, "closure lasdi"),
    ):
        weights_file.save(weights, tensors, header | change)
        with pytest.raises(ValueError, match=f"w.safetensors .*{named}.*Remedy"):
            export(weights, tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


def test_a_restart_continues_with_equal_bytes_for_any_number_of_threads(tmp_path, monkeypatch):
    export(trained(tmp_path / "w.safetensors"), tmp_path / "net.onnx")
    file = write(tmp_path / "past.onnx", [[-0.5, 0.3]])
    back = [{"field": "vorticity"}, {"field": "vorticity", "back": 2}]
    used = []

    def make(threads):
        monkeypatch.setenv("SUBGRID_THREADS", str(threads))
        used[:] = Model(file=tmp_path / "net.onnx"), Model(file=file, inputs=back)
        closures = [Coupled("net", used[0]), Coupled("past", used[1], every=3)]
        start = np.random.default_rng(4).normal(size=(3, 1, 16, 16))
        return Simulation(FLOW, SQUARE, "etdrk4", 0.01, start, closures=closures, folder=tmp_path)

    whole, first, second = make(1), make(1), make(2)
    whole.run(14)
    first.run(8)
    second.restore(first.checkpoint())
    assert [c._network._session.get_session_options().intra_op_num_threads for c in used] == [1, 1]
    second.run(14)
    assert whole.state.tobytes() == second.state.tobytes()
