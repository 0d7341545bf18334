"""dlcli against its peers, side by side: ``scripts/bench``."""
