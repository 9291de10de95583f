"""Score closures on the validation trajectories of a case, to choose options without using its test trajectories.

    python studies/tune.py CASE [--members N] ROW...

    python studies/tune.py cases/kolmogorov-les.toml '{name="leith", every=5, coefficient=0.2}'

A row has the form of an entry of compare.closures: a name, a table, or a list of tables (a sum). The output for each
row is the spectrum distance over the time span of [training], the mean correlation time of the mean of N members, and
for several members the spread-skill ratio after 1, 2, 3, 5, 7, 10 and 15 units of time.
"""

import argparse
import tomllib
from pathlib import Path

import numpy as np

from subgrid.commands.comparison import metrics
from subgrid.ingest.prepare import with_step
from subgrid.ingest.requests import training_request
from subgrid.ingest.trajectories import generate
from subgrid.solver.case.base import multiple
from subgrid.solver.case.reading import read
from subgrid.solver.case.tables import CompareTable
from subgrid.solver.simulation import BlowUp, Simulation


def main(path: Path, members: int, rows: list[str]) -> None:
    """Print one line per row."""
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
            np.repeat(truth[0], members, axis=0),
            start=case.training.start,
            closures=[table.couple(path.parent) for table in row.closures if table.name != "none"],
            folder=path.parent,
        )
        states = [simulation.state.copy()]
        try:
            for i in range(1, len(times)):
                simulation.run(i * every)
                states.append(simulation.state.copy())
        except BlowUp as error:
            print(f"{text}: {error}")
            continue
        run = np.stack(states)
        distance = metrics.spectrum_distance(metrics.energy_spectrum(run, equation, grid), energy, min(grid.cuts) - 1)
        ensemble = run.reshape(len(run), truth.shape[1], members, *run.shape[2:])
        follows = metrics.correlation(ensemble.mean(axis=2), truth)
        horizon = metrics.correlation_time(follows, times, case.compare.correlation_threshold)
        spread = ""
        if members > 1:
            ratio = metrics.spread_skill(ensemble, truth)
            near = [int(np.argmin(np.abs(times - times[0] - t))) for t in (1, 2, 3, 5, 7, 10, 15)]
            spread = ", spread/skill " + " ".join(f"{ratio[i]:.2f}" for i in near)
        print(f"{text}: spectrum distance {distance:.4f}, correlation time {horizon:.2f}{spread}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path)
    parser.add_argument("rows", nargs="+", metavar="ROW")
    parser.add_argument("--members", type=int, default=1, help="members per trajectory")
    options = parser.parse_args()
    main(options.case, options.members, options.rows)
