"""Eight kinds of network as their users write them, each reported on by ``gfgd report``."""
