"""Layers of methods that neither torch nor timm has; each is described by the method file of the same name."""
