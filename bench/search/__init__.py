"""Search for new variants under a budget: Optuna, multi-objective, over any frozen config dataclass."""
