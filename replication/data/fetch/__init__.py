"""What happens once: image sets from their official sources to this machine."""
