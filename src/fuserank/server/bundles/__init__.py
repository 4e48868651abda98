"""Several bundles in one server: loaded, compared, promoted and taken back."""
