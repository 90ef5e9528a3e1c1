"""Every generator and every initialiser keeps the laws of its family."""

import inspect
from functools import partial

import pytest
from laws.generators import GENERATOR_LAWS, Row
from laws.initializers import INITIALIZER_LAWS
from laws.initializers import Row as Asked
from networks import BY_NAME

from wsl.generative import (
    GENERATORS,
    INITIALIZERS,
    CompositionStart,
    FlowMatching,
    LatentDiffusion,
    PredictedStart,
    ReptileStart,
    WeightDiffusion,
    WeightPCA,
)


def small_diffusion(spec, *, conditions, seed):
    size = {"latent": 4, "hidden": 16, "blocks": 1, "code": WeightPCA}
    return LatentDiffusion(spec, conditions=conditions, seed=seed, **size)


ROWS = {name: Row(kind) for name, kind in GENERATORS.items()}
ROWS["latent_diffusion"] = Row(small_diffusion, {"steps": 3})
ROWS["flow_matching"] = Row(partial(FlowMatching, latent=4, hidden=16, blocks=1), {"steps": 3})
ROWS["weight_diffusion"] = Row(partial(WeightDiffusion, channels=4, blocks=1), {"steps": 3})


@pytest.mark.parametrize("law", GENERATOR_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_keeps_the_law(name, law, tmp_path):
    law(ROWS[name], *[tmp_path] * (len(inspect.signature(law).parameters) - 1))


STARTS = {name: Asked(kind) for name, kind in INITIALIZERS.items()}
STARTS["stage_sharing"] = Asked(INITIALIZERS["stage_sharing"], "blocks")  # has layers with numbers
STARTS["mimetic"] = Asked(INITIALIZERS["mimetic"], "attention")
STARTS["composition"] = Asked(partial(CompositionStart, networks=2, steps=2))
FAMILY = (BY_NAME["residual"].make(),)
STARTS["predicted"] = Asked(partial(PredictedStart, FAMILY, steps=2))
STARTS["reptile"] = Asked(partial(ReptileStart, iterations=2, tasks=2, steps=2))


@pytest.mark.parametrize("law", INITIALIZER_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", INITIALIZERS)
def test_an_initialiser_keeps_the_law(name, law):
    law(STARTS[name])
