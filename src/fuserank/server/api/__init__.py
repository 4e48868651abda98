"""The gRPC services, and what stands around each of their methods."""
