"""What the residual stream of any PyTorch model does by depth, and what is wrong with it."""
