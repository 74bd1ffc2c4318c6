"""From predictions to the tables of the field. Knows nothing of training."""
