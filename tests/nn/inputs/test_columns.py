"""Columns of metadata beside weights: codes, the laws of functionals that are told them, what they
are refused, training.
"""

import dataclasses
import json

import numpy as np
import pytest
import torch
from functionals import (
    DTYPES,
    MARKET,
    assert_compiles,
    assert_reads_and_is_invariant,
    assert_sees_one_alone,
    assert_trains_and_casts,
    build,
)
from networks import BY_NAME

from wsl import training
from wsl.nn import (
    NFN,
    NFT,
    UNF,
    Columns,
    Conditioned,
    DWSNet,
    EquivariantNet,
    FlatMLP,
    GraphMetanetwork,
    ProbeNet,
    ScaleGMN,
    StatBoost,
    StatNet,
    WeightTokens,
)
from wsl.testing import assert_invariant
from wsl.training.columns import codes
from wsl.zoo import Zoo

TABLE = np.array(
    [("relu", 1.0, True), ("tanh", 3.0, False), ("relu", 5.0, True), ("tanh", 7.0, True)],
    dtype=[("activation", "U8"), ("lr", "f8"), ("biased", "?")],
)
SMALL = {
    NFN: {"hidden": 3, "layers": 2},
    NFT: {"hidden": 4, "layers": 1, "heads": 2},
    UNF: {"hidden": 4, "layers": 1},
    DWSNet: {"hidden": 4, "layers": 1},
    GraphMetanetwork: {"hidden": 4, "layers": 1},
    ScaleGMN: {"hidden": 4, "layers": 1},
    StatNet: {"hidden": 4},
    FlatMLP: {"hidden": 4},
    WeightTokens: {"hidden": 4, "layers": 1, "heads": 2},
}
"""Every functional that reads weights and learns by gradients, and how to make a small one."""
INVARIANT = [cls for cls in SMALL if cls.equivariance == "invariant"]


class Told(torch.nn.Module):
    """A conditioned functional whose members are all told the same ``code``."""

    def __init__(self, net, code):
        super().__init__()
        self.net, self.equivariance = net, net.equivariance
        self.register_buffer("code", code)

    def forward(self, theta):
        return self.net(theta, self.code.expand(len(next(iter(theta.values()))), -1))


def conditioned(cls, spec, columns, outputs=3):
    """With embeddings away from zero, where they start."""
    net = Conditioned(
        cls(spec, out_features=5, **SMALL[cls]), columns, features=5, out_features=outputs
    )
    net.embed.weight.data.normal_()
    return net


def maker(cls, row=0):
    columns = Columns.learn(["activation", "lr"], TABLE)
    return lambda network: Told(conditioned(cls, network.spec, columns), columns(TABLE)[row])


def test_texts_become_one_hot_and_numbers_are_standardised():
    columns = Columns.learn(["activation", "lr", "biased"], TABLE)
    a, b = 5**0.5, 3**0.5
    expected = [
        [1, 0, -3 / a, 1 / b],
        [0, 1, -1 / a, -b],
        [1, 0, 1 / a, 1 / b],
        [0, 1, 3 / a, 1 / b],
    ]
    torch.testing.assert_close(columns(TABLE), torch.tensor(expected))
    assert columns.width == 4


def test_what_is_known_comes_from_the_rows_that_were_learned_alone():
    columns = Columns.learn(["activation", "lr"], TABLE[:2])
    assert columns(TABLE)[:, 2].tolist() == [-1, 1, 3, 5]


def test_a_constant_column_is_only_centred():
    assert Columns.learn(["lr"], TABLE[:1])(TABLE).flatten().tolist() == [0, 2, 4, 6]


def test_columns_survive_json():
    columns = Columns.learn(["activation", "lr", "biased"], TABLE)
    assert Columns.parse(json.loads(json.dumps(columns.describe()))) == columns


def test_values_and_columns_that_are_not_known_are_named():
    columns = Columns.learn(["activation"], TABLE)
    other = TABLE.copy()
    other["activation"][2] = "gelu"
    with pytest.raises(
        ValueError,
        match="column 'activation' holds 'gelu', which no training member has; known are relu, "
        "tanh",
    ):
        columns(other)
    with pytest.raises(
        ValueError,
        match=r"no column 'actvation' \(did you mean 'activation'\?\); there are activation, lr",
    ):
        Columns.learn(["actvation"], TABLE)
    with pytest.raises(ValueError, match="there is no column 'activation'"):
        columns(TABLE[["lr"]])
    with pytest.raises(
        ValueError, match="column 'activation' holds numbers, but it held text in training"
    ):
        columns(np.zeros(2, dtype=[("activation", "f8")]))
    with pytest.raises(ValueError, match="column 'lr' holds text, but it held numbers in training"):
        Columns.learn(["lr"], TABLE)(np.zeros(2, dtype=[("lr", "U3")]))
    other["lr"][0] = np.nan
    with pytest.raises(ValueError, match="column 'lr' holds numbers that are not finite"):
        Columns.learn(["lr"], other)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("network", MARKET, ids=lambda n: n.name)
def test_unf_with_columns_is_invariant_over_the_market(network, dtype):
    assert_reads_and_is_invariant(maker(UNF), network, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cls", INVARIANT)
@pytest.mark.parametrize("name", ["mlp", "cnn", "gru"])
def test_every_invariant_functional_stays_invariant_with_columns(cls, name, dtype):
    assert_reads_and_is_invariant(maker(cls), BY_NAME[name], dtype)


@pytest.mark.parametrize("cls", [cls for cls in INVARIANT if cls is not StatNet])
def test_functionals_with_columns_see_when_one_occurrence_moves_alone(cls):
    assert_sees_one_alone(maker(cls), BY_NAME["mlp"])


@pytest.mark.parametrize("cls", [FlatMLP, WeightTokens])
def test_columns_make_no_network_invariant(cls):
    network, net = BY_NAME["mlp"], build(maker(cls), BY_NAME["mlp"])
    assert net.equivariance == "none"
    with pytest.raises(AssertionError, match="the network is not invariant"):
        assert_invariant(net, network.spec, network.weights(2, dtype=torch.float64))


def test_a_functional_that_runs_networks_takes_columns_too():
    network, columns = BY_NAME["mlp"], Columns.learn(["activation"], TABLE)
    net = Conditioned(
        ProbeNet(network.spec, network.make(), network.input_shape, probes=3, out_features=5),
        columns,
        features=5,
    )
    net.embed.weight.data.normal_()
    theta = network.weights(2, dtype=torch.float64)
    assert_invariant(Told(net.double().eval(), columns(TABLE)[0]), network.spec, theta)


@pytest.mark.parametrize("cls", SMALL)
def test_what_a_column_says_changes_what_is_read(cls):
    network = BY_NAME["mlp"]
    theta = network.weights(2, dtype=torch.float64)
    relu, tanh = (build(maker(cls, row), network)(theta) for row in (0, 1))
    assert (relu - tanh).abs().max() > 1e-3


def test_columns_say_nothing_before_training():
    network, columns = BY_NAME["mlp"], Columns.learn(["activation"], TABLE)
    net = Conditioned(StatNet(network.spec, out_features=5), columns, features=5).eval()
    theta, told = network.weights(2), columns(TABLE)
    assert torch.equal(net(theta, told[:2]), net(theta, told[[1, 0]]))


def test_functionals_with_columns_train_and_compile():
    assert_trains_and_casts(maker(UNF), BY_NAME["mlp"])
    assert_compiles(maker(UNF), BY_NAME["mlp_without_bias"])


def test_codes_that_are_missing_or_do_not_fit_are_refused():
    network, columns = BY_NAME["mlp"], Columns.learn(["activation", "lr"], TABLE)
    theta = network.weights(2)
    told, trees = (
        conditioned(StatNet, network.spec, columns),
        StatBoost(network.spec, columns=columns),
    )
    for read in (
        lambda *more: told(theta, *more),
        lambda *more: trees.fit(theta, torch.zeros(2), *more),
    ):
        with pytest.raises(
            ValueError,
            match=r"reads the columns activation, lr beside weights: give codes \(2, 3\) .* not "
            r"None",
        ):
            read()
        with pytest.raises(ValueError, match=r"not \(3, 3\)"):
            read(columns(TABLE)[:3])


def test_networks_that_give_weights_take_no_columns():
    spec = BY_NAME["mlp"].spec
    with pytest.raises(
        ValueError,
        match="EquivariantNet gives weights, and columns can only be told to functionals that give",
    ):
        Conditioned(EquivariantNet(spec, hidden=4), Columns.learn(["lr"], TABLE))


NETWORK = BY_NAME["mlp"]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A score that rises with a mean weight under one activation and falls under the other: neither
    alone tells it.
    """
    theta = NETWORK.weights(300, seed=1)
    shift = torch.randn(300, generator=torch.Generator().manual_seed(0))
    models = [{name: t[i] + shift[i] for name, t in theta.items()} for i in range(300)]
    relu = torch.arange(300) % 2 == 0
    score = torch.where(relu, shift, -shift).sigmoid()
    metadata = {
        "activation": ["relu" if r else "tanh" for r in relu],
        "lr": torch.rand(300).tolist(),
        "label": relu.long().tolist(),
        "test_accuracy": score.tolist(),
        "final_loss": (1 - score).tolist(),
    }
    return Zoo.from_models(
        tmp_path_factory.mktemp("zoo") / "mlp.h5", models, spec=NETWORK.spec, metadata=metadata
    )


def scored(network, zoo):
    torch.manual_seed(0)
    training.fit(
        network,
        zoo,
        training.ScoreRegression(),
        settings=training.Settings(epochs=12, batch_size=32, lr=1e-2),
    )
    return training.evaluate(network, zoo, training.ScoreRegression())[0]["r2"]


def test_a_functional_learns_what_only_weights_and_column_together_tell(zoo):
    columns = training.learn_columns(["activation"], zoo, training.ScoreRegression())
    torch.manual_seed(0)
    told = Conditioned(StatNet(zoo.spec, out_features=32, hidden=16), columns)
    assert scored(told, zoo) > 0.8 > 0.3 > scored(StatNet(zoo.spec, hidden=16), zoo)


def test_trees_learn_what_only_weights_and_column_together_tell(zoo):
    columns = training.learn_columns(["activation"], zoo, training.ScoreRegression())
    assert scored(StatBoost(zoo.spec, iterations=60, columns=columns), zoo) > 0.6
    assert scored(StatBoost(zoo.spec, iterations=60), zoo) < 0.3


def test_networks_that_read_no_columns_get_no_codes(zoo):
    assert codes(StatNet(zoo.spec), zoo, zoo.indices("val")) == ()


def test_mixed_checkpoints_are_told_mixed_codes():
    told = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    batch = training.augmentation.Batch({}, torch.tensor([0.25, 1.0]), torch.tensor([1, 0]))
    assert batch.mix(told).tolist() == [[0.25, 0.75], [0.0, 1.0]]
    assert torch.equal(training.augmentation.Batch({}).mix(told), told)


def test_training_with_mixup_and_columns_runs_and_repeats(zoo):
    columns = training.learn_columns(["activation", "lr"], zoo, training.ScoreRegression())

    def history():
        torch.manual_seed(0)
        return training.fit(
            conditioned(StatNet, zoo.spec, columns, outputs=1),
            zoo,
            training.ScoreRegression(),
            settings=training.Settings(epochs=2),
            variety=training.Variety(mixup="direct"),
        ).history

    assert history() == history()


@pytest.mark.parametrize("compile", [None, True])
def test_compiled_training_is_given_the_codes_too(zoo, monkeypatch, compile):
    """The compiler itself is not tried here."""
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    columns, objective = Columns.learn(["activation"], zoo.table), training.ScoreRegression()

    def history(compile):
        torch.manual_seed(0)
        settings = training.Settings(epochs=1, compile=compile)
        return training.fit(
            conditioned(StatNet, zoo.spec, columns, outputs=1), zoo, objective, settings=settings
        ).history

    assert history(compile) == history(False)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test_accuracy", "is what the objective predicts"),
        ("final_loss", "is measured on the checkpoint, as the target is"),
        ("member", "says which member it is"),
        ("activaton", r"there is no column 'activaton' \(did you mean 'activation'\?\)"),
    ],
)
def test_columns_that_give_the_target_away_or_do_not_exist_are_refused(zoo, name, reason):
    with pytest.raises(ValueError, match=reason):
        training.learn_columns(["activation", name], zoo, training.ScoreRegression())


class Trajectories:
    """Two members at three epochs: a column of each kind."""

    table = np.array(
        [(m, e, "train", ("adam", "sgd")[m], 0.1 * e) for m in (0, 1) for e in (1, 2, 3)],
        dtype=[
            ("member", "i4"),
            ("epoch", "i4"),
            ("split", "U5"),
            ("optimizer", "U4"),
            ("sharpness", "f8"),
        ],
    )

    def indices(self, _):
        return np.arange(6)


def test_what_changes_while_a_member_trains_is_a_measurement_but_for_the_epoch():
    columns = training.learn_columns(
        ["optimizer", "epoch"], Trajectories(), training.ScoreRegression()
    )
    assert columns.width == 3
    with pytest.raises(
        ValueError,
        match="columns: 'sharpness' changes while a member trains, so it is measured on the "
        "checkpoint",
    ):
        training.learn_columns(["sharpness"], Trajectories(), training.ScoreRegression())


def test_texts_of_other_members_only_are_found_before_training(zoo):
    class Other:
        table = zoo.table.copy()
        indices = zoo.indices

    Other.table["activation"][zoo.indices("test")[0]] = "gelu"
    with pytest.raises(ValueError, match="'gelu', which no training member has"):
        training.learn_columns(["activation"], Other(), training.ScoreRegression())


def test_an_interrupted_run_does_not_go_on_with_other_columns(zoo, tmp_path):
    objective, settings = training.ScoreRegression(), training.Settings(epochs=1)
    columns = Columns.learn(["lr"], zoo.table)
    training.fit(
        conditioned(StatNet, zoo.spec, columns, outputs=1),
        zoo,
        objective,
        settings=settings,
        folder=tmp_path,
    )
    other = Columns((dataclasses.replace(columns.columns[0], name="label"),))
    with pytest.raises(ValueError, match="belongs to another run"):
        training.fit(
            conditioned(StatNet, zoo.spec, other, outputs=1),
            zoo,
            objective,
            settings=settings,
            folder=tmp_path,
        )
