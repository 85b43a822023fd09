"""Importers of published weights, one module a family."""
