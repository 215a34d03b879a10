"""Learning from what is given: traces (SFT), and pairs of a right and a wrong one (DPO)."""
