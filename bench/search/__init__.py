"""Search for new variants under a budget: Optuna, multi-objective, over any frozen config dataclass."""

from bench.search.budget import Budget, Cost
from bench.search.front import SearchedTrial, SearchResult, save_front, variant_name
from bench.search.space import Dimension, Space
from bench.search.spaces import SPACES, space_of
from bench.search.study import SearchPlan, run_search

__all__ = [
    "SPACES",
    "Budget",
    "Cost",
    "Dimension",
    "SearchPlan",
    "SearchResult",
    "SearchedTrial",
    "Space",
    "run_search",
    "save_front",
    "space_of",
    "variant_name",
]
