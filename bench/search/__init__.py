"""Search for new variants under a budget: Optuna, multi-objective, over any frozen config dataclass."""

from bench.search.budget import Budget, StaticCost
from bench.search.front import SearchedTrial, SearchResult, save_front, variant_name
from bench.search.space import Dimension, Space
from bench.search.spaces import space_of
from bench.search.study import SearchPlan, run_search

__all__ = [
    "Budget",
    "Dimension",
    "SearchPlan",
    "SearchResult",
    "SearchedTrial",
    "Space",
    "StaticCost",
    "run_search",
    "save_front",
    "space_of",
    "variant_name",
]
