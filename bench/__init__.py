"""How it is measured: instruments, data, training, records, figures, command line."""
