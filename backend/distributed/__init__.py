"""The group a rank computes in, and the ways its ranks sum and gather."""
