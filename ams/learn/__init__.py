"""Everything that needs torch: the student as a trainable module, its optimiser, a training phase."""
