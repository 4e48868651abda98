"""Reports as pages that need nothing else: a style, a plot, and the HTML around them."""
