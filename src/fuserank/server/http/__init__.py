"""The HTTP port: metrics, probes and the playground."""
