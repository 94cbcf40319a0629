"""Inputs, checked: options, arrays and files; and how much memory there is for them."""
