"""The one minibatch loop takes the steps of a plain one, in the precision that is asked for."""

import pytest
import torch

from wsl.generative.codes import WeightAutoencoder
from wsl.generative.models import VectorDiffusion
from wsl.learned_optimizers import HandWritten, MetaSettings, Problem, meta_train
from wsl.populations import SGD
from wsl.training import Descent, Hardware, Saved

X = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
CPU, HALF = Hardware("cpu"), Hardware("cpu", precision="bf16-mixed")


def network():
    torch.manual_seed(0)
    return torch.nn.Linear(6, 6)


def error(net, step):
    return (net(X[step % 20]) - X[step % 20]).square().mean()


def test_its_steps_are_those_of_a_loop_written_out():
    one, two = network(), network()
    seen, after = [], []
    optimizer = torch.optim.AdamW(one.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)
    descent = Descent(CPU.start(), one, optimizer, clip=0.3, schedule=schedule)
    losses, norms = descent.run(
        lambda step: error(descent.network, step),
        range(8),
        after=after.append,
        progress=lambda step, loss: seen.append((step, loss)),
    )
    optimizer, expected = torch.optim.AdamW(two.parameters(), 0.1), []
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)
    for step in range(8):
        loss = error(two, step)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(two.parameters(), 0.3)
        optimizer.step()
        schedule.step()
        expected.append((float(loss.detach()), float(norm)))
    assert list(zip(losses.tolist(), norms.tolist(), strict=True)) == expected
    assert seen == [(step + 1, loss) for step, (loss, _) in enumerate(expected)]
    assert after == list(range(8))
    assert max(norms) > 0.3
    assert all(map(torch.equal, one.parameters(), two.parameters()))


def test_the_rate_is_set_before_each_step():
    net = network()
    before = net.weight.detach().clone()
    descent = Descent(CPU.start(), net, torch.optim.SGD(net.parameters(), 1.0))

    def still(step):
        descent.optimizer.param_groups[0]["lr"] = 0.0 if step < 3 else 0.1

    descent.run(lambda step: error(net, step), range(3), rate=still)
    assert torch.equal(net.weight, before)
    descent.run(lambda step: error(net, step), range(3, 4), rate=still)
    assert not torch.equal(net.weight, before)


def code(hardware):
    torch.manual_seed(0)
    return WeightAutoencoder(6, 3, hidden=8).fit(X, steps=5, hardware=hardware)


def diffusion(hardware):
    torch.manual_seed(0)
    model = VectorDiffusion(6, conditions=1, hidden=16, blocks=1)
    return model.fit(X, X[:, :1], steps=5, hardware=hardware)


def learned(hardware):
    rule = HandWritten(SGD(momentum=0.9), lr=0.05)
    problem = Problem(network, X, torch.arange(20) % 6, batch_size=4)
    settings = MetaSettings(iterations=3, pairs=2, window=2, horizon=4)
    meta_train(rule, problem, settings=settings, hardware=hardware)
    return rule


@pytest.mark.parametrize("train", [code, diffusion, learned])
def test_hardware_is_where_the_module_lies_unless_another_is_asked_for(train):
    found = {how: dict(train(how).state_dict()) for how in (None, CPU, HALF)}
    assert {t.dtype for t in found[HALF].values()} == {t.dtype for t in found[None].values()}
    assert all(torch.equal(tensor, found[CPU][name]) for name, tensor in found[None].items())
    assert any(not torch.equal(tensor, found[HALF][name]) for name, tensor in found[None].items())
    for name, tensor in found[None].items():
        torch.testing.assert_close(found[HALF][name], tensor, rtol=0.1, atol=0.1)


def test_a_saved_state_is_read_back_and_that_of_another_run_refused(tmp_path):
    path = tmp_path / "made" / "state.pt"
    saved = Saved(path, "mine", "settings or zoo")
    assert saved.read() is None
    saved.write({"epoch": 3, "theta": X})
    assert [p.name for p in path.parent.iterdir()] == ["state.pt"]
    state = saved.read()
    assert state["epoch"] == 3
    assert torch.equal(state["theta"], X)
    with pytest.raises(ValueError, match=r"another run \(other settings or zoo\); choose another"):
        Saved(path, "yours", "settings or zoo").read()
    nowhere = Saved(None, "mine", "settings")
    nowhere.write({"epoch": 3})
    assert nowhere.read() is None
