"""Where weights come from: common origin, descent, and the recipe of a merge."""

from wsl.diagnostics.origin.agreement import Agreement, GroupAgreement, agreement, rank_p
from wsl.diagnostics.origin.combine import colours, log_bonferroni, log_combined, log_fisher
from wsl.diagnostics.origin.fixed_points import CommonOrigin, GroupOrigin, common_origin
from wsl.diagnostics.origin.rencontres import log_law, log_tail

__all__ = [
    "Agreement",
    "CommonOrigin",
    "GroupAgreement",
    "GroupOrigin",
    "agreement",
    "colours",
    "common_origin",
    "log_bonferroni",
    "log_combined",
    "log_fisher",
    "log_law",
    "log_tail",
    "rank_p",
]
