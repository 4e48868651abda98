"""Clients of the server: synchronous, asynchronous, and for operators."""
