"""Trained policies: acting in numpy, their files, the ones that ship, and their export to ONNX."""
