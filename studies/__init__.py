"""Which question is asked: one short script a question."""
