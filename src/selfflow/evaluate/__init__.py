"""Evaluation: metrics over injected feature functions, and suites that put floor and ceiling beside every figure."""
