"""Tensor operations of the models, each in a folder with its reference, its kernels and the mathematics behind them."""
