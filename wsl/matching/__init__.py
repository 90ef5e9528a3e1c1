"""Find the group element that aligns two networks."""

from wsl.matching.distance import aligned_distance, nearest
from wsl.matching.many import match_many
from wsl.matching.problem import match
from wsl.matching.result import Match, Matcher
from wsl.matching.solvers import WeightMatching

__all__ = [
    "Match",
    "Matcher",
    "WeightMatching",
    "aligned_distance",
    "match",
    "match_many",
    "nearest",
]
