"""chemmara: chemical language models tuned by KL-regularized reinforcement learning that does not collapse."""

__version__ = "0.1.0"
