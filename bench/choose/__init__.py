"""Which network to run over so much land, on this machine, under a budget: answered from records and a short race."""
