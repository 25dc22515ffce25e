"""The embedded world: a small real diffusion model that runs everywhere, on a CPU."""
