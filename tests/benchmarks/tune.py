"""Tune a classical closure's coefficient on the validation trajectories of a case, never on its test trajectories.

    python tests/benchmarks/tune.py cases/kolmogorov-les.toml smagorinsky 0.1 0.13 0.17

For every coefficient: the spectrum distance over the sampled window and the mean correlation time. What the case files
carry is the coefficient with the least spectrum distance.
"""

import sys
from pathlib import Path

import numpy as np

from subgrid.commands import metrics
from subgrid.commands.prepare import with_step
from subgrid.ingest.trajectories import generate, training_request
from subgrid.solver.case import ClosureTable, multiple, read
from subgrid.solver.simulation import BlowUp, Simulation


def main(path: Path, name: str, values: list[str]) -> None:
    """Print one line for each coefficient."""
    case = with_step(read(path))
    assert case.training is not None
    trajectories = generate(case, training_request(case))
    truth = np.moveaxis(np.array(trajectories.state[-case.training.validation :]), 1, 0)
    times = trajectories.times()
    equation, grid = case.build_equation(), case.grid.grid()
    every = multiple(case.training.every, case.step)
    energy = metrics.energy_spectrum(truth, equation, grid)
    for value in values:
        table = ClosureTable(name=name, every=5, coefficient=float(value))
        simulation = Simulation(
            equation,
            grid,
            case.time.stepper,
            case.step,
            truth[0],
            start=case.training.start,
            closures=[table.couple(path.parent)],
        )
        states = [truth[0]]
        try:
            for i in range(1, len(times)):
                simulation.run(i * every)
                states.append(simulation.state)
        except BlowUp as error:
            print(f"{name} {value}: {error}")
            continue
        run = np.stack(states)
        distance = metrics.spectrum_distance(metrics.energy_spectrum(run, equation, grid), energy, min(grid.cuts) - 1)
        horizon = metrics.correlation_time(metrics.correlation(run, truth), times, case.compare.correlation_threshold)
        print(f"{name} {value}: spectrum distance {distance:.4f}, correlation time {horizon:.2f}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
