"""Which question is asked: one short script a question.

Each module holds a constant `STUDY`; `lale-bench study NAME` looks it up here, or in a file of the user's own.
"""
