"""What is compared: arms, networks by name, learning rates, recipes for initial weights, designs. No torch."""
