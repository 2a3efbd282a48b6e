"""Networks as compiled programs that compute chosen filters alone; see `netpaths.runtime.accelerated`."""

from netpaths.runtime.accelerated import Accelerated, accelerate

__all__ = ["Accelerated", "accelerate"]
