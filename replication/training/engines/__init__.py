"""Many runs trained at once, each equal to the plain loop."""
