"""The mathematics of KL-regularized reinforcement learning and MARA: pure functions on (B,) or (V,) tensors.

One implementation serves the studies, the molecules and the language models. Nothing here imports torch when imported.
"""
