"""Closures on a device: calls against the steps between them, latent against physical diffusion, training."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import problems
import torch
from measuring import Place, Row, Sizes

from subgrid.closures.latent_diffusion.model import GenerativeTerm
from subgrid.closures.latent_diffusion.options import TrainingOptions
from subgrid.closures.latent_diffusion.training import Training
from subgrid.solver.closure import View
from subgrid.solver.random import Stream

MEMBERS = 16
PUBLISHED_SAMPLES = 280 * 2000 * 16  # of the training of arXiv 2506.20771
# the publication: 50 steps of the sampler in physical space, 10 in latents
SAMPLERS = {"physical, 64 x 64": 50, "latents of an autoencoder, 16 x 16": 10, "Fourier latents, 16 x 16": 10}


def call_rows(place: Place, sizes: Sizes) -> Iterator[Row]:
    """One call for 16 members over the steps until the next call."""
    chosen = list(problems.CLOSURES)
    if sizes.problems is not None:
        chosen = ["smagorinsky", "latent-diffusion, split"][: sizes.problems]
    for name in chosen:
        of, closure, _, every = problems.CLOSURES[name]
        if closure in ("none", *problems.LEAPS):
            continue
        run = problems.closure_run(name, place.backend, MEMBERS)
        if run._calls[0].last is not None:
            continue  # its linear part costs nothing
        coupled, memory = run.closures[0], run.memories[0]
        stream = Stream(0, "closure", 0, run.members)
        view = View(run._ensemble.physical, 0.0, 0, stream, place.backend, carrier=run.carrier)

        def call(coupled: Any = coupled, view: View = view, memory: Any = memory) -> None:
            view._array = None  # with the transform to physical space
            coupled.closure(view, memory)

        called = place.seconds(call, sizes)
        steps = place.seconds(lambda run=run, every=every: run.advance(every), sizes)
        detail = f"{1e6 * called:.0f} over {1e6 * steps:.0f} microseconds of {every} steps, {of}"
        required = 1.0 if closure == "latent-diffusion" and of == "kolmogorov-missing-advection" else None
        yield Row(f"call over steps: {name}", called / steps, "ratio", detail, required, False)


def options(width: int | None, **changes: Any) -> dict[str, TrainingOptions]:
    """The three models of the comparison, with the networks of `studies/latent_diffusion.py`."""
    score = {"network": "fno", "layers": 4}
    latents = {
        "physical, 64 x 64": ({"kind": "physical"}, score | {"width": width or 40, "modes": 12}),
        "latents of an autoencoder, 16 x 16": (
            {"kind": "autoencoder", "factor": 4, "channels": 1, "width": width or 32, "blocks": 2},
            score | {"width": width or 20, "modes": 8},
        ),
        "Fourier latents, 16 x 16": ({"kind": "fourier", "points": 16}, score | {"width": width or 20, "modes": 8}),
    }
    return {
        name: TrainingOptions.model_validate({"latent": latent, "score": network, **changes})
        for name, (latent, network) in latents.items()
    }


def diffusion_rows(place: Place, sizes: Sizes) -> Iterator[Row]:
    """Samples per second, and physical space over latents at equal numbers of members."""
    device, ones = place.backend.device, {"state": [1.0], "term": [1.0], "given": [1.0]}
    for batch in sizes.batches:
        times = {}
        for name, chosen in options(sizes.width, parametrisation="score").items():
            structure = {
                "latent": chosen.latent.structure(),
                "score": chosen.score.model_dump(exclude_none=True),
                "parametrisation": chosen.parametrisation,
                "features": chosen.features,
                "mean": None,
                "distilled": False,
            }
            torch.manual_seed(0)
            model = GenerativeTerm(structure, ones, 2, (1.0, 1.0), (0.0, 0.0)).eval().to(device)
            state = torch.randn(batch, 1, 64, 64, device=device)
            white = torch.randn(batch, *model.latent_shape((64, 64)), device=device)
            count = min(SAMPLERS[name], sizes.evaluations * SAMPLERS[name] // 10)

            def sample(m: Any = model, s: Any = state, w: Any = white, n: int = count) -> None:
                with torch.inference_mode():
                    m.sampled(s, m.conditional_mean(s), w, "euler-maruyama", n, lambda: torch.randn_like(w))

            times[name] = place.seconds(sample, sizes) * SAMPLERS[name] / count
            detail = f"{SAMPLERS[name]} evaluations, batch {batch}"
            yield Row(f"diffusion: {name}", 1e3 * times[name], "milliseconds", detail)
        physical, *latents = times
        for name in latents:
            yield Row(f"physical space over {name}", times[physical] / times[name], "ratio", f"batch {batch}")


def training_rows(place: Place, sizes: Sizes) -> Iterator[Row]:
    """Samples per second of training, and the time that the published number of samples would take."""
    grid, rng = (64, 64), np.random.default_rng(0)
    count = max(4, 2 * max(sizes.training_batches))
    pairs = tuple(rng.standard_normal((count, 1, *grid)).astype(np.float32) for _ in range(2))
    about = {"shape": list(grid), "length": [1.0, 1.0], "origin": [0.0, 0.0]}
    data: Any = SimpleNamespace(train=pairs, validation=tuple(p[:4] for p in pairs), about=about)
    for batch in sizes.training_batches:
        changes = {"batch": batch, "score_steps": 10**6, "autoencoder_steps": 1, "checkpoint_every": 10**6}
        for name, chosen in options(sizes.width, **changes).items():
            with tempfile.TemporaryDirectory() as folder:
                deadline = [float("inf"), 0.0, 0]

                def progress(done: int, total: int, metrics: Any, deadline: Any = deadline) -> None:
                    if done == 5:  # after the autoencoder, and after kernels were chosen
                        place.wait()
                        deadline[0], deadline[1] = time.perf_counter() + sizes.training_seconds, time.perf_counter()
                    deadline[2] = done
                    if done > 5 and time.perf_counter() > deadline[0]:
                        raise TimeoutError

                training = Training(data, chosen, Path(folder), Path(folder), progress, place.backend.device)
                try:
                    training.run()
                except TimeoutError:
                    place.wait()
                rate = batch * (deadline[2] - 5) / (time.perf_counter() - deadline[1])
            hours = PUBLISHED_SAMPLES / rate / 3600
            detail = f"batch {batch}; the published training would take {hours:.2g} hours"
            yield Row(f"training: {name}", rate, "samples/s", detail)
