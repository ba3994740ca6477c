"""The operations over the CUDA kernels of `lapcore._C`, on the current stream of the tensor's device."""
