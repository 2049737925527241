"""The prior `deepinv`. Importing this module must stay cheap: the class is imported when it is chosen."""

import fusionkit


@fusionkit.hookimpl
def fusionkit_priors():
    """What this package offers."""
    yield fusionkit.PriorRecord(
        name="deepinv",
        summary="plug and play: sources weighted by contrast, a denoiser of deepinv as the image prior",
        target="fusionkit_prior_deepinv.implementation:DeepInv",
    )
