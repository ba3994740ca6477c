"""Every operation in plain PyTorch: the readable definition, and the last fallback on any device."""
