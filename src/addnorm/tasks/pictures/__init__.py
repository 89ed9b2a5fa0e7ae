"""Images: classified, drawn by diffusion or pixel by pixel, and scored."""
