"""Reference runs and training sets: made by the solver, cached by the content of the request."""
