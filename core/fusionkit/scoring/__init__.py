"""How good results are: metrics, statistics, detectors."""
