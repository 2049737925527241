"""One method: its configuration, the plug-ins it is built from, the sampler, the stages around it."""
