"""Proof: what Readback guarantees as code (`proof.guarantees`), and whole clusters lived from a seed (`proof.sim`)."""
