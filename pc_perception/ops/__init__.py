# SPDX-License-Identifier: Apache-2.0
"""Operations on points and voxels: one public function for each, with the same result on every backend.

Each has a plain torch reference, mostly a Numba kernel for the CPU beside it, and a Triton one in ``gpu``;
``backend`` says which runs. What becomes of NaN and Inf each function says.
"""
