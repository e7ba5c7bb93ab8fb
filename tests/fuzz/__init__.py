"""Damaged and hostile inputs, drawn from seeds: each is accepted, quarantined, or refused in one line."""
