"""Training of a latent evolution by Adam over roll-outs whose length grows."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..learning.parallel import share
from ..learning.training import StagedTraining
from .losses import MomentsInBasis, takacs
from .model import Evolution, rollout

if TYPE_CHECKING:
    from .training import Training


def loss(job: Training, evolution: Evolution, moments: MomentsInBasis, step: int, span: int) -> Tensor:
    """The loss of roll-outs of `span` steps from windows that are a function of the seed and the step.

    The part of this process.
    """
    options, window = job.options, job.options.window
    generator = np.random.Generator(np.random.Philox(key=[options.seed, (span << 32) + step]))
    runs = torch.from_numpy(generator.choice(job.used, options.span_batch)).to(job.c.device)
    begins = generator.integers(job.c.shape[1] - window - span + 1, size=options.span_batch)
    places = torch.from_numpy(begins[:, None] + np.arange(window + span)).to(job.c.device)
    row = runs[:, None]
    past = job.z[row, places[:, :window]]
    if options.window_noise:
        past = job.noisy_latents(generator, job.c[row, places[:, :window]], past)
    mine = share(len(runs))
    runs, places, row, past = (mine.of(x) for x in (runs, places, row, past))
    path = rollout(evolution, past, job.scaled[runs], span)
    if job.metric is not None:
        ahead = job.z[row, places[:, window:]]
        return mine.weight * (job.metric * (path - ahead).square()).sum(-1).mean().float()
    return mine.weight * takacs(moments(job.c[row, places[:, window:]], job.compression.decoded(path)), options.psi)


def over_spans(job: Training, module: nn.Module, evolution: Evolution) -> list[dict[str, Any]]:
    """Train the parameters of `module`, a part of `evolution` or all of it, and set it to the weights of the least
    error of the runs held out. Returns the log of the training.

    The loss is that of `losses` over roll-outs from windows of the runs that are not held out; with the metric of the
    latents their mean square error to first order.
    """
    options = job.options
    job.place(job.device)
    module.to(job.device)
    evolution = evolution.to(job.device)
    moments = MomentsInBasis(job.compression.basis, job.largest)
    identity = {"options": options.model_dump(mode="json", exclude={"threads", "features"}), "data": job.digest}

    def validate() -> float:
        with torch.no_grad():
            path = rollout(evolution, job.starts()[job.held_out], job.scaled[job.held_out], job.ahead)
            return job.error(path, job.held_out)

    training = StagedTraining(
        module,
        {f"span {span}": options.span_steps for span in options.spans},
        job.directory / f"evolution-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}",
        identity,
        every=options.checkpoint_every,
        progress=job.progress,
        validate=validate,
    )
    for span in options.spans:
        training.run(
            f"span {span}",
            module.parameters(),
            options.span_learning_rate,
            lambda step, span=span: loss(job, evolution, moments, step, span),  # type: ignore[misc]
        )
    module.load_state_dict(training.best)
    module.cpu()
    job.place("cpu")
    return training.log
