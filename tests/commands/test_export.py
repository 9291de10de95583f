"""`subgrid export` writes trained networks as ONNX and prints the table of a case that runs them."""

import tomllib

import pytest

from subgrid.commands.cli import execute

pytest.importorskip("onnxscript")
onnx = pytest.importorskip("onnx")


def test_shipped_weights_become_a_file_and_a_table_of_a_case(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert execute(["export", "burgers-forced-regression", "--out", "net.onnx"]) == 0
    printed = capsys.readouterr().out.partition("\n")[2]
    assert printed.strip().startswith("[[closure]]")  # so that it may stand anywhere in a case
    assert tomllib.loads(printed) == {"closure": [{"name": "model", "file": "net.onnx"}]}
    onnx.checker.check_model(onnx.load("net.onnx"), full_check=True)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["kolmogorov-missing-advection-regression"], "network 'quadratic'"),
        (["vlasov-coarse-regression"], "features 'phase-space'"),
        (["rom-oscillator-lasdi"], "closure lasdi"),
        (["absent"], "no weights 'absent'"),
        (["burgers-forced-regression", "--out", "."], "is a folder"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_is_written(arguments, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert execute(["export", *arguments]) == 2
    found = capsys.readouterr().err
    assert named in found and "Remedy" in found
    assert not any(tmp_path.iterdir())
