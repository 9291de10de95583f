"""Small problems with every equation, stepper and closure, for stand-ins and for devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from subgrid.ingest.requests import describe_initial
from subgrid.solver.backend import Backend
from subgrid.solver.case.reading import check, read
from subgrid.solver.case.shipped import folder
from subgrid.solver.closure import Coupled
from subgrid.solver.closure.discovery import find
from subgrid.solver.equations import Equation
from subgrid.solver.grid import Grid
from subgrid.solver.initial.random_field import GaussianRandomField
from subgrid.solver.simulation import Simulation
from subgrid.solver.time_stepping.schemes import STEPPERS, compatible_schemes, takes_courant_steps

NOISE = {"amplitude": 0.1, "correlation": 0.05, "draws": 3}
FIELD = {"kind": "gaussian-random-field", "exponent": 2.5, "tau": 3.0}
DROP = {"kind": "gaussian-hump", "drops": [{"amplitude": 0.2, "width": 0.8, "centre": [1.5, 2.5]}]}
WAVE = {"kind": "random-surface", "depth": 1.0, "amplitude": 0.1, "exponent": 3.0, "tau": 3.0}
STREAM = {"kind": "two-stream", "amplitude": 0.1, "modes": 2}
BUMP = {"kind": "bumps", "bumps": [{"height": 0.3, "width": 0.5, "centre": [2.0, 3.0]}]}
LINE, PLANE = {"shape": [48], "length": [6.0]}, {"shape": [24, 16], "length": [6.0, 4.0]}
BASIN = {"shape": [12, 16], "length": [4.0, 6.0]}
PHASES = {"shape": [24, 16], "length": [14.0, 12.0], "origin": [-7.0, 0.0]}
CLOUD = {"entities": 6}
FINITE, WENO = {"discretisation": "finite-volume"}, {"reconstruction": "weno5"}
# name: equation, grid, initial state, step
TABLES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], float]] = {
    "advection": ({"name": "advection", "speed": 1.5, "noise": NOISE}, LINE, FIELD, 0.01),
    "advection, muscl": ({"name": "advection", "speed": -1.5, "reconstruction": "muscl", **FINITE}, LINE, FIELD, 0.01),
    "advection, weno5": ({"name": "advection", "speed": 1.5, **FINITE, **WENO}, LINE, FIELD, 0.01),
    "burgers": ({"name": "burgers", "viscosity": 0.05, "noise": NOISE}, LINE, FIELD, 0.01),
    "burgers, muscl": (
        {"name": "burgers", "viscosity": 0.02, "boundary": "dirichlet", "left": 0.0, "right": 0.0, **FINITE},
        {"shape": [48], "length": [1.0]},
        {"kind": "burgers-dirichlet", "reynolds": 50.0},
        0.002,
    ),
    "burgers, weno5": ({"name": "burgers", "viscosity": 0.02, "noise": NOISE, **FINITE, **WENO}, LINE, FIELD, 0.01),
    "burgers-2d": (
        {"name": "burgers-2d", "viscosity": 0.01},
        {"shape": [16, 24], "length": [6.0, 6.0], "origin": [-3.0, -3.0]},
        {"kind": "gaussian-velocity"},
        0.01,
    ),
    "kolmogorov": (
        {
            "name": "kolmogorov",
            "viscosity": 1e-2,
            "drag": 0.1,
            "forcing": {"kind": "sine", "amplitude": 1.0, "wavenumber": 2},
            "noise": NOISE,
        },
        PLANE,
        FIELD,
        0.01,
    ),
    "shallow water": ({"name": "shallow-water", "boundary": "wall", "coriolis": 0.3}, BASIN, DROP, 0.005),
    "shallow water, bumps": (
        {"name": "shallow-water", "bathymetry": BUMP, "coriolis": 0.3, "manning": 0.02, "boundary": "open"},
        BASIN,
        DROP,
        0.005,
    ),
    "shallow water, weno5": ({"name": "shallow-water", "bathymetry": BUMP, **WENO}, BASIN, WAVE, 0.005),
    "vlasov-poisson": ({"name": "vlasov-poisson"}, PHASES, STREAM, 0.02),
    "vlasov-poisson, open": ({"name": "vlasov-poisson", "ends": "open", "positivity": True}, PHASES, STREAM, 0.02),
    "coulomb": ({"name": "charged-particles", "softening": 0.1}, CLOUD, {"kind": "charged-particles"}, 0.01),
    "gravity": (
        {"name": "charged-particles", "force": "gravity", "softening": 0.1, "force_limit": 5.0},
        CLOUD,
        {"kind": "charged-particles"},
        0.01,
    ),
    "springs": (
        {"name": "charged-particles", "force": "springs", "rest_length": 0.3},
        CLOUD,
        {"kind": "charged-particles"},
        0.01,
    ),
    "oscillator": (
        {"name": "oscillator"},
        {"shape": [40], "length": [6.0], "origin": [-3.0]},
        {"kind": "oscillator"},
        0.01,
    ),
    "tracers": (
        {"name": "tracers", "carrier": {"name": "kolmogorov", "viscosity": 1e-2}, "carrier_stepper": "etdrk4"},
        CLOUD | BASIN,
        {"kind": "tracer-clusters", "separation": 0.1, "flow": FIELD},
        0.02,
    ),
}


@dataclass
class Problem:
    """An equation on a grid with its initial state: what a simulation needs beside a stepper."""

    equation: Equation
    grid: Grid
    step: float
    state: np.ndarray
    start: float = 0.0
    seed: int = 3
    initial: dict[str, Any] = field(default_factory=dict)
    carrier: np.ndarray | None = None

    def simulation(
        self,
        stepper: str,
        backend: Backend,
        closures: tuple[Coupled, ...] = (),
        cfl: float | None = None,
        reference: Path | None = None,
    ) -> Simulation:
        return Simulation(
            self.equation,
            self.grid,
            stepper,
            self.step,
            self.state.astype(backend.precision),
            start=self.start,
            seed=self.seed,
            closures=closures,
            cfl=cfl,
            backend=backend,
            initial=self.initial,
            carrier=self.carrier,
            reference=reference,
            folder=folder(),
        )

    def steppers(self) -> list[str]:
        return compatible_schemes(self.equation.kind, self.equation.split)


def problem(name: str, members: int = 2, shape: tuple[int, ...] | None = None) -> Problem:
    """A problem of TABLES, on a grid of another shape if one is given."""
    equation, grid, initial, step = TABLES[name]
    grid = grid if shape is None else grid | {"shape": list(shape)}
    tables = {"title": name, "equation": equation, "grid": grid, "initial": initial, "time": {"end": step * 100}}
    tables["time"] |= {"step": step, "stepper": "rk4"}
    tables["output"] = {"every": step * 100}
    case = check(tables, name, Path())
    built = case.build_equation()
    grid, chosen = case.grid.grid(), tuple(range(members))
    made = case.initial.state(built, grid, chosen, 0)
    flow = None if grid.carrier is None else case.initial.carrier(built, grid, chosen, 0)
    return Problem(built, grid, step, made, carrier=flow)


def runs() -> Iterator[tuple[str, str]]:
    """Every problem with every stepper that fits it."""
    for name in TABLES:
        for stepper in problem(name, 1).steppers():
            yield name, stepper


def adaptive_runs() -> Iterator[tuple[str, str]]:
    """Every problem with a stepper that takes steps by Courant number."""
    for name in TABLES:
        made = problem(name, 1)
        fitting = [s for s in made.steppers() if takes_courant_steps(STEPPERS[s], made.equation.kind)]
        yield from ((name, s) for s in fitting if s in ("ssp-rk2", "ssp-rk3", "dimension-split"))


def of_case(name: str, members: int = 2) -> tuple[Problem, str]:
    """The model of a shipped case, from a random field or from its own initial state, and its stepper."""
    case = read(folder() / f"{name}.toml", [])
    equation, grid = case.build_equation(), case.grid.grid()
    initial = case.initial if case.initial.kind != "reference" else case.reference.initial  # type: ignore[union-attr]
    if initial.kind == "file":
        initial = GaussianRandomField(exponent=2.5, tau=5.0)
    chosen = tuple(range(members))
    state = initial.state(equation, grid, chosen, 1, folder())
    flow = None if grid.carrier is None else initial.carrier(equation, grid, chosen, 1)
    described = describe_initial(case.initial)
    return Problem(equation, grid, case.step, state, case.time.start, 3, described, flow), case.time.stepper


# name: problem of TABLES or a case, closure, its options, every
CLOSURES: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "none": ("kolmogorov", "none", {}, 1),
    "smagorinsky": ("kolmogorov", "smagorinsky", {}, 2),
    "smagorinsky, burgers": ("burgers", "smagorinsky", {}, 2),
    "smagorinsky, shallow water": ("shallow water", "smagorinsky", {}, 2),
    "smagorinsky, bumps": ("shallow water, bumps", "smagorinsky", {}, 2),
    "leith": ("kolmogorov", "leith", {}, 2),
    "hyperviscosity": ("kolmogorov", "hyperviscosity", {}, 2),
    "hyperviscosity, linear": ("kolmogorov", "hyperviscosity", {"linear": True}, 2),
    "dynamic-smagorinsky": ("kolmogorov", "dynamic-smagorinsky", {"ratio": 1.5}, 2),
    "dynamic-smagorinsky, momentum": ("kolmogorov", "dynamic-smagorinsky", {"flux": "momentum"}, 2),
    "backscatter": ("kolmogorov", "backscatter", {}, 2),
    "gradient": ("kolmogorov", "gradient", {}, 2),
    "biharmonic": ("shallow water", "biharmonic", {}, 2),
    "lenard-bernstein": ("vlasov-poisson", "lenard-bernstein", {}, 2),
    "hyperdiffusion": ("vlasov-poisson", "hyperdiffusion", {}, 2),
    "spectral-viscosity": ("kolmogorov-les", "spectral-viscosity", {}, 2),
    "spectral-viscosity, tendency": ("kolmogorov-les", "spectral-viscosity", {"linear": False, "noise": "residual"}, 2),
    "equation-discovery": ("kolmogorov-les", "equation-discovery", {"linear": False}, 2),
    "equation-discovery, noise": ("kolmogorov-missing-advection", "equation-discovery", {"noise": "residual"}, 2),
    "regression": ("kolmogorov-les", "regression", {"noise": "residual"}, 2),
    "regression, shallow water": ("shallow-water-coarse", "regression", {}, 4),
    "regression, vlasov": ("vlasov-coarse", "regression", {}, 2),
    "regression, burgers": ("burgers-forced", "regression", {}, 5),
    "latent-diffusion": ("kolmogorov-les", "latent-diffusion", {"transfer": "shells"}, 2),
    "latent-diffusion, heun": ("kolmogorov-les", "latent-diffusion", {"sampler": "heun", "evaluations": 3}, 2),
    "latent-diffusion, split": ("kolmogorov-missing-advection", "latent-diffusion", {}, 5),
    "latent-diffusion, burgers": ("burgers-forced", "latent-diffusion", {}, 5),
    "lasdi, burgers": ("rom-burgers-1d", "lasdi", {}, 5),
    "lasdi, burgers-2d": ("rom-burgers-2d", "lasdi", {}, 1),
    "lasdi, oscillator": ("rom-oscillator", "lasdi", {}, 20),
    "lasdi, two-stream": ("rom-two-stream", "lasdi", {}, 4),
    "lasdi, residual": (
        "rom-burgers-1d",
        "lasdi",
        {"mode": "alternating", "leap": 10, "solve": 5, "trust": "residual", "tolerance": 0.5},
        5,
    ),
    "ou-displacement": ("tracers-kolmogorov", "ou-displacement", {}, 1),
    "correlated-velocity": ("tracers-kolmogorov", "correlated-velocity", {}, 1),
    "corrected-flow": ("tracers-kolmogorov", "corrected-flow", {"flow": [{"name": "spectral-viscosity"}]}, 1),
    "mi2a": ("mi2a-burgers", "mi2a", {}, 4),
    "mi2a, registered": ("mi2a-convection", "mi2a", {}, 1),
    "lam-slide": ("lam-slide-charged", "lam-slide", {"evaluations": 2}, 100),
}
LEARNED = ("regression", "latent-diffusion", "lasdi", "mi2a", "lam-slide")
LEAPS = ("lasdi", "mi2a", "lam-slide")  # answer with states that replace the run's
ON_HOST = ("ou-displacement", "correlated-velocity", "corrected-flow")  # their answers for entities are computed there
# steps after which a closure has answered; a window of states comes first
STEPS = {"mi2a": 60, "mi2a, registered": 60, "lam-slide": 1200}


def steps(name: str) -> int:
    return STEPS.get(name, 20)


def closure_run(name: str, backend: Backend, members: int = 2, closed: bool = True) -> Simulation:
    """A simulation with a closure of CLOSURES, or without it, before its first step."""
    of, closure, options, every = CLOSURES[name]
    if of in TABLES:
        made, stepper = problem(of, members), "rk4"
        stepper = {"kolmogorov": "etdrk4", "burgers": "etdrk4", "shallow water": "ssp-rk2"}.get(of, stepper)
        stepper = "ssp-rk2" if of.startswith("shallow") else stepper
    else:
        made, stepper = of_case(of, members)
    coupled = Coupled(closure, find(closure)(**options), every=every)
    return made.simulation(stepper, backend, (coupled,) if closed else ())


def difference(one: Simulation, other: Simulation) -> float:
    """The largest difference of two states, relative to the largest value."""
    return float(np.abs(one.state - other.state).max() / np.abs(one.state).max())


Make = Callable[[Backend], Simulation]
