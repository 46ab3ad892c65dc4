"""What training costs, beside what people use."""
