"""From trained models to a bundle: trace, fuse, quantize, factorise, verify, precompute."""
