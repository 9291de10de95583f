"""Reports of comparisons: tables, figures, verdict and the HTML page."""
