"""Figures of results, each as a PNG and an SVG that come out the same bytes from the same frame.

Every function draws on a figure of its own: no pyplot, no global state, no reader's matplotlibrc. Import the
module of the figure you want; matplotlib comes in with it.
"""
