"""What must hold: the pandera contracts, and the factory that makes them asset checks."""
