"""Columns, tables and figures of results."""
