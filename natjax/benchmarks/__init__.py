"""Benchmarks that know the truth: accuracies that others trained for."""
