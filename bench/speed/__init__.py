"""How fast networks run: protocol, clocks, interleaved rounds, roofline, runtimes, energy, CPU load, comparisons."""
