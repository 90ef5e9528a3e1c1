"""REPAIR without data: the statistics of units follow from the weights in closed form.

    y = W x + b       m_y = W m_x + b,              v_y = W^2 v_x            (entry by entry)
    y = max(x, 0)     m_y = m F(m/s) + s f(m/s),    v_y = (m^2 + v) F(m/s) + m s f(m/s) - m_y^2
    batch norm        m_y = beta,                   v_y = gamma^2 v / (v + eps)

F and f are the normal distribution and its density, v of batch norm its running variance. The
inputs are taken to be normal with mean 0 and variance 1, and all entries of a value to be
independent and normal, in the merged network and in its members alike. What the batch norm of a
member has measured replaces what would be computed, so the running variance of the merged network
follows from those of its members and from how far their rows agree; for rows w_i, w_j of one unit
with deviations s_i, s_j in proportion to their lengths,

    v = sum_ij lambda_i lambda_j rho_ij s_i s_j,     rho_ij = <w_i, w_j> / (|w_i| |w_j|)

and the mean is that of the members' means. The goals and the corrections are those of `repair`:
Jordan et al. (2023), arXiv 2211.08403. The moments of max(x, 0): Frey and Hinton (1999), doi
10.1162/089976699300016872. Those of the larger of two: Clark (1961), doi 10.1287/opre.9.2.145.

Guarantees: exact for normal inputs up to the first nonlinearity; a network that is its own only
member stays as it is, to rounding; it commutes with permutations. It knows nothing of how units or
neighbouring pixels vary together, so it errs more than `repair_on_noise` after matching by
activations, and more than a repair on a few hundred inputs wherever it was measured. Not done:
residual sums as such (each summand is corrected). Where no rule is known (`uncertain`), such as
attention, mean 0 and variance 1 are taken again, so that the lengths of rows decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from wsl.connectivity.repairs.affine import Sweep
from wsl.connectivity.repairs.lockstep import Lockstep
from wsl.connectivity.repairs.moments import Uncertain
from wsl.connectivity.repairs.program import program_of
from wsl.connectivity.repairs.result import Repaired, result_of, shares_of
from wsl.connectivity.repairs.uncertain import known_after


def repair_closed_form(
    model: nn.Module,
    params: Mapping[str, Tensor],
    members: Sequence[Mapping[str, Tensor]],
    *,
    example: Tensor,
    weights: Sequence[float] | None = None,
) -> Repaired:
    """Give ``params``, merged of aligned ``members``, the statistics its members should have.

    example: inputs on which the network runs; only their shape is used.
    weights: the shares lambda of the members, equal unless given.
    Raises ValueError for members that differ from ``params`` and for a network that cannot be read.
    """
    shares = shares_of(params, members, weights, what="repair_closed_form")
    fresh = {name: tensor.detach().clone() for name, tensor in params.items()}
    run = Lockstep(
        program_of(model, example),
        fresh,
        members=members,
        batches=[Uncertain.standard(example.shape)],
        apply=known_after,
    )
    sweep = Sweep(run, shares, streams=False)
    run.run(sweep.before, sweep.after)
    return result_of(run, params, sweep.sites, what="repair_closed_form")
