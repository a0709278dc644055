"""Tables, figures and exported models."""
