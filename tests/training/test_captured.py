"""Recording steps changes nothing where there is no GPU, and counts nothing twice."""

import torch
from networks import BY_NAME

from wsl.nn import StatNet
from wsl.training.loop.captured import Captured


def test_on_the_processor_the_network_runs_as_it_is():
    network = BY_NAME["mlp"]
    torch.manual_seed(0)
    net = StatNet(network.spec, out_features=2, hidden=4)
    captured, theta = Captured(net, 3), network.weights(3)
    for training in (True, False):
        torch.testing.assert_close(captured.train(training)(theta), net(theta))
    assert captured.replay is None
    assert [id(p) for p in captured.parameters()] == [id(p) for p in net.parameters()]
