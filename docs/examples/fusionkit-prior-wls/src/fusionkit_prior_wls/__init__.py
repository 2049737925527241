"""The prior `wls`. Importing this module must stay cheap: the class is imported when it is chosen."""

import fusionkit


@fusionkit.hookimpl
def fusionkit_priors():
    """What this package offers."""
    yield fusionkit.PriorRecord(
        name="wls",
        summary="weighted least squares: edge-preserving bases by saliency, details without the noise of one source",
        target="fusionkit_prior_wls.implementation:WLS",
    )
