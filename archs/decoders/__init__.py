"""Decoders: from the maps of an encoder, finest first, to logits at a stride of their own."""
