"""One image: resolved to a recipe and made by diskimage-builder, or imported."""
