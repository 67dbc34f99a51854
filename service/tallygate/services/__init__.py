"""What Tallygate serves beside Check: usage that is reported, charges that are settled, tokens that are asked about."""
