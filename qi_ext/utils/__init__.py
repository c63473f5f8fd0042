"""Files, tensors on disk, display, signals, errors and command lines: what every room uses and none owns."""
