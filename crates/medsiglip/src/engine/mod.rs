//! CPU inference: kernels, buffers, the two towers. A readable reference stands beside each kernel and tests it.
