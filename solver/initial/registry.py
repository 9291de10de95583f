"""Registry of initial states: those of the package, entry points of `subgrid.initial`, and "file.py:Class"."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, GetJsonSchemaHandler, SerializeAsAny
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from ..equations.initial_state import InitialState
from ..equations.plugins import Registry, from_table

_MODULES = {
    "initial.random_field": {"gaussian-random-field": "GaussianRandomField"},
    "initial.profiles": {
        "sine": "Sine",
        "gaussian": "GaussianPulse",
        "pulses": "Pulses",
        "waves": "Waves",
        "riemann": "Riemann",
        "burgers-dirichlet": "BurgersDirichlet",
    },
    "initial.expression": {"expression": "Formula"},
    "initial.file": {"file": "File", "reference": "Reference"},
    "initial.run": {"run": "Run"},
    "initial.clusters": {"tracer-clusters": "TracerClusters"},
    "equations.burgers.initial": {"gaussian-velocity": "GaussianVelocity"},
    "equations.kolmogorov.initial": {"taylor-green": "TaylorGreen"},
    "equations.oscillator": {"oscillator": "OscillatorFormula"},
    "equations.particles.initial": {"charged-particles": "RandomParticles", "two-body": "TwoBody"},
    "equations.shallow_water.initial": {
        "random-surface": "RandomSurface",
        "lake-at-rest": "LakeAtRest",
        "dam-break": "DamBreak",
        "radial-dam-break": "RadialDamBreak",
        "gaussian-hump": "GaussianHump",
        "thacker": "Thacker",
    },
    "equations.vlasov_poisson.initial": {
        "landau": "Landau",
        "two-stream": "TwoStream",
        "two-stream-hypar": "TwoStreamHypar",
        "bump-on-tail": "BumpOnTail",
    },
}

INITIAL_STATES: Registry[type[InitialState]] = Registry(
    "subgrid.initial",
    "initial state",
    InitialState,
    {kind: f"subgrid.solver.{module}:{name}" for module, names in _MODULES.items() for kind, name in names.items()},
)
InitialState.plugins = INITIAL_STATES


class _AnyKind:
    """JSON schema of a table whose `kind` is any initial state that can be imported."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        choices = [handler(model.__pydantic_core_schema__) for _, model in INITIAL_STATES.available()]
        return {"oneOf": choices}


Initial = Annotated[SerializeAsAny[InitialState], BeforeValidator(from_table(INITIAL_STATES)), _AnyKind]


def with_options(initial: InitialState, options: dict[str, Any]) -> InitialState:
    """The same kind of initial state, with some options replaced. Raises a ValidationError."""
    return type(initial).model_validate({k: getattr(initial, k) for k in type(initial).model_fields} | options)
