"""Network decoupling (Li et al., ECCV 2020): controllers choose, for every image, the filters that compute.

`netpaths.decoupling.insertion` puts controllers into a network, `training` trains it, `files` keeps it, `cost` counts
what is left to compute, and `removal` takes filters out that no image of some classes needs. The codes as paths are
`netpaths.methods.CalculationPath`; `netpaths.runtime` computes the chosen filters alone.
"""
