"""Measuring: workloads, scenarios, systems under test, the physical floor, reports."""
