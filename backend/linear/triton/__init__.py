"""Weights in few bits on a GPU, in planes (quant/planes.py), multiplied by Triton's kernels.

kernel.py is the LinearKernel; few_rows.py and many_rows.py multiply, experts.py groups of rows,
decode.py has what their kernels share, repack.py turns a file's blocks into planes.
"""
