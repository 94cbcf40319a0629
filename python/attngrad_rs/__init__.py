"""Exact gradients of softmax attention, with an error bar that can be trusted."""
