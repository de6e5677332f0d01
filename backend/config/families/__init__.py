"""Families of models that can be served: one module each, found by the names that files use."""
