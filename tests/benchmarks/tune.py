"""Score closures on the validation trajectories of a case, to choose options without a look at its test trajectories.

    python tests/benchmarks/tune.py CASE ROW...

    python tests/benchmarks/tune.py cases/kolmogorov-les.toml '{name="leith", every=5, coefficient=0.2}'

A row is written as in compare.closures: a name, a table, or a list of tables (a sum). Printed for each: the spectrum
distance over the window of [training], and the mean correlation time.
"""

import sys
import tomllib
from pathlib import Path

import numpy as np

from subgrid.commands import metrics
from subgrid.commands.prepare import with_step
from subgrid.ingest.trajectories import generate, training_request
from subgrid.solver.case import CompareTable, multiple, read
from subgrid.solver.simulation import BlowUp, Simulation


def main(path: Path, rows: list[str]) -> None:
    """Print one line for each row."""
    case = with_step(read(path))
    assert case.training is not None
    trajectories = generate(case, training_request(case))
    truth = np.moveaxis(np.array(trajectories.state[-case.training.validation :]), 1, 0)
    times = trajectories.times()
    equation, grid = case.build_equation(), case.grid.grid()
    every = multiple(case.training.every, case.step)
    energy = metrics.energy_spectrum(truth, equation, grid)
    for text in rows:
        (row,) = CompareTable.model_validate(tomllib.loads(f"closures = [{text}]")).closures
        simulation = Simulation(
            equation,
            grid,
            case.time.stepper,
            case.step,
            truth[0],
            start=case.training.start,
            closures=[table.couple(path.parent) for table in row.closures if table.name != "none"],
            folder=path.parent,
        )
        states = [truth[0]]
        try:
            for i in range(1, len(times)):
                simulation.run(i * every)
                states.append(simulation.state)
        except BlowUp as error:
            print(f"{text}: {error}")
            continue
        run = np.stack(states)
        distance = metrics.spectrum_distance(metrics.energy_spectrum(run, equation, grid), energy, min(grid.cuts) - 1)
        horizon = metrics.correlation_time(metrics.correlation(run, truth), times, case.compare.correlation_threshold)
        print(f"{text}: spectrum distance {distance:.4f}, correlation time {horizon:.2f}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
