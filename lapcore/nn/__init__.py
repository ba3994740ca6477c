"""Thin modules over torch and lapcore's ops, shared by the models."""
