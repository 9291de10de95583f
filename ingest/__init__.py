"""Reference runs, training sets and sweeps: computed by the solver, cached by the content of the request."""
