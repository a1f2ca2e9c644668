"""What touches the hardware: rounding, products in fewer bits, fused passes. Nothing here decides anything."""
