"""SSD300-ResNet34, the network that the kit deploys (PyTorch): what users import.

Example:
  from ssd_r34 import load_checkpoint
  ploc, plabel = load_checkpoint(Path("iter_183250.pt"))(image)
"""

from ssd.network import NUM_LABELS, SSDR34, deploy, load_checkpoint

__all__ = ["NUM_LABELS", "SSDR34", "deploy", "load_checkpoint"]
